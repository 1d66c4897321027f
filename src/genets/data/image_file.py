"""Image files: the formats that are read, and their extensions."""

from __future__ import annotations

import os
import struct
from functools import cache
from typing import IO

from PIL import Image

# Pillow starts Ghostscript, another program, for EPS files. It knows the other formats by their
# first bytes only, and has no decoder for them.
UNREAD_FORMATS = ("EPS", "BUFR", "GRIB", "HDF5", "MPEG", "WMF")
BROKEN = (
    OSError, SyntaxError, ValueError, RuntimeError, EOFError, struct.error, LookupError,
    ArithmeticError, TypeError, AttributeError, AssertionError, Image.DecompressionBombError,
    Warning,
)  # fmt: skip
"""Errors that Pillow raises for files that are no image, or a damaged one, or a decompression bomb.

A warning is only raised where the user has turned warnings into errors.
"""


@cache
def image_extensions() -> dict[str, str]:
    """The format by extension, such as `.jpg`, for all formats that Pillow reads here."""
    extensions = Image.registered_extensions()  # loads the plugins of all formats
    return {
        extension: "JPEG" if name == "MPO" else name  # an MPO file begins as a JPEG file
        for extension, name in extensions.items()
        if name == "MPO" or (name in Image.OPEN and name not in UNREAD_FORMATS)
    }


@cache
def _readable_formats() -> tuple[str, ...]:
    readable = set(image_extensions().values())
    return tuple(name for name in Image.ID if name in readable)  # the common ones are first


def extension_of(name: str) -> str:
    """The extension of a file name in lower case, such as `.jpg`; empty where it has none."""
    return os.path.splitext(name)[1].lower()


def open_image(file: str | os.PathLike[str] | IO[bytes]) -> Image.Image:
    """Open an image file, whatever its extension. Raises one of `BROKEN`."""
    return Image.open(file, formats=_readable_formats())
