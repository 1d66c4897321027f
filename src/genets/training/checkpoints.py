"""Checkpoints, from which an interrupted training continues.

The name of a checkpoint has the digest of its content, so a damaged file is recognised.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from genets.core.errors import TrainingError
from genets.core.files import TEMPORARY_FILES, write_atomic
from genets.core.json_files import READ_ERRORS

NEWEST = 2
CHECKPOINT_FILES = "epoch-*.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint.

    Attributes:
        path: The file.
        tensors: The weights, their moving average, and the state of the optimizer.
        state: Everything else, as plain values.
    """

    path: Path
    tensors: dict[str, Tensor]
    state: dict[str, Any]


class Checkpoints:
    """The checkpoints of a training: the newest ones and the best.

    `epoch-0003-step-000120.<digest>.safetensors` was written after three complete epochs and 120
    steps of the fourth; the digest is that of the file. The `state` of a checkpoint has at least
    `epoch`, `step` and `best`: the number of complete epochs after which the score was best, or
    None.

    Args:
        folder: The folder of the checkpoints, which is created where it does not exist.
        on_note: Called with a message about each damaged checkpoint.
        facts: Texts to store beside the tensors; see `ImageData.weights_metadata`.
        newest: The number of newest checkpoints to keep.
    """

    def __init__(
        self,
        folder: Path,
        on_note: Callable[[str], None] = lambda note: None,
        facts: Mapping[str, str] | None = None,
        newest: int = NEWEST,
    ) -> None:
        self.folder = folder
        self._newest = newest
        self.on_note = on_note
        self.facts = dict(facts or {})
        folder.mkdir(parents=True, exist_ok=True)
        for temporary in folder.glob(TEMPORARY_FILES):
            temporary.unlink(missing_ok=True)

    def paths(self) -> list[Path]:
        """The files, in the order of epochs and steps."""
        return find_checkpoints(self.folder)

    def last_path(self) -> Path | None:
        return next(reversed(self.paths()), None)

    def save(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> Path:
        """Write a checkpoint, and remove those that are not needed any more. Raises OSError."""
        on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        content = save(on_cpu, self.facts | {"state": json.dumps(state, allow_nan=False)})
        stem = _stem(state["epoch"], state["step"])
        path = self.folder / f"{stem}.{_digest(content)}.safetensors"
        write_atomic(path, content)
        self._prune(path)
        return path

    def last(self) -> Checkpoint | None:
        """The newest undamaged checkpoint; None where the folder has no checkpoint.

        Damaged files stay where they are. Raises TrainingError if all files are damaged.
        """
        paths = self.paths()
        for path in reversed(paths):
            checkpoint = self._read(path)
            if checkpoint is not None:
                return checkpoint
        if paths:
            raise TrainingError(
                f"all checkpoints in {self.folder} are damaged; remove that folder to begin again"
            )
        return None

    def best(self, epochs: int) -> Checkpoint | None:
        """The checkpoint after `epochs` complete epochs; None if it is missing or damaged."""
        for path in self.paths():
            if path.name.startswith(f"{_stem(epochs, 0)}."):
                return self._read(path)
        self.on_note(f"the best checkpoint, of epoch {epochs}, is missing in {self.folder}")
        return None

    def _read(self, path: Path) -> Checkpoint | None:
        try:
            if _digest(path.read_bytes()) != path.name.split(".")[1]:
                self.on_note(f"checkpoint {path} is damaged and is not used")
                return None
            with safe_open(path, framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                return Checkpoint(path, tensors, json.loads(file.metadata()["state"]))
        except (OSError, SafetensorError, *READ_ERRORS) as error:
            self.on_note(f"checkpoint {path} cannot be read ({error}) and is not used")
            return None

    def _prune(self, newest: Path) -> None:
        """Keep the newest places and the best epoch of each, and one file for each place."""
        stems = [*dict.fromkeys(_read_stem(path) for path in self.paths())][-self._newest :]
        bests = {best for path in self.paths() if _read_stem(path) in stems
                 for best in [_read_best(path)] if best is not None}  # fmt: skip
        kept = {*stems, *(_stem(epochs, 0) for epochs in bests)}
        for path in self.paths():
            is_older_copy = _read_stem(path) == _read_stem(newest) and path != newest
            if is_older_copy or _read_stem(path) not in kept:
                path.unlink()


def find_checkpoints(folder: Path) -> list[Path]:
    """The files in a folder of checkpoints, in the order of epochs and steps."""
    return sorted(folder.glob(CHECKPOINT_FILES), key=_place)


def _read_best(path: Path) -> int | None:
    """The best epoch according to a checkpoint; None also where the file is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            best: int | None = json.loads(file.metadata()["state"])["best"]
            return best
    except (OSError, SafetensorError, *READ_ERRORS):
        return None


def epoch_of(path: Path) -> int:
    """Give the number of complete epochs of a checkpoint, from its name."""
    return _place(path)[0][0]


def _stem(epoch: int, step: int) -> str:
    return f"epoch-{epoch:04d}-step-{step:06d}"


def _place(path: Path) -> tuple[list[int], str]:
    """A key to sort by epoch and step; sorted by name, 10000 would come before 9999."""
    numbers = [int(part) for part in _read_stem(path).split("-") if part.isdecimal()]
    return numbers, path.name


def _read_stem(path: Path) -> str:
    return path.name.partition(".")[0]


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
