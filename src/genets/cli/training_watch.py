"""What is shown of a training while it goes on: a line for each epoch, and learning curves."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from genets.report.training import save_curves
from genets.training import EpochRecord
from genets.training.epoch_log import read_log
from genets.training.run_folder import LOG

PICTURE_SECONDS = 60.0


class TrainingWatch:
    """say: for lines, where there is no terminal with a progress bar; else None."""

    def __init__(self, out: Path, title: str, say: Callable[[str], None] | None) -> None:
        self._out = out
        self._title = title
        self._say = say
        self._first: tuple[float, int] | None = None
        self._drawn_at = time.monotonic()
        self._has_new = False

    def epoch(self, record: EpochRecord, epochs: int) -> None:
        """Called at the end of each epoch."""
        now = time.monotonic()
        self._has_new = True
        if self._say is not None:
            self._say(_line(record, epochs) + self._time_left(record.epoch, epochs, now))
        if self._first is None:
            self._first = now, record.epoch
        if now - self._drawn_at > PICTURE_SECONDS:
            self.draw()

    def draw(self) -> None:
        """The curves of all epochs so far, if there are new ones. Raises OSError."""
        if self._has_new:
            save_curves(read_log(self._out / LOG), self._title, self._out)
        self._has_new = False
        self._drawn_at = time.monotonic()

    def _time_left(self, epoch: int, epochs: int, now: float) -> str:
        """From the epochs of this process; its first one tells nothing yet."""
        if self._first is None or epoch == epochs:
            return ""
        since, first = self._first
        return f", {(now - since) / (epoch - first) * (epochs - epoch) / 60:.1f} min left"


def _line(record: EpochRecord, epochs: int) -> str:
    return (
        f"epoch {record.epoch} of {epochs}: loss {record.loss:.3f}, validation top-1 "
        f"{record.top1:.2%}, {record.images_per_second:.0f} images/s"
    )
