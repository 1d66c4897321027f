"""The trials of a study: one SQLite row for each, committed as it ends."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from genets.core.errors import StudyError, first_line
from genets.nas.study.records import Trial, TrialResult
from genets.structure.notation import parse_super_block

APPLICATION_ID = 0x67656E74  # "gent": distinguishes our files from other SQLite databases
SCHEMA_VERSION = 2  # version 1 has no balanced accuracy, and is brought up to date when opened

SCHEMA = """
CREATE TABLE trials (
    super_block INTEGER NOT NULL,
    notation TEXT NOT NULL,
    repeat INTEGER NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('done', 'failed')),
    top1 REAL,
    cross_entropy REAL,
    seconds REAL NOT NULL,
    reason TEXT NOT NULL,
    balanced_accuracy REAL,
    PRIMARY KEY (super_block, notation, repeat)
) STRICT
"""
MAX_COPIES = 10  # of a database that changes while it is copied; a trial ends every few seconds
NEW_COLUMN = "balanced_accuracy REAL"
SCHEMA_1 = SCHEMA.replace(f"    {NEW_COLUMN},\n", "")

# Names of errors of SQLite where the place of a copy is full or cannot be used.
COPY_ERRORS = ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN")

# Names of errors of SQLite where a file system has no locks. A study has one writer, and readers
# read a copy, so the database is never busy otherwise.
LOCK_ERRORS = (
    "SQLITE_BUSY", "SQLITE_PROTOCOL", "SQLITE_NOLFS", "SQLITE_IOERR_LOCK", "SQLITE_IOERR_RDLOCK",
    "SQLITE_IOERR_UNLOCK", "SQLITE_IOERR_CHECKRESERVEDLOCK", "SQLITE_IOERR_SHMLOCK",
)  # fmt: skip

# Errors of a row that holds other values than ours.
ROW_ERRORS = (ValueError, TypeError)

# A failed trial may be repeated; a finished one is never written twice.
RECORD = """
INSERT INTO trials VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET status = excluded.status, top1 = excluded.top1,
    cross_entropy = excluded.cross_entropy, seconds = excluded.seconds, reason = excluded.reason,
    balanced_accuracy = excluded.balanced_accuracy
WHERE status = 'failed'
"""


class TrialDatabase:
    """An open `trials.sqlite`. Every method raises StudyError where SQLite refuses the work."""

    def __init__(self, path: Path) -> None:
        """Open `path`, or create it. A truncated, damaged or foreign file is refused."""
        self.path = path
        with self._explained():
            if not path.exists():
                _create(path)
            # autocommit: every statement is its own transaction, on disk when it returns
            self._connection = sqlite3.connect(path, isolation_level=None, timeout=30)
            try:
                self._check()
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.execute("PRAGMA synchronous = FULL")
            except BaseException:
                self._connection.close()
                raise

    def record(self, result: TrialResult) -> None:
        """Add one trial that has ended.

        Raises StudyError where a finished one is recorded, or where the file is gone.
        """
        with self._explained():
            cursor = self._connection.execute(RECORD, _row(result))
        if not self.path.exists():  # SQLite writes to a file that was removed without an error
            raise StudyError(
                f"{self.path} is gone, so trials cannot be recorded; bring the folder of the study "
                "back, and give the same command again"
            )
        if cursor.rowcount != 1:
            raise StudyError(f"trial {result.trial} is recorded already in {self.path}")

    def results(self) -> list[TrialResult]:
        """Every recorded trial, ordered by trial and not by the time at which it ended."""
        with self._explained():
            rows = self._connection.execute("SELECT * FROM trials").fetchall()
            return sorted(map(_result, rows), key=lambda result: result.trial)

    def close(self) -> None:
        self._connection.close()

    def _check(self) -> None:
        (application,) = self._connection.execute("PRAGMA application_id").fetchone()
        if application != APPLICATION_ID:
            raise StudyError(
                f"{self.path} was not written by genets; move it away, or take another study folder"
            )
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version not in (1, SCHEMA_VERSION):
            raise StudyError(
                f"{self.path} has schema version {version}, this genets reads {SCHEMA_VERSION}; "
                f"use the version of genets that began the study"
            )
        _check_schema(self._connection)
        if self._connection.execute("PRAGMA quick_check(1)").fetchall() != [("ok",)]:
            raise sqlite3.DatabaseError("database disk image is malformed")
        if version == 1:
            self._update_schema()

    def _update_schema(self) -> None:
        """Add the columns that version 1 lacks; its trials have no balanced accuracy."""
        self._connection.execute("BEGIN IMMEDIATE")
        with self._connection:  # commits, or rolls back
            self._connection.execute(f"ALTER TABLE trials ADD COLUMN {NEW_COLUMN}")
            self._connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn errors of SQLite and of the disk into one sentence."""
        try:
            yield
        except sqlite3.OperationalError as error:
            cure = "make it writable or free some space"
            if getattr(error, "sqlite_errorname", "") in LOCK_ERRORS:
                cure = "move the study to a local disk, or to a file system that has locks,"
            raise StudyError(
                f"cannot write {self.path}: {error}; every recorded trial is kept, so {cure} and "
                "give the same command again"
            ) from error
        except (sqlite3.DatabaseError, *ROW_ERRORS) as error:
            if isinstance(error, StudyError):
                raise
            raise StudyError(
                f"{self.path} is damaged ({first_line(error)}); put back a copy of it, "
                f"or move it away to run the trials again"
            ) from error


