"""The record of each epoch: for the caller, for `log.jsonl` and for TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from genets.core.errors import TrainingError, install_hint
from genets.core.files import write_atomic
from genets.core.json_files import READ_ERRORS, describe_damage
from genets.core.progress import Progress
from genets.core.validation import from_plain
from genets.training.score import Score


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """One epoch of a training run.

    Attributes:
        epoch: The number of the epoch, from 1; 0 is the start with a linear model.
        steps: Steps of the optimizer since the run began.
        learning_rate: The learning rate of the epoch's last step.
        loss: The mean training loss.
        top1: The share of correct images of the validation split, 0 to 1.
        cross_entropy: The mean on the validation split, in nats per image.
        seconds: The duration of the epoch's training steps.
        images_per_second: The speed of these steps.
        best: Whether the score is the best so far; see `RunSettings.metric`.
        images: The number of images of the validation split that were scored.
        broken: The number of images of any split that could not be read so far.
        balanced_accuracy, balanced_images: See `Score`; None in the records of an older genets.
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
    balanced_accuracy: float | None = None
    balanced_images: float | None = None

    @property
    def score(self) -> Score:
        """The score on the validation split."""
        return Score(
            self.top1,
            self.cross_entropy,
            self.images,
            self.balanced_accuracy,
            self.balanced_images,
        )


@dataclass(frozen=True, slots=True)
class Listener:
    """Functions that a training run calls.

    Attributes:
        progress: Called with the progress of the steps.
        epoch: Called with the record of each epoch and the number of all epochs.
        note: Called with messages to the user, such as that a file is damaged.
    """

    progress: Callable[[Progress], None] = lambda progress: None
    epoch: Callable[[EpochRecord, int], None] = lambda record, epochs: None
    note: Callable[[str], None] = lambda note: None


def write_log(path: Path, records: Iterable[EpochRecord]) -> None:
    """Write the log, one line of JSON for each epoch. Raises OSError."""
    write_atomic(path, "".join(json.dumps(asdict(record)) + "\n" for record in records))


def read_log(path: Path) -> list[EpochRecord]:
    """The epochs of a log; an empty list where there is no log yet. Raises TrainingError."""
    if not path.exists():
        return []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return [from_plain(EpochRecord, json.loads(line)) for line in lines]
    except READ_ERRORS as error:
        raise TrainingError(
            f"{path} is damaged ({describe_damage(error)}); remove it, and continue the run"
        ) from error


class TensorBoard:
    """Event files for TensorBoard. Raises TrainingError where the package is missing."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise TrainingError(
                f"TensorBoard files need the package tensorboard; {install_hint('tensorboard')}"
            ) from error
        self._make_writer: Any = SummaryWriter
        self._folder = folder
        self._writer: Any = None

    def open(self, epoch: int) -> None:
        """Open the files after `epoch` complete epochs.

        TensorBoard then ignores the later epochs that a killed process wrote.
        """
        self._writer = self._make_writer(str(self._folder), purge_step=epoch + 1)

    def write(self, record: EpochRecord) -> None:
        """Add the values of one epoch. Raises OSError."""
        values = {
            "loss/training": record.loss,
            "loss/validation": record.cross_entropy,
            "accuracy/validation top-1": record.top1,
            "speed/images per second": record.images_per_second,
            "learning rate": record.learning_rate,
        }
        if record.balanced_accuracy is not None and record.score.is_unbalanced:
            values["accuracy/validation balanced accuracy"] = record.balanced_accuracy
        for name, value in values.items():
            self._writer.add_scalar(name, value, record.epoch)
        self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
