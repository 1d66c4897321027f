"""`genets search --watch`: a search seen from another terminal or machine, reading only."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from genets.core.errors import StudyError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from genets.nas.watch.status import SearchStatus, StatusReader

INTERVAL_S = 5.0
MAX_FAULTS = 3  # readings in a row that may fail, as while a network file system is away


def watch_study(folder: Path, interval_s: float, json: bool) -> None:
    """Show the status of a search until it ends, or until Ctrl-C.

    Args:
        folder: The study.
        interval_s: The time between two readings.
        json: Whether to print the status once, for machines.

    Raises:
        GenetsError: The folder is no study, or is damaged.
    """
    from genets.cli.output import print_json
    from genets.nas.watch.status import StatusReader

    with suppress(KeyboardInterrupt):  # the usual end of a watch, so the exit status is 0
        reader = StatusReader(folder)
        status = reader.read()
        if json:
            print_json(status.to_json())
        else:
            _show(_read_until_end(reader, status, interval_s))


def _read_until_end(
    reader: StatusReader, status: SearchStatus, interval_s: float
) -> Iterator[SearchStatus]:
    """Give each status. Raises StudyError where several readings in a row fail."""
    pause = threading.Event()
    faults = 0
    yield status
    while not status.has_ended:
        pause.wait(interval_s)
        try:
            status = reader.read()
        except StudyError:
            faults += 1
            if faults == MAX_FAULTS:
                raise
            continue
        faults = 0
        yield status


def _show(statuses: Iterator[SearchStatus]) -> None:
    """Redraw on a terminal; otherwise print a block whenever something has changed."""
    from rich.console import Group
    from rich.live import Live

    from genets.cli.output import result_console
    from genets.nas.watch.status import shown_change

    console = result_console()
    if not console.is_terminal:
        shown: object = None
        for status in statuses:
            if shown_change(status) != shown:
                shown = shown_change(status)
                for part in _parts(status):
                    console.print(part)
        return
    with Live(console=console, auto_refresh=False) as live:
        for status in statuses:
            live.update(Group(*_parts(status)), refresh=True)


def _parts(status: SearchStatus) -> list[RenderableType]:
    from genets.report.study.status import status_lines, status_tables, warning_lines
    from genets.report.tables import screen_text

    lines = [*status_lines(status), *warning_lines(status)]
    return [*map(screen_text, lines), *status_tables(status)]
