"""Folders and files that commands write: checked before the work begins, and marked.

A command marks a folder that it makes, so that a data set around the folder leaves it out, also
where the command was stopped before it wrote its results.
"""

from __future__ import annotations

import os
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path

from genets.core.errors import GenetsError, first_line
from genets.core.files import TEMPORARY_FILES, write_atomic

MARKER = ".genets"
_TEXT = "genets made this folder for its results. Data sets around this folder leave it out.\n"


def make_folder(folder: str | Path) -> None:
    """Make a folder for results and mark it, or take one that exists.

    A folder that exists is not marked, because a user may have made it for images.

    Raises:
        OSError: The folder cannot be made or written.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir()
    except FileExistsError:
        if not folder.is_dir():
            raise
        return
    try:
        write_atomic(folder / MARKER, _TEXT)
    except BaseException:  # the next command must not find a folder without a mark
        with suppress(OSError):
            folder.rmdir()
        raise


def is_free(folder: Path) -> bool:
    """Whether a folder holds nothing but the mark and temporary files. Raises OSError."""
    names = os.listdir(folder)
    return all(name == MARKER or fnmatchcase(name, TEMPORARY_FILES) for name in names)


def is_marked(folder: str | Path) -> bool:
    """Whether a command made the folder for its results."""
    return os.path.isfile(os.path.join(folder, MARKER))


def check_writable_folder(folder: str | Path) -> None:
    """Check that a folder can be made, or that files can be written into it; nothing is written.

    Raises:
        GenetsError: A file or a link to nothing is in the way, a name is too long, or there is no
            permission.
    """
    place = _nearest(folder)
    if not place.is_dir():
        raise _refusal(folder, f"{place} is a {'file' if place.exists() else 'link to nothing'}")
    _check_permission(folder, place)


def check_writable_file(file: str | Path) -> None:
    """Check that a file can be written into a folder that exists; nothing is written.

    Raises:
        GenetsError: The folder does not exist, a folder is in the way, a name is too long, or
            there is no permission.
    """
    parent = Path(file).absolute().parent
    if not parent.is_dir():
        raise _refusal(file, "its folder does not exist")
    if _nearest(file) != parent and os.path.isdir(file):
        raise _refusal(file, "it is a folder")
    _check_permission(file, parent)


def _nearest(wanted: str | Path) -> Path:
    """The path itself, or the nearest place above it that exists. Raises GenetsError."""
    path = Path(wanted).absolute()
    place = path
    try:
        while not _exists(place):
            place = place.parent
        for name in path.relative_to(place).parts:
            _exists(place / name)
    except OSError as error:
        raise _refusal(wanted, error.strerror or first_line(error)) from error
    return place


def _exists(path: Path) -> bool:
    """Whether a path exists. Raises OSError for a name that is too long or below a file."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    return True


def _check_permission(wanted: str | Path, place: Path) -> None:
    if not os.access(place, os.W_OK | os.X_OK):
        raise _refusal(wanted, f"no permission to write into {place}")


def _refusal(wanted: str | Path, reason: str) -> GenetsError:
    return GenetsError(f"cannot write {str(wanted)!r}: {reason}")
