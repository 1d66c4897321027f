"""The output of commands: results on standard output, progress and remarks on standard error."""

from __future__ import annotations

import io
import logging
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from genets.core.errors import GenetsError, counted, first_line
from genets.core.json_files import json_text

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

PIPE_COLUMNS = 200  # rich assumes 80 where there is no terminal, which would break paths
ROW_FILES = "rows*.json"

_shown = SimpleNamespace(quiet=False)


def escape_what_streams_lack() -> None:
    """Print escapes for characters that an output's encoding lacks, such as a class name in ASCII.

    A name must not end a command with a traceback after hours of work.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # tests and notebooks have other streams
            stream.reconfigure(errors="backslashreplace")


def set_quiet(quiet: bool) -> None:
    """Show or hide progress, remarks and warnings; results and errors are always shown."""
    _shown.quiet = quiet
    if quiet:
        warnings.simplefilter("ignore")


class _Descriptions(logging.Handler):
    """Prints how data sets and networks were understood: each line once in a command."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.printed: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        from genets.training.run.distributed import is_first_process  # loaded with the data

        line = record.getMessage()
        if line not in self.printed and is_first_process():
            self.printed.add(line)
            print_remark(line)


_descriptions = _Descriptions()


def show_descriptions(show: bool) -> None:
    """Print how each data set and network was understood, as a remark, or stop to print it."""
    _descriptions.printed.clear()
    for name in ("genets.data", "genets.networks"):
        logger = logging.getLogger(name)
        logger.removeHandler(_descriptions)
        if show:
            logger.addHandler(_descriptions)


def print_result(
    as_json: bool,
    record: Any,
    tables: Iterable[RenderableType] = (),
    lines: Iterable[str] = (),
    files: Mapping[str, Path] | None = None,
) -> None:
    """Print the result of a command: JSON alone, or tables, lines of text and written files."""
    if as_json:
        print_json(record)
        return
    print_tables(*tables)
    print_lines(lines)
    print_lines(f"{name}: {path}" for name, path in (files or {}).items())


def write_and_print(
    write: Callable[[], Mapping[str, Path]],
    as_json: bool,
    record: Any,
    tables: Iterable[RenderableType] = (),
    lines: Iterable[str] = (),
) -> None:
    """Write the files of a result and print it; it is also printed where writing fails.

    Args:
        write: Writes the files and returns their paths by label.
        as_json: See `print_result`, also for the other arguments.
        record: The result for machines.
        tables: The result for people.
        lines: Lines after the tables.
    """
    files: Mapping[str, Path] = {}
    try:
        files = write()
    finally:
        print_result(as_json, record, tables, lines, files)


def print_json(value: Any) -> None:
    """Print JSON on standard output; the caller prints nothing else there."""
    print(json_text(value), end="")


def print_tables(*tables: RenderableType) -> None:
    console = result_console()
    for table in tables:
        console.print(table)


def print_lines(lines: Iterable[str]) -> None:
    """Print plain text without markup, and without line breaks inside paths."""
    for line in lines:
        print(line)


def print_error(sentence: str) -> None:
    """Print a sentence on standard error, also where the command is quiet."""
    print(sentence, file=sys.stderr)


def print_remark(sentence: str) -> None:
    """Print a sentence on standard error, unless the command is quiet."""
    remark_console().print(sentence, markup=False, soft_wrap=True)


def result_console() -> Console:
    """Return the console for results: standard output."""
    return _console(stderr=False)


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


class UnsavedRows:
    """The files that lack measured rows because they could not be written."""

    def __init__(self) -> None:
        self._errors: dict[Path, OSError] = {}

    def add(self, file: Path, error: OSError) -> None:
        """Remember a file; see `compare`."""
        self._errors[file] = error

    def check(self) -> None:
        """Raise GenetsError for the first file. Call this after the result was printed."""
        for file, error in self._errors.items():
            raise GenetsError(
                f"{file} lacks rows of this result, because it could not be written: "
                f"{error.strerror or first_line(error)}"
            )


def print_kept_rows(folder: Path | None) -> None:
    """Say on standard error how many measured rows a folder holds, if it holds any."""
    from genets.analysis.comparison.rows import load_rows

    files = sorted(folder.glob(ROW_FILES)) if folder else []
    kept = sum(row.measurement is not None for file in files for row in load_rows(file).rows)
    if kept:
        rows = counted(kept, "finished row is", "finished rows are")
        print_remark(f"{rows} kept in {folder}; the same command continues with the other rows.")
