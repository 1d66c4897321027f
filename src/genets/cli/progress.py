"""Progress on standard error: bars with the time left, or lines where there is no terminal.

A training also shows a line for each epoch, and draws its learning curves.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

from genets.cli.output import remark_console
from genets.core.progress import OnProgress, Progress, TimeLeft
from genets.report.training import save_curves
from genets.report.wording import duration_text
from genets.training import EpochRecord
from genets.training.run.epoch_log import read_log
from genets.training.run.folder import LOG

LINE_SECONDS = 30.0  # between lines of a running phase
REFRESHES_PER_SECOND = 2.0  # of the bars; each takes CPU time from a measurement


@contextmanager
def show_progress(*, plain: bool) -> Iterator[OnProgress]:
    """Show the progress of a block on standard error; yields the function to call at each step.

    Args:
        plain: Whether to print lines in place of bars: one every half minute, and one at the end of
            each phase. Without a terminal, lines are always printed.
    """
    console = remark_console()
    # An engine that compiles a network replaces `sys.stderr` meanwhile, to silence the compiler.
    console.file = sys.stderr
    if plain or not console.is_terminal:
        lines = Lines(console)
        with _repeated(lines.show_running, LINE_SECONDS):
            yield lines
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TimeElapsedColumn(),
        _TimeLeftColumn(),
        TextColumn("{task.fields[detail]}", markup=False),
    )
    with RichProgress(
        *columns, console=console, refresh_per_second=REFRESHES_PER_SECOND
    ) as progress:
        yield _Bars(progress)


@contextmanager
def _repeated(function: Callable[[], None], seconds: float) -> Iterator[None]:
    """Call the function every so many seconds during the block, in a thread of its own."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(seconds):
            function()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class _TimeLeftColumn(ProgressColumn):
    """rich's own column knows the last half minute alone, which misleads where steps are rare."""

    def render(self, task: Task) -> Text:
        time_left: TimeLeft = task.fields["time_left"]
        seconds = time_left.seconds(time.monotonic())
        return Text("" if not seconds else f"{duration_text(seconds)} left", "progress.remaining")


class _Bars:
    def __init__(self, progress: RichProgress) -> None:
        self._progress = progress
        self._tasks: dict[str, tuple[TaskID, TimeLeft]] = {}

    def __call__(self, step: Progress) -> None:
        now = time.monotonic()
        if step.phase not in self._tasks:
            time_left = TimeLeft(step, now)
            task = self._progress.add_task(
                step.phase,
                total=step.total,
                completed=int(step.done),
                detail=step.detail,
                time_left=time_left,
            )
            self._tasks[step.phase] = task, time_left
        task, time_left = self._tasks[step.phase]
        if time_left.is_before(step):  # the phase begins again, as another wait does
            time_left = TimeLeft(step, now)
            self._tasks[step.phase] = task, time_left
            self._progress.reset(task, time_left=time_left)
        time_left.update(step, now)
        self._progress.update(task, completed=step.done, total=step.total, detail=step.detail)


class Lines:
    """Prints a line at the end of each phase, and whenever `show_running` is called."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._phases: dict[str, TimeLeft] = {}
        self._running: dict[str, Progress] = {}  # the phase that was reported last is the last one

    def __call__(self, step: Progress) -> None:
        now = time.monotonic()
        time_left = self._phases.get(step.phase)
        is_new = time_left is None or time_left.is_before(step)  # a phase may begin again
        if time_left is None or is_new:
            time_left = self._phases[step.phase] = TimeLeft(step, now)
            if 0 < step.done < step.total:
                self._print(step, "done before")
        time_left.update(step, now)
        was_running = self._running.pop(step.phase, None) is not None
        if step.done < step.total:
            self._running[step.phase] = step
        elif was_running or is_new:
            self._print(step, f"in {time_left.elapsed(now):.1f} s")

    def show_running(self) -> None:
        """Print a line on the running phase."""
        now = time.monotonic()
        for step in list(self._running.values())[-1:]:
            time_left = self._phases[step.phase]
            seconds = time_left.seconds(now)
            left = "" if seconds is None else f", about {duration_text(seconds)} left"
            self._print(step, f"after {duration_text(time_left.elapsed(now))}{left}")

    def _print(self, step: Progress, words: str) -> None:
        done = int(step.done) if step.total >= 10 else round(step.done, 1)
        detail = f" ({step.detail})" if step.detail else ""
        line = f"{step.phase}: {done:g} of {step.total:g} {words}{detail}"
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
        seconds = (now - since) / (epoch - first) * (epochs - epoch)
        return f", about {duration_text(seconds)} left"


def _line(record: EpochRecord, epochs: int) -> str:
    scores = f"validation top-1 {record.top1:.2%}"
    if record.balanced_accuracy is not None and record.score.is_unbalanced:
        scores += f", balanced accuracy {record.balanced_accuracy:.2%}"
    if record.epoch == 0:
        return f"epoch 0 of {epochs}, the starting weights with their classifier: {scores}"
    return (
        f"epoch {record.epoch} of {epochs}: loss {record.loss:.3f}, {scores}, "
        f"{record.images_per_second:.0f} images/s"
    )
