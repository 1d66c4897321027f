"""What commands print: results on standard output, progress and remarks on standard error."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

PIPE_COLUMNS = 200  # rich assumes 80 where there is no terminal, which would break paths
ROW_FILES = "rows*.json"

_shown = SimpleNamespace(quiet=False)


def set_quiet(quiet: bool) -> None:
    """Show or hide progress, remarks and warnings; results and errors are always shown."""
    _shown.quiet = quiet
    if quiet:
        warnings.simplefilter("ignore")


def print_json(value: Any) -> None:
    """Print JSON on standard output; the caller prints nothing else there."""
    print(json.dumps(value, indent=2, allow_nan=False))


def print_tables(*tables: RenderableType) -> None:
    console = _console(stderr=False)
    for table in tables:
        console.print(table)


def print_lines(lines: Iterable[str]) -> None:
    """Print plain text without markup, and without line breaks inside paths."""
    for line in lines:
        print(line)


def print_files(files: Mapping[str, Path]) -> None:
    """Print one line for each written file."""
    print_lines(f"{name}: {path}" for name, path in files.items())


def print_remark(sentence: str) -> None:
    """Print a sentence on standard error, unless the command is quiet."""
    remark_console().print(sentence, markup=False, soft_wrap=True)


def write_record(path: Path, record: Any) -> Path:
    """Write JSON to a file, which is complete or absent at any moment."""
    from genets.core.files import write_atomic

    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(record, indent=2, allow_nan=False) + "\n")
    return path


def time_of_writing() -> str:
    """Return the local time that a report shows."""
    return f"{datetime.now():%Y-%m-%d %H:%M}"


def error_console() -> Console:
    """Return the console for errors: standard error."""
    return _console(stderr=True)


def remark_console() -> Console:
    """Return the console for progress and remarks: standard error, silent where quiet."""
    return _console(stderr=True, quiet=_shown.quiet)


def _console(*, stderr: bool, quiet: bool = False) -> Console:
    from rich.console import Console  # here, because not every command prints with it

    console = Console(stderr=stderr, highlight=False, quiet=quiet)
    if not console.is_terminal:
        console.width = max(console.width, PIPE_COLUMNS)
    return console


def print_kept_rows(folder: Path | None) -> None:
    """Say on standard error how many measured rows a folder holds, if it holds any."""
    from genets.analysis.comparison.rows import load_rows

    files = sorted(folder.glob(ROW_FILES)) if folder else []
    kept = sum(row.measurement is not None for file in files for row in load_rows(file).rows)
    if kept:
        rows = "1 finished row is" if kept == 1 else f"{kept} finished rows are"
        print_remark(f"{rows} kept in {folder}; the same command continues with the other rows.")
