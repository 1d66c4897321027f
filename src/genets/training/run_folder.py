"""The folder of a run: its settings, a lock, checkpoints, log and results.

What a training leaves in `results/`: a folder that every command takes as a network.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from genets.core.errors import TrainingError
from genets.core.files import FileLock, write_atomic
from genets.data import ImageData
from genets.networks import save_weights
from genets.networks.weights import STRUCTURE_FILE, WEIGHTS_FILE
from genets.structure import Structure
from genets.training.run_settings import RunSettings, differences
from genets.training.score import Score

SETTINGS, IMAGES, LOG, LOCK = "settings.json", "images.json", "log.jsonl", "run.lock"
CHECKPOINTS, RESULTS, TENSORBOARD = "checkpoints", "results", "tensorboard"
BROKEN = "broken.jsonl"


def is_run(folder: Path) -> bool:
    """Whether a run was begun in `folder`."""
    return (folder / SETTINGS).is_file()


def load_settings(folder: Path) -> RunSettings:
    """What a run was begun with. Raises TrainingError."""
    if not is_run(folder):
        raise TrainingError(f"{folder} is no training run: it holds no {SETTINGS}")
    try:
        return RunSettings.from_json(json.loads((folder / SETTINGS).read_bytes()))
    except (ValueError, TypeError, AttributeError) as error:  # GenetsError is a ValueError
        raise TrainingError(
            f"{folder / SETTINGS} is damaged or of another version: {error}"
        ) from error


def has_checkpoints(folder: Path) -> bool:
    return any((folder / CHECKPOINTS).glob("epoch-*.safetensors"))


@contextmanager
def open_run(folder: Path, settings: RunSettings) -> Iterator[None]:
    """Begin a run or go on with it; no other process may use it meanwhile.

    Settings are bound to the first checkpoint: until then others replace them.
    Raises TrainingError: other settings, another use of the folder, in use.
    """
    if folder.exists() and not is_run(folder):
        _check_empty(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with _lock(folder):
        if has_checkpoints(folder):
            changed = differences(load_settings(folder), settings)
            if changed:
                raise TrainingError(
                    f"{folder} is a run of other settings ({'; '.join(changed)}); give the same "
                    f"settings to go on with it, or another folder"
                )
        else:
            write_atomic(folder / SETTINGS, _json(settings.to_json()))
        yield


def check_images(folder: Path, data: ImageData) -> None:
    """Keep what the images are, or compare. Raises TrainingError if they are others."""
    seen = {
        "classes": list(data.class_names),
        "training images": len(data.train),
        "validation images": len(data.validation),
        "fingerprint": data.fingerprint,
    }
    path = folder / IMAGES
    if not has_checkpoints(folder):
        write_atomic(path, _json(seen))
        return
    try:
        before = json.loads(path.read_bytes())
        changed = [name for name in seen if before[name] != seen[name]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{path} is missing or damaged ({error})") from error
    if changed:
        raise TrainingError(
            f"the images of {data.name} are not those that {folder} was begun with: other "
            f"{', '.join(changed)}; give the same images, or another folder"
        )


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


def _check_empty(folder: Path) -> None:
    if not folder.is_dir():
        raise TrainingError(f"{folder} is a file; a run needs a folder")
    others = [name for name in sorted(os.listdir(folder)) if name != LOCK and name[0] != "."]
    if others:
        raise TrainingError(
            f"{folder} is neither empty nor a run (it holds {others[0]} but no {SETTINGS}); "
            f"take another folder"
        )


def _lock(folder: Path) -> FileLock:
    try:
        return FileLock(folder / LOCK)
    except BlockingIOError as error:
        raise TrainingError(
            f"run {folder} is {error.strerror}; wait until it ends, or stop it"
        ) from error


RESULT_FILE = "result.json"


@dataclass(frozen=True)
class RunResult:
    """A trained network, in `results`.

    epoch: after which the validation score was best; these are the weights.
    validation, test: their scores. epochs: of the whole run. notes: what was said on the way.
    """

    results: Path
    network: str
    data: str
    epoch: int
    epochs: int
    validation: Score
    test: Score
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "results": str(self.results)}


def hand_over(
    result: RunResult,
    net: nn.Module,
    structure: Structure | None,
    data: ImageData,
    settings: RunSettings,
) -> None:
    """Write weights, the structure of a network that has one, and, last, `result.json`.

    Raises GenetsError or OSError.
    """
    folder = result.results
    folder.mkdir(exist_ok=True)
    facts = {
        "network": settings.network if structure is None else str(structure),
        "resolution": str(data.resolution),
        "num_classes": str(data.num_classes),
        "class_names": json.dumps(data.class_names),
        "mean": json.dumps(data.mean),
        "std": json.dumps(data.std),
        "training": json.dumps(settings.to_json()),
    }
    if structure is not None:
        write_atomic(folder / STRUCTURE_FILE, structure.to_toml())
    save_weights(net, folder / WEIGHTS_FILE, facts)
    record = {**result.to_json(), "settings": settings.to_json()}
    record["input"] = data.input_contract(data.resolution)
    write_atomic(folder / RESULT_FILE, json.dumps(record, indent=2, allow_nan=False) + "\n")
