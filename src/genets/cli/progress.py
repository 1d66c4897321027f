"""Progress on standard error: bars with the time left, or one line for each phase.

A training also shows a line for each epoch, and draws its learning curves.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from genets.cli.output import remark_console
from genets.core.progress import OnProgress, Progress
from genets.report.training import save_curves
from genets.training import EpochRecord
from genets.training.run.epoch_log import read_log
from genets.training.run.folder import LOG


@contextmanager
def show_progress(*, plain: bool) -> Iterator[OnProgress]:
    """Show the progress of a block on standard error; yields the function to call at each step.

    Args:
        plain: Whether to print one line for each phase in place of bars. Without a terminal,
            lines are always printed.
    """
    console = remark_console()
    if plain or not console.is_terminal:
        yield _Lines(console)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[detail]}", markup=False),
    )
    with RichProgress(*columns, console=console) as progress:
        yield _Bars(progress)


class _Bars:
    def __init__(self, progress: RichProgress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, step: Progress) -> None:
        if step.phase not in self._tasks:
            self._tasks[step.phase] = self._progress.add_task(
                step.phase, total=step.total, completed=int(step.done), detail=step.detail
            )
        self._progress.update(
            self._tasks[step.phase],
            completed=step.done,
            total=step.total,
            detail=step.detail,
        )


class _Lines:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._started: dict[str, float] = {}
        self._ended: set[str] = set()

    def __call__(self, step: Progress) -> None:
        start = self._started.setdefault(step.phase, time.monotonic())
        if step.done < step.total or step.phase in self._ended:
            return
        self._ended.add(step.phase)
        seconds = time.monotonic() - start
        detail = f" ({step.detail})" if step.detail else ""
        line = f"{step.phase}: {step.done:g} of {step.total:g} in {seconds:.1f} s{detail}"
        self._console.print(line, markup=False, soft_wrap=True)


PICTURE_SECONDS = 60.0


class TrainingWatch:
    """Shows the epochs of a training.

    Args:
        out: Folder of the training, for the learning curves.
        title: Title of the curves.
        say: Prints a line for each epoch; None where a progress bar shows the epochs.
    """

    def __init__(self, out: Path, title: str, say: Callable[[str], None] | None) -> None:
        self._out = out
        self._title = title
        self._say = say
        self._first: tuple[float, int] | None = None
        self._drawn_at = time.monotonic()
        self._has_new = False

    def epoch(self, record: EpochRecord, epochs: int) -> None:
        """Show an epoch that has ended."""
        now = time.monotonic()
        self._has_new = True
        if self._say is not None:
            self._say(_line(record, epochs) + self._time_left(record.epoch, epochs, now))
        if self._first is None:
            self._first = now, record.epoch
        if now - self._drawn_at > PICTURE_SECONDS:
            self.draw()

    def draw(self) -> None:
        """Draw the curves of all epochs so far, if an epoch is new. Raises OSError."""
        if self._has_new:
            save_curves(read_log(self._out / LOG), self._title, self._out)
        self._has_new = False
        self._drawn_at = time.monotonic()

    def _time_left(self, epoch: int, epochs: int, now: float) -> str:
        """Estimate from the epochs of this process, of which the first has no time of its own."""
        if self._first is None or epoch == epochs:
            return ""
        since, first = self._first
        return f", {(now - since) / (epoch - first) * (epochs - epoch) / 60:.1f} min left"


def _line(record: EpochRecord, epochs: int) -> str:
    return (
        f"epoch {record.epoch} of {epochs}: loss {record.loss:.3f}, validation top-1 "
        f"{record.top1:.2%}, {record.images_per_second:.0f} images/s"
    )
