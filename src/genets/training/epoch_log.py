"""What a run tells while it goes on, and keeps in `log.jsonl`.

Event files for TensorBoard, with the figures of the log.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from genets.core.errors import TrainingError
from genets.core.files import write_atomic


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """One epoch, counted from 1.

    steps: of the optimizer, since the run began. learning_rate: of the epoch's last step.
    loss: mean training loss. top1 (0 to 1), cross_entropy: on the validation split.
    seconds: of its training steps. images_per_second: in these.
    best: whether top1 is the highest so far, or as high with a lower cross_entropy.
    images: of the validation split, those scored.
    broken: images of any split that could not be read, so far.
    """

    epoch: int
    steps: int
    learning_rate: float
    loss: float
    top1: float
    cross_entropy: float
    seconds: float
    images_per_second: float
    best: bool
    images: int
    broken: int = 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Progress:
    """`done` of `total` steps of `phase` are finished; `detail` is a few words on the last."""

    phase: str
    done: int
    total: int
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is told. note: what the user should know, such as a damaged file or a new head."""

    progress: Callable[[Progress], None] = lambda progress: None
    epoch: Callable[[EpochRecord, int], None] = lambda record, epochs: None
    note: Callable[[str], None] = lambda note: None


def write_log(path: Path, records: Iterable[EpochRecord]) -> None:
    """One line of JSON for each epoch. Raises OSError."""
    write_atomic(path, "".join(json.dumps(record.to_json()) + "\n" for record in records))


def read_log(path: Path) -> list[EpochRecord]:
    """The epochs of a log; none where there is no log yet."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    return [EpochRecord(**json.loads(line)) for line in lines]


class TensorBoard:
    """Raises TrainingError where the package is missing."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise TrainingError(
                "TensorBoard files need the package tensorboard; install genets[tensorboard]"
            ) from error
        self._writer_of: Any = SummaryWriter
        self._folder = folder
        self._writer: Any = None

    def go_on_after(self, epoch: int) -> None:
        """Open the files; TensorBoard then drops what a killed process wrote of later epochs."""
        self._writer = self._writer_of(str(self._folder), purge_step=epoch + 1)

    def epoch(self, record: EpochRecord) -> None:
        """Add the figures of one epoch. Raises OSError."""
        figures = {
            "loss/training": record.loss,
            "loss/validation": record.cross_entropy,
            "accuracy/validation top-1": record.top1,
            "speed/images per second": record.images_per_second,
            "learning rate": record.learning_rate,
        }
        for name, value in figures.items():
            self._writer.add_scalar(name, value, record.epoch)
        self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
