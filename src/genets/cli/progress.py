"""Events as a progress bar with time left, or as one line for each phase."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from genets.cli.output import error_console


class Event(Protocol):
    """What a floor tells: `done` of `total` steps of `phase` are finished."""

    @property
    def phase(self) -> str: ...
    @property
    def done(self) -> float: ...
    @property
    def total(self) -> float: ...
    @property
    def detail(self) -> str: ...


OnEvent = Callable[[Event], None]


@contextmanager
def show_progress(*, plain: bool) -> Iterator[OnEvent]:
    """What to call with each event; shown on standard error.

    plain: one line for each phase, as it is also done where there is no terminal.
    """
    console = error_console()
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
    with Progress(*columns, console=console) as progress:
        yield _Bars(progress)


class _Bars:
    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, event: Event) -> None:
        if event.phase not in self._tasks:
            self._tasks[event.phase] = self._progress.add_task(
                event.phase, total=event.total, completed=int(event.done), detail=event.detail
            )
        self._progress.update(
            self._tasks[event.phase],
            completed=event.done,
            total=event.total,
            detail=event.detail,
        )


class _Lines:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._started: dict[str, float] = {}
        self._ended: set[str] = set()

    def __call__(self, event: Event) -> None:
        start = self._started.setdefault(event.phase, time.monotonic())
        if event.done < event.total or event.phase in self._ended:
            return
        self._ended.add(event.phase)
        seconds = time.monotonic() - start
        detail = f" ({event.detail})" if event.detail else ""
        line = f"{event.phase}: {event.done:g} of {event.total:g} in {seconds:.1f} s{detail}"
        self._console.print(line, markup=False, soft_wrap=True)
