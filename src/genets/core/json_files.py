"""JSON files that are written completely or not at all, and their format versions."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from genets.core.errors import GenetsError, first_line, shown
from genets.core.files import write_atomic

Content = TypeVar("Content")

VERSION_KEY = "version"
# The errors of a reader for foreign JSON. GenetsError, JSON and UTF-8 errors are ValueErrors.
# RecursionError: JSON that is nested too deeply. ArithmeticError: an infinity as an integer.
# MemoryError: a number that makes a table huge.
READ_ERRORS = (
    ValueError, LookupError, TypeError, AttributeError, RecursionError, ArithmeticError,
    MemoryError,
)  # fmt: skip


class FormatVersionError(GenetsError):
    """A file has a format version that this genets does not read."""


def json_text(value: Any) -> str:
    """Give plain values as indented JSON. Raises ValueError for NaN and infinities."""
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` to `path` as indented JSON, completely or not at all.

    Args:
        path: The file; an existing one is replaced.
        value: Plain values without NaN and infinities.

    Raises:
        OSError: The file cannot be written; its `filename` is `path`.
        ValueError: `value` holds NaN or an infinity.
    """
    write_atomic(path, json_text(value))


def read_json(
    path: str | Path,
    read: Callable[[Any], Content],
    *,
    raises: type[GenetsError] = GenetsError,
    cure: str = "remove it to have it computed again",
) -> Content | None:
    """Read a JSON file.

    Args:
        path: The file.
        read: Makes the result from the parsed JSON; it may raise the errors of foreign JSON.
        raises: The class of the error for a damaged file.
        cure: Advice to the user about a damaged file.

    Returns:
        The result of `read`, or None where there is no such file.

    Raises:
        GenetsError: The file is damaged or of another version; of class `raises`.
        OSError: The file exists and cannot be read.
    """
    try:
        return read(json.loads(Path(path).read_bytes()))
    except FileNotFoundError:
        return None
    except FormatVersionError as error:
        raise raises(f"{path} {error}") from error
    except READ_ERRORS as error:
        raise raises(f"{path} is damaged ({describe_damage(error)}); {cure}") from error


def check_version(record: Mapping[str, Any], *, newest: int, oldest: int = 1) -> int:
    """Check the format version of a record; call it in the `read` function of a file.

    Args:
        record: The content of the file; its key "version" is the version. A record without the
            key has version 1: it was written before files had versions.
        newest: The version that this genets writes.
        oldest: The oldest version that this genets reads.

    Returns:
        The version of the record.

    Raises:
        FormatVersionError: This genets does not read the version. `read_json` and
            `ResumableFolder.read_settings` put the path of the file before its message.
    """
    version = record.get(VERSION_KEY, 1)
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise FormatVersionError(
            f"has format version {shown(version)}; it must be an integer above 0"
        )
    if version > newest:
        raise FormatVersionError(
            f"has format version {version}, and this genets reads versions up to {newest}; "
            f"update genets"
        )
    if version < oldest:
        raise FormatVersionError(
            f"has format version {version}, and this genets reads versions from {oldest}; "
            f"move it away, or use the genets that wrote it"
        )
    return version


def describe_damage(error: Exception) -> str:
    """Describe the fault of foreign JSON in a few words, from one of `READ_ERRORS`."""
    return f"it has no {error}" if type(error) is KeyError else first_line(error)
