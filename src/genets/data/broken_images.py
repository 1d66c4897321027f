"""Images that cannot be read: a scan or a pass finds them; each is counted and reported once."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from PIL import Image, UnidentifiedImageError

from genets.core.errors import DataError, first_line
from genets.data.pixels import as_rgb
from genets.data.share import WHOLE, Share

MAX_BROKEN_SHARE = 0.01
BROKEN = (
    OSError, SyntaxError, ValueError, RuntimeError, EOFError, struct.error,
    Image.DecompressionBombError,
)  # fmt: skip
"""Errors that Pillow raises for files that are no image or only the beginning of an image."""


class BrokenImages:
    """The unreadable images of a data set that were met so far, by name, with the reason.

    Broken images stay in their splits. In training, a neighbouring image replaces a broken one; in
    other passes the broken image is left out. So a run does not depend on when one is found.

    Attributes:
        data: name of the data set.
        images: number of images in all splits; more than 1 % broken images are an error.
        paths: the files of all images, for a scan; empty where images are not files.
        reasons: the reason for each broken image, by its name.
        report: called once with (name, reason) for each broken image; by default it warns.
    """

    def __init__(self, data: str, images: int, paths: Sequence[str] = ()) -> None:
        self.data = data
        self.images = images
        self.paths = paths
        self.reasons: dict[str, str] = {}
        self.report: Callable[[str, str], None] = _warn

    def meet(self, broken: Mapping[str, str]) -> None:
        """Count new broken images, by name. Raises DataError if there are too many now."""
        new = {name: reason for name, reason in broken.items() if name not in self.reasons}
        self.reasons |= new
        if new and len(self.reasons) > MAX_BROKEN_SHARE * self.images:
            name, reason = next(iter(new.items()))
            raise DataError(
                f"{len(self.reasons)} of {self.images} images of {self.data} cannot be read, such "
                f"as {name} ({reason}); at most {MAX_BROKEN_SHARE:.0%} may be broken"
            )
        for name, reason in new.items():
            self.report(name, reason)

    def scan(self, share: Share = WHOLE) -> dict[str, str]:
        """Read all files, or a share of them, and return the broken ones with their reasons."""
        return broken_files(self.paths[share.of_pass()])


def broken_files(paths: Sequence[str]) -> dict[str, str]:
    """The unreadable files with the reason; JPEGs are decoded at an eighth of the size."""
    with ThreadPoolExecutor() as pool:
        reasons = list(pool.map(_fault, paths, chunksize=64))
    return {path: reason for path, reason in zip(paths, reasons, strict=True) if reason}


def reason_of(error: BaseException) -> str:
    """The reason in one line, as a rule without the path."""
    if isinstance(error, UnidentifiedImageError):  # its message repeats the file
        return "cannot identify image file"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return first_line(error)


def _fault(path: str) -> str:
    """The reason why the image cannot be read, or an empty text."""
    try:
        with Image.open(path) as image:
            image.draft("RGB", (1, 1))  # ignored by other formats than JPEG
            as_rgb(image)
    except BROKEN as error:
        return reason_of(error)
    return ""


def _warn(name: str, reason: str) -> None:
    warnings.warn(f"image {name} cannot be read ({reason}) and is skipped", stacklevel=3)
