"""Images that cannot be read: a scan or a pass finds them; each is counted and reported once."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from PIL import UnidentifiedImageError

from genets.core.errors import DataError, first_line, shown
from genets.core.image_facts import MAX_BROKEN_SHARE
from genets.core.progress import OnProgress, Progress
from genets.data.image_file import BROKEN, open_image
from genets.data.pixels import as_rgb
from genets.data.share import WHOLE, Share

READING = "reading images"  # the name of the phase
REPORT_S = 0.2  # each report takes the lock of the progress bar, so not one for each image


class BrokenImages:
    """The unreadable images of a data set that were met so far, by name, with the reason.

    Broken images stay in their splits. In training, a neighbouring image replaces a broken one; in
    other passes the broken image is left out. So a run does not depend on when one is found.

    Attributes:
        data: name of the data set.
        images: number of images in all splits that are read.
        paths: the files of these images, for a scan; empty where images are not files.
        max_share: the largest share of broken images that is no error. One broken image is no error
            unless the share is 0.
        reasons: the reason for each broken image, by its name.
        report: called once with (name, reason) for each broken image; by default it warns.
    """

    def __init__(
        self,
        data: str,
        images: int,
        paths: Sequence[str] = (),
        max_share: float = MAX_BROKEN_SHARE,
    ) -> None:
        if not (_is_number(max_share) and 0 <= max_share <= 1):
            raise DataError(
                f"the largest share of broken images must be from 0 to 1, not {shown(max_share)}"
            )
        self.data = data
        self.images = images
        self.paths = paths
        self.max_share = max_share
        self.reasons: dict[str, str] = {}
        self.report: Callable[[str, str], None] = _warn

    def meet(self, broken: Mapping[str, str]) -> None:
        """Count new broken images, by name. Raises DataError if there are too many now."""
        new = {name: reason for name, reason in broken.items() if name not in self.reasons}
        self.reasons |= new
        if new and len(self.reasons) > self.max_count:
            name, reason = next(iter(new.items()))
            raise DataError(
                f"{len(self.reasons)} of {self.images} images of {self.data} cannot be read, such "
                f"as {name} ({reason}); at most {100 * self.max_share:.4g}% may be broken "
                "(option --max-broken-share)"
            )
        for name, reason in new.items():
            self.report(name, reason)

    @property
    def max_count(self) -> int:
        """The largest number of broken images that is no error."""
        count = math.floor(self.max_share * self.images)
        return max(1, count) if self.max_share else 0

    def scan(self, share: Share = WHOLE, on_progress: OnProgress | None = None) -> dict[str, str]:
        """Read all files, or a share of them, and return the broken ones with their reasons."""
        return broken_files(self.paths[share.of_pass()], on_progress)


def broken_files(
    paths: Sequence[str],
    on_progress: OnProgress | None = None,
    *,
    now: Callable[[], float] = time.monotonic,
) -> dict[str, str]:
    """The unreadable files with the reason; JPEGs are decoded at an eighth of the size.

    Args:
        paths: the files.
        on_progress: called with the number of files that have been read: with the first and the
            last one, and between them at most once in `REPORT_S` seconds.
        now: the time in seconds, from any origin.
    """
    reasons: list[str] = []
    reported_s = -math.inf
    with ThreadPoolExecutor() as pool:
        for reason in pool.map(_fault, paths):
            reasons.append(reason)
            now_s, is_last = now(), len(reasons) == len(paths)
            if on_progress is not None and (is_last or now_s - reported_s >= REPORT_S):
                on_progress(Progress(READING, len(reasons), len(paths)))
                reported_s = now_s
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
        with open_image(path) as image:
            image.draft("RGB", (1, 1))  # ignored by other formats than JPEG
            as_rgb(image)
    except BROKEN as error:
        return reason_of(error)
    return ""


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _warn(name: str, reason: str) -> None:
    warnings.warn(f"image {name} cannot be read ({reason}) and is skipped", stacklevel=3)
