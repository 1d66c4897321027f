"""The folder of a training run, and the results folder in it, which every command takes.

.genets            says that genets made the folder (`genets.core.output_folder`)
settings.json      the settings; they may change until the first checkpoint is written, and
                   the share of broken images also later
short_trainings.json  the short trainings that decided fields of the recipe
images.json        the number of images, their classes and their fingerprint
broken.jsonl       images that cannot be read
log.jsonl          one record for each epoch
checkpoints/       the newest two and the best
results/           weights, structure.toml, result.json
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from genets.core.errors import TrainingError
from genets.core.files import normal_name, write_atomic
from genets.core.json_files import write_json
from genets.core.resumable import FolderKind, ResumableFolder
from genets.core.validation import to_plain
from genets.data import ImageData
from genets.networks import save_weights
from genets.networks.weights import STRUCTURE_FILE, WEIGHTS_FILE
from genets.structure import Structure
from genets.training.checkpoints import CHECKPOINT_FILES
from genets.training.run.settings import RunSettings
from genets.training.score import Score
from genets.training.variants import Variant, read_variants

VARIANTS = "short_trainings.json"
IMAGES, BROKEN, LOG = "images.json", "broken.jsonl", "log.jsonl"
CHECKPOINTS, RESULTS, TENSORBOARD = "checkpoints", "results", "tensorboard"
RESULT_FILE = "result.json"
RUN = FolderKind(
    noun="run",
    settings_file="settings.json",
    lock_file="run.lock",
    raises=TrainingError,
    kept="every checkpoint is kept",
    may_precede=(".*",),
)


def is_run(path: Path) -> bool:
    """Whether a training run has been begun in the folder."""
    return ResumableFolder(path, RUN).is_begun


def load_settings(path: Path) -> RunSettings:
    """The settings that the run in the folder was begun with. Raises TrainingError."""
    return ResumableFolder(path, RUN).read_settings(
        lambda text: RunSettings.from_json(json.loads(text))
    )


def has_checkpoints(path: Path) -> bool:
    return any((path / CHECKPOINTS).glob(CHECKPOINT_FILES))


def open_run(path: Path, settings: RunSettings) -> ResumableFolder:
    """Begin a run, or lock the folder of one to continue it.

    Raises:
        TrainingError: The run has checkpoints and other settings, the folder holds something
            else, or another process uses it.
    """
    folder = ResumableFolder(path, RUN).create_or_resume()
    try:
        stored = load_settings(path) if has_checkpoints(path) else None
        if stored is not None:
            folder.check_same(stored.comparable(), settings.comparable())
            settings = replace(stored, max_broken_share=settings.max_broken_share)
        if settings != stored:
            folder.write_settings(json.dumps(settings.to_json(), indent=2) + "\n")
    except BaseException:
        folder.close()
        raise
    return folder


def store_variants(path: Path, tried: Sequence[Variant], conditions: Mapping[str, Any]) -> None:
    """Store the short trainings of a run.

    Args:
        path: The folder of the run.
        tried: The short trainings.
        conditions: The values that their scores depend on; values for JSON.

    Raises:
        TrainingError: The file cannot be written.
    """
    record = {"conditions": conditions, "variants": [to_plain(each) for each in tried]}
    ResumableFolder(path, RUN).save_json(VARIANTS, record)


def load_variants(path: Path) -> list[Variant]:
    """The short trainings of a run. Raises TrainingError."""
    cure = "begin the run in another folder"
    stored = ResumableFolder(path, RUN).load_json(VARIANTS, _read_variants, cure=cure)
    if stored is None:
        raise TrainingError(f"{path / VARIANTS} is missing; {cure}")
    return stored[0]


def find_variants(path: Path, conditions: Mapping[str, Any]) -> list[Variant] | None:
    """The short trainings of a run that were stored with the same conditions, or None.

    Raises TrainingError.
    """
    stored = ResumableFolder(path, RUN).load_json(VARIANTS, _read_variants)
    same = stored is not None and stored[1] == json.loads(json.dumps(conditions))
    return stored[0] if stored is not None and same else None


def _read_variants(record: Any) -> tuple[list[Variant], dict[str, Any]]:
    """The short trainings and their conditions; an older genets stored no conditions."""
    if isinstance(record, list):
        return read_variants(record), {}
    return read_variants(record["variants"]), record["conditions"]


def image_facts(data: ImageData) -> dict[str, Any]:
    """The facts by which a run recognises its images, for JSON."""
    return {
        "classes": list(data.class_names),
        "training images": len(data.train),
        "validation images": len(data.validation),
        "fingerprint": data.fingerprint,
    }


def check_images(path: Path, data: ImageData) -> None:
    """Store a description of the images, or compare it with the stored one.

    Raises:
        TrainingError: The run has checkpoints, and its images were others.
    """
    facts = image_facts(data)
    folder = ResumableFolder(path, RUN)
    if not has_checkpoints(path):
        folder.save_json(IMAGES, facts)
        return
    cure = "begin the run in another folder"
    changed = folder.load_json(IMAGES, lambda stored: _changes(stored, facts), cure=cure)
    if changed is None:
        raise TrainingError(f"{path / IMAGES} is missing; {cure}")
    if changed:
        raise TrainingError(
            f"the images of {data.name} have changed since the run in {path} was begun: "
            f"other {', '.join(changed)}; give the same images, or another folder"
        )


def _changes(stored: dict[str, Any], facts: dict[str, Any]) -> list[str]:
    """The names of the facts about the images that differ."""
    # An older genets stored the names as the file system gave them.
    stored = stored | {"classes": [normal_name(name) for name in stored["classes"]]}
    return [name for name in facts if stored[name] != facts[name]]


@dataclass(frozen=True)
class RunResult:
    """A trained network in a results folder.

    Attributes:
        results: The results folder.
        network: The network, as the settings name it.
        data: The name of the data set.
        epoch: The epoch with the best validation score (see `RunSettings.metric`), whose weights
            these are.
        epochs: The epochs of the whole run.
        validation: The score of these weights on the validation split.
        test: Their score on the test split.
        notes: The messages of the run.
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
        return to_plain(self)


def write_results(
    result: RunResult,
    net: nn.Module,
    structure: Structure | None,
    data: ImageData,
    settings: RunSettings,
) -> None:
    """Write the weights, the structure of a network that has one, and last `result.json`.

    Raises GenetsError or OSError.
    """
    folder = result.results
    folder.mkdir(exist_ok=True)
    metadata = {
        "network": settings.network if structure is None else str(structure),
        **data.weights_metadata(),
        "training": json.dumps(settings.to_json()),
    }
    if structure is not None:
        write_atomic(folder / STRUCTURE_FILE, structure.to_toml())
    save_weights(net, folder / WEIGHTS_FILE, metadata)
    # The path is relative to the folder of the run, which may be moved.
    record = {**result.to_json(), "results": folder.name, "settings": settings.to_json()}
    record["input"] = data.input_contract(data.resolution)
    write_json(folder / RESULT_FILE, record)
