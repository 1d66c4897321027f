"""Checkpoints: files that prove themselves whole, so that a run goes on from the last good one.

Where a run stands: what a checkpoint keeps beside its tensors.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from genets.core.errors import TrainingError
from genets.core.files import write_atomic
from genets.training.epoch_log import EpochRecord

NEWEST = 2


@dataclass(frozen=True)
class Checkpoint:
    """tensors: weights, moving average and optimizer; state: all else, as JSON has it."""

    path: Path
    tensors: dict[str, Tensor]
    state: dict[str, Any]


class Checkpoints:
    """The checkpoints of a run: the last, the one before it, and the best.

    `epoch-0003-step-000120.<digest>.safetensors` stands after three whole epochs and 120 steps
    of the fourth; the digest is that of the file. `state` of each holds at least `epoch`, `step`
    and `best`, the number of whole epochs after which the network was best, or None.
    """

    def __init__(self, folder: Path, on_note: Callable[[str], None] = lambda note: None) -> None:
        self.folder = folder
        self.on_note = on_note
        folder.mkdir(parents=True, exist_ok=True)
        for left_over in folder.glob(".*.tmp"):  # of a process that was killed while it wrote
            left_over.unlink(missing_ok=True)

    def paths(self) -> list[Path]:
        """All there are, ascending."""
        return sorted(self.folder.glob("epoch-*.safetensors"), key=_place)

    def last_path(self) -> Path | None:
        return next(reversed(self.paths()), None)

    def save(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> Path:
        """Write a checkpoint, and remove those that are no longer needed. Raises OSError."""
        on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        content = save(on_cpu, {"state": json.dumps(state, allow_nan=False)})
        stem = _stem(state["epoch"], state["step"])
        path = self.folder / f"{stem}.{_digest(content)}.safetensors"
        write_atomic(path, content)
        self._prune(path)
        return path

    def last(self) -> Checkpoint | None:
        """The newest one that is whole; None where there is none at all.

        Each damaged one is told, and left in place. Raises TrainingError if all are damaged.
        """
        paths = self.paths()
        for path in reversed(paths):
            checkpoint = self._read(path)
            if checkpoint is not None:
                return checkpoint
        if paths:
            raise TrainingError(
                f"no checkpoint in {self.folder} is whole; remove that folder to begin again"
            )
        return None

    def best(self, epochs: int) -> Checkpoint | None:
        """The one after so many whole epochs, or None if it is gone or damaged, which is told."""
        for path in self.paths():
            if path.name.startswith(f"{_stem(epochs, 0)}."):
                return self._read(path)
        self.on_note(f"the checkpoint of epoch {epochs}, the best, is gone from {self.folder}")
        return None

    def _read(self, path: Path) -> Checkpoint | None:
        try:
            if _digest(path.read_bytes()) != path.name.split(".")[1]:
                self.on_note(f"checkpoint {path} is damaged and is passed over")
                return None
            with safe_open(path, framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                return Checkpoint(path, tensors, json.loads(file.metadata()["state"]))
        except (OSError, SafetensorError) as error:
            self.on_note(f"checkpoint {path} cannot be read ({error}) and is passed over")
            return None

    def _prune(self, newest: Path) -> None:
        """Keep the newest two, and the best of each; of equal ones that just written."""
        stems = [*dict.fromkeys(_stem_of(path) for path in self.paths())][-NEWEST:]
        bests = {best for path in self.paths() if _stem_of(path) in stems
                 for best in [_best_of(path)] if best}  # fmt: skip
        kept = {*stems, *(_stem(epochs, 0) for epochs in bests)}
        for path in self.paths():
            twice = _stem_of(path) == _stem_of(newest) and path != newest
            if twice or _stem_of(path) not in kept:
                path.unlink()


def _best_of(path: Path) -> int | None:
    """What a checkpoint calls the best; None also if it is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            best: int | None = json.loads(file.metadata()["state"])["best"]
            return best
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return None


def _stem(epoch: int, step: int) -> str:
    return f"epoch-{epoch:04d}-step-{step:06d}"


def _place(path: Path) -> tuple[list[int], str]:
    """Ascending with epoch and step: by their names 10000 would come before 9999."""
    numbers = [int(part) for part in _stem_of(path).split("-") if part.isdecimal()]
    return numbers, path.name


def _stem_of(path: Path) -> str:
    return path.name.partition(".")[0]


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


@dataclass
class Position:
    """Where a run stands: `epoch` whole epochs, and `step` steps of the next.

    losses, seconds: of these steps. records: of the whole epochs. best: the number of whole
    epochs after which the validation score was best; None before the first.
    """

    epoch: int = 0
    step: int = 0
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0
    records: list[EpochRecord] = field(default_factory=list)
    best: int | None = None

    def to_json(self) -> dict[str, Any]:
        records = [record.to_json() for record in self.records]
        return {**vars(self), "records": records}

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> Position:
        return cls(**{**state, "records": [EpochRecord(**one) for one in state["records"]]})
