"""The weights of trials: one file for the super-block of each trial, for the candidates.

A file that is missing, because the disk was full or the limit was reached, costs no result, and a
damaged file costs none either: its trial is run again where a candidate needs it, and gives the
same weights.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from torch import nn

from genets.core.errors import FullDiskError, GenetsError
from genets.data.seeds import derive_seed
from genets.data.split import Fold
from genets.nas.study import layout
from genets.nas.study.records import Trial
from genets.nas.workers.files import scratch_path
from genets.networks import save_weights
from genets.networks.channels import TrainedSuperBlock
from genets.networks.weights import check_finite, read_weights, write_weights


@dataclass(frozen=True)
class TrialWeights:
    """The files of the trials of one round.

    Attributes:
        folder: The folder of the files.
        limit_bytes: The most that the files may take together; the oldest ones are dropped first.
    """

    folder: Path
    limit_bytes: int

    def in_fold(self, fold: Fold) -> Self:
        """Give the files of the trials of one fold; the folds share the limit equally."""
        folder = layout.in_fold(self.folder, fold.number)
        return replace(self, folder=folder, limit_bytes=self.limit_bytes // fold.count)

    def path(self, trial: Trial) -> Path:
        seed = derive_seed(trial.index, str(trial.super_block), trial.repeat)
        return self.folder / f"{seed:016x}.safetensors"

    def has(self, trial: Trial) -> bool:
        """Whether the weights of a trial can be loaded."""
        try:
            self.load(trial)
        except GenetsError:
            return False
        return True

    def load(self, trial: Trial) -> TrainedSuperBlock:
        """Read the weights of a trial. Raises GenetsError where the file is missing or damaged."""
        path = self.path(trial)
        tensors, texts = read_weights(path)
        if texts != _texts(trial):
            raise GenetsError(f"weights {str(path)!r} are of another trial")
        check_finite(tensors, path)
        return TrainedSuperBlock(trial.super_block, tensors)

    def elsewhere(self, scratch: Path) -> Self:
        """Give the files in the scratch folder of a worker on another machine."""
        return replace(self, folder=scratch_path(scratch, self.folder))

    def save(self, trial: Trial, stage: nn.Module) -> None:
        """Write the weights of a trial's super-block, and drop the oldest files beyond the limit.

        On a full disk, the oldest files are dropped until the new one can be written. Weights that
        cannot be written are left out.
        """
        self._write(lambda: save_weights(stage, self.path(trial), _texts(trial)))

    def store(self, name: str, content: bytes) -> None:
        """Write a file that `save` wrote on another machine; see `save`."""
        self._write(lambda: write_weights(self.folder / name, content))

    def _write(self, write: Callable[[], None]) -> None:
        """Write a file within the limit. write: Raises GenetsError."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            return
        while True:
            try:
                write()
                break
            except FullDiskError:
                if not self._drop_oldest():
                    return
            except GenetsError:  # such as an error of the device, for which no file makes room
                return
        while self._bytes() > self.limit_bytes and self._drop_oldest():
            pass

    def _bytes(self) -> int:
        return sum(size for _, size, _ in self._files())

    def _drop_oldest(self) -> bool:
        """Remove the oldest file; False where none can be removed."""
        for _, _, path in self._files()[:1]:
            with suppress(OSError):
                path.unlink(missing_ok=True)
                return True
        return False

    def _files(self) -> list[tuple[float, int, Path]]:
        """Time, size and path of each file, the oldest first; other workers may remove some."""
        files = []
        for path in self.folder.glob("*.safetensors"):
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            files.append((status.st_mtime, status.st_size, path))
        return sorted(files)


def _texts(trial: Trial) -> dict[str, str]:
    """The texts beside the tensors of a trial."""
    return {
        "index": str(trial.index),
        "super_block": str(trial.super_block),
        "repeat": str(trial.repeat),
    }
