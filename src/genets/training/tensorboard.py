"""Event files for TensorBoard, with the figures of the log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from genets.core.errors import TrainingError
from genets.training.epoch_log import EpochRecord


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