def read_in_order(path: Path) -> list[TrialResult]:
    """Read every recorded trial in the order in which the trials were first recorded.

    Nothing is locked, created or written beside the database. This works while a search runs, also
    on another machine that sees the folder, and in a folder that cannot be written.
    Raises StudyError where the file is damaged or foreign, or cannot be read.
    """
    if not path.exists():
        return []
    try:
        content, log = _read_at_one_moment(path)
    except OSError as error:
        raise StudyError(f"cannot read {path}: {error.strerror}") from error
    try:
        return [_result(row) for row in _rows_in_order(path.name, content, log)]
    except OSError as error:
        raise _no_copy(path, error.strerror or first_line(error)) from error
    except (sqlite3.DatabaseError, *ROW_ERRORS) as error:
        if getattr(error, "sqlite_errorname", "").startswith(COPY_ERRORS):
            raise _no_copy(path, first_line(error)) from error
        raise StudyError(f"{path} is damaged or foreign ({first_line(error)})") from error


def _no_copy(path: Path, reason: str) -> StudyError:
    folder = tempfile.tempdir or "which was not found"
    return StudyError(
        f"cannot copy {path} to the folder for temporary files, {folder}: {reason}; free some "
        "space there, or name another folder in the variable TMPDIR"
    )


def _rows_in_order(name: str, content: bytes, log: bytes) -> list[tuple[object, ...]]:
    """Query a copy: even for reading, SQLite locks a database and creates files beside it.

    Args:
        name: The name of the copy.
        content: Of the database.
        log: Of its write-ahead log; empty where there is none.
    """
    with TemporaryDirectory(prefix="genets-trials-", ignore_cleanup_errors=True) as folder:
        place = Path(folder) / name
        place.write_bytes(content)
        if log:
            _log_of(place).write_bytes(log)
        with closing(sqlite3.connect(place)) as database:
            _check_schema(database)
            return database.execute("SELECT * FROM trials ORDER BY rowid").fetchall()


def _read_at_one_moment(path: Path) -> tuple[bytes, bytes]:
    """Read a database with its write-ahead log, as they are at one moment.

    While the log stays the same, the database may only get pages that the log holds as well.
    """
    for _ in range(MAX_COPIES):
        log = _read_log(path)
        content = path.read_bytes()
        if _read_log(path) == log:
            break
    return content, log


def _read_log(path: Path) -> bytes:
    with suppress(FileNotFoundError):
        return _log_of(path).read_bytes()
    return b""


def _log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _check_schema(database: sqlite3.Connection) -> None:
    """Raise DatabaseError where `trials` is another table than ours, or a view.

    A view computes its rows, and a hostile one has rows without end.
    """
    query = "SELECT sql FROM sqlite_schema WHERE name = 'trials'"
    definitions = [str(sql).split() for (sql,) in database.execute(query)]
    if definitions not in ([SCHEMA.split()], [SCHEMA_1.split()]):
        raise sqlite3.DatabaseError("it does not hold the table of trials")


def _create(path: Path) -> None:
    # Created under another name, so that a file called trials.sqlite is always complete and an
    # empty file counts as damaged (SQLite itself takes an empty file for a new database).
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.unlink(missing_ok=True)
    with closing(sqlite3.connect(temporary)) as connection:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute(SCHEMA)
        connection.commit()
    os.replace(temporary, path)


def _row(result: TrialResult) -> tuple[object, ...]:
    trial = result.trial
    return (
        trial.index,
        str(trial.super_block),
        trial.repeat,
        result.status,
        result.top1,
        result.cross_entropy,
        result.seconds,
        result.reason,
        result.balanced_accuracy,
    )


def _result(row: tuple[object, ...]) -> TrialResult:
    index, notation, repeat, *values = row  # of schema 1 without balanced accuracy, the last value
    trial = Trial(index, parse_super_block(notation), repeat)  # type: ignore[arg-type]
    return TrialResult(trial, *values)  # type: ignore[arg-type]
