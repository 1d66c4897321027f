"""What a training leaves in `results/`: a folder that every command takes as a network."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from genets.core.files import write_atomic
from genets.data import ImageData
from genets.networks import save_weights
from genets.networks.weights import STRUCTURE_FILE, WEIGHTS_FILE
from genets.structure import Structure
from genets.structure.toml_file import format_toml
from genets.training.loop import Score
from genets.training.run_settings import RunSettings

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
        write_atomic(folder / STRUCTURE_FILE, format_toml(structure))
    save_weights(net, folder / WEIGHTS_FILE, facts)
    record = {**result.to_json(), "settings": settings.to_json()}
    record["input"] = {
        "shape": ["N", 3, data.resolution, data.resolution],
        "dtype": "float32",
        "mean": list(data.mean),
        "std": list(data.std),
        "class_names": list(data.class_names),
    }
    write_atomic(folder / RESULT_FILE, json.dumps(record, indent=2, allow_nan=False) + "\n")
