"""A folder of images for a machine that lacks it: a small one travels as bytes.

No link travels: a link to a file or folder travels as its content. So only plain files are written.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from genets.core.errors import GenetsError

MAX_TRAVELLING_BYTES = 256 * 2**20  # of all files together; larger folders need a shared disk
FOLDER = "images"


def read_folder(folder: Path, max_bytes: int = MAX_TRAVELLING_BYTES) -> dict[str, bytes]:
    """Read all files of a folder.

    Args:
        folder: The folder.
        max_bytes: The largest size of all files together.

    Returns:
        The contents by the path in the folder, with `/`.

    Raises:
        GenetsError: The files are larger, or one of them cannot be read.
    """
    sizes = 0
    files: list[Path] = []
    try:
        for path in _find_files(folder):
            sizes += path.stat().st_size
            if sizes > max_bytes:
                raise GenetsError(f"its files have more than {max_bytes / 2**20:g} MiB")
            files.append(path)
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
    except OSError as error:
        raise GenetsError(f"cannot read {str(error.filename)!r}: {error.strerror}") from error


def _find_files(folder: Path) -> Iterator[Path]:
    """Find all files, also behind links; a link to a folder above it is not followed."""

    def fail(error: OSError) -> None:
        raise error

    for place, folders, names in os.walk(folder, onerror=fail, followlinks=True):
        here = Path(place)
        above = {os.path.realpath(each) for each in (here, *here.parents)}
        folders[:] = sorted(name for name in folders if os.path.realpath(here / name) not in above)
        yield from (here / name for name in sorted(names) if (here / name).is_file())


def write_folder(place: Path, contents: Mapping[str, bytes]) -> Path:
    """Write the files of a folder once for all processes that call this with the same place.

    Args:
        place: An existing folder.
        contents: See `read_folder`.

    Returns:
        The folder with the files.

    Raises:
        GenetsError: A path leaves the folder, or the disk is full.
    """
    folder, part = place / FOLDER, place / f"{FOLDER}.part"
    try:
        with (place / f"{FOLDER}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                for name, content in contents.items():
                    path = part / _check_inside(name)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content)
                part.rename(folder)
    except OSError as error:
        raise GenetsError(f"cannot write images to {place}: {error.strerror}") from error
    return folder


def _check_inside(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise GenetsError(f"the path of an image leaves its folder: {name!r}")
    return path
