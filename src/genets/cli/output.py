"""Printing: tables for people, JSON for machines."""

import json
from collections.abc import Iterable
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
