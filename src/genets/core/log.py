"""The logger of the library: silent by default, on standard error, or in the log of a study.

Every module has `_log = get_logger(__name__)`. Several studies may be open in one process: a
context variable says to which log file a record belongs. A thread that is started without a copy
of the context has no study; its records go to the log file that is open, if it is the only one.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import TextIO

from genets.core.errors import printable

_root = logging.getLogger("genets")


def get_logger(name: str) -> logging.Logger:
    """Return the logger of a module; `name` is the module's `__name__`."""
    return logging.getLogger(name)


def set_verbosity(level: int | None) -> None:
    """Show log records on standard error, one line for each.

    Args:
        level: The lowest level shown, such as `logging.INFO`; None shows nothing.
    """
    _root.removeHandler(_stderr)
    _root.setLevel(logging.INFO if level is None else min(logging.INFO, level))
    if level is not None:
        _stderr.setLevel(level)
        _root.addHandler(_stderr)


@contextmanager
def log_to_file(path: str | Path) -> Iterator[None]:
    """Append the records of the block to a file: level INFO and above, one line for each.

    A line is a UTC time, the level, the module and the message. Where the file cannot be opened
    or the disk is full, the records are lost and the block runs on.
    """
    try:
        handler = _LogFile(path)
    except OSError:
        yield
        return
    _open_files.add(handler)
    _root.addHandler(handler)
    token = _current.set(handler)
    try:
        yield
    finally:
        with suppress(ValueError):  # the block ends in another context than it began in
            _current.reset(token)
        _root.removeHandler(handler)
        _open_files.discard(handler)
        handler.close()


class _StandardError(logging.StreamHandler[TextIO]):
    """Looks up `sys.stderr` each time, because progress bars and tests replace it."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


class _ApplicationLog(logging.Handler):
    """Passes records on to the logging of the application, if it has any.

    `Logger.propagate` ignores the level of the root logger. As this library logs at level INFO
    for the sake of log files, an application that asked for warnings would get all of them.
    """

    def emit(self, record: logging.LogRecord) -> None:
        application = logging.getLogger()
        if application.handlers and record.levelno >= application.level:
            application.handle(record)


class _LogFile(logging.FileHandler):
    """The log file of one study."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(path, encoding="utf-8")
        formatter = logging.Formatter(
            "%(asctime)sZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S"
        )
        formatter.converter = time.gmtime
        self.setFormatter(formatter)
        self.setLevel(logging.INFO)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record belongs to the study of this file."""
        owner = _current.get()
        return self in _open_files and (
            owner is self or (owner not in _open_files and len(_open_files) == 1)
        )

    def format(self, record: logging.LogRecord) -> str:
        """One line, also for a message or a traceback of several lines."""
        return printable(super().format(record))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Lose the record where the disk is full; report any other fault as usual."""
        if not isinstance(sys.exception(), OSError):
            super().handleError(record)

    def close(self) -> None:
        with suppress(OSError):  # lines that a full disk has not taken are lost
            super().close()


_current: ContextVar[_LogFile | None] = ContextVar("genets_log_file", default=None)
_open_files: set[_LogFile] = set()
_stderr = _StandardError()
_stderr.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))

_root.propagate = False
_root.addHandler(_ApplicationLog())
set_verbosity(None)
