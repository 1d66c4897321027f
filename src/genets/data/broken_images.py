"""Images that cannot be read: found by a scan, or met on the way, and then named and counted."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from PIL import Image, UnidentifiedImageError

from genets.core.errors import DataError
from genets.data.pixels import as_rgb
from genets.data.share import WHOLE, Share

MOST_BROKEN = 0.01
BROKEN = (
    OSError, SyntaxError, ValueError, RuntimeError, EOFError, struct.error,
    Image.DecompressionBombError,
)  # fmt: skip
"""What Pillow raises for files that are no images, or only the beginning of one."""


class BrokenImages:
    """Those of a data set that were met so far, by name, with the reason.

    They stay in their splits: while training the image beside it stands in for one, in other
    passes it is left out. So it makes no difference to a run when one is found.
    images: how many there are in all splits; more than 1 % broken ones are too many.
    paths: their files, for a scan; empty where there are none.
    tell: called once with (name, reason) for each; replace it to keep them elsewhere.
    """

    def __init__(self, data: str, images: int, paths: Sequence[str] = ()) -> None:
        self.data = data
        self.images = images
        self.paths = paths
        self.reasons: dict[str, str] = {}
        self.tell: Callable[[str, str], None] = _warn

    def meet(self, found: Mapping[str, str]) -> None:
        """Count those that are new. Raises DataError if they are too many now."""
        new = {name: reason for name, reason in found.items() if name not in self.reasons}
        self.reasons |= new
        if new and len(self.reasons) > MOST_BROKEN * self.images:
            name, reason = next(iter(new.items()))
            raise DataError(
                f"{len(self.reasons)} of {self.images} images of {self.data} cannot be read, such "
                f"as {name} ({reason}); at most {MOST_BROKEN:.0%} may be broken"
            )
        for name, reason in new.items():
            self.tell(name, reason)

    def scan(self, share: Share = WHOLE) -> dict[str, str]:
        """What `meet` takes, of all files, or of a share of them."""
        return broken_files(self.paths[share.of_pass()])


def broken_files(paths: Sequence[str]) -> dict[str, str]:
    """Those that cannot be read, and why. JPEGs are decoded at an eighth of the size."""
    with ThreadPoolExecutor() as pool:
        reasons = list(pool.map(_fault, paths, chunksize=64))
    return {path: reason for path, reason in zip(paths, reasons, strict=True) if reason}


def reason_of(error: BaseException) -> str:
    """One line, as a rule without the path."""
    if isinstance(error, UnidentifiedImageError):  # which names the file, however it was given
        return "cannot identify image file"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _fault(path: str) -> str:
    """Why the image cannot be read, or nothing."""
    try:
        with Image.open(path) as image:
            image.draft("RGB", (1, 1))  # ignored by other formats than JPEG
            as_rgb(image)
    except BROKEN as error:
        return reason_of(error)
    return ""


def _warn(name: str, reason: str) -> None:
    warnings.warn(f"image {name} cannot be read ({reason}) and is skipped", stacklevel=3)
