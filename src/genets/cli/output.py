"""Printing: tables for people, JSON for machines.

What a command that was stopped says of the rows that it had measured.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType

PIPE_COLUMNS = 200  # rich takes 80 where there is no terminal, which would break paths


def print_json(value: Any) -> None:
    """To standard output, on which nothing else is written then."""
    print(json.dumps(value, indent=2, allow_nan=False))


def print_tables(*tables: RenderableType) -> None:
    console = _console(stderr=False)
    for table in tables:
        console.print(table)


def print_lines(lines: Iterable[str]) -> None:
    """Plain text: no markup, and no breaks in paths."""
    for line in lines:
        print(line)


def error_console() -> Console:
    """Standard error: progress, and tables that belong to an error."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, PIPE_COLUMNS)
    return console


ROW_FILES = "rows*.json"


def tell_kept(folder: Path | None) -> None:
    """Say on standard error how many measured rows `folder` holds; nothing where there are none."""
    from genets.analysis.comparison.rows import load_rows

    files = sorted(folder.glob(ROW_FILES)) if folder else []
    kept = sum(row.measurement is not None for file in files for row in load_rows(file).rows)
    if kept:
        rows = "1 finished row is" if kept == 1 else f"{kept} finished rows are"
        sentence = f"{rows} kept in {folder}; the same command goes on with the rest."
        error_console().print(sentence, markup=False, soft_wrap=True)
