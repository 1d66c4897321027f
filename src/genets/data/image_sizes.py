"""The sizes of the training images, for settings that follow from them."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median_low

from genets.core.errors import DataError
from genets.core.image_facts import ImageSizes
from genets.data.image_file import BROKEN, open_image
from genets.data.pool import PoolSplit
from genets.data.split import ImageData

MAX_MEASURED = 500  # the standard error of the median is then a twentieth of the deviation


def measure_images(data: ImageData) -> ImageSizes:
    """Measure training images that are spread evenly over the data set.

    Of a file, only the header is read. Broken images are left out.

    Args:
        data: A data set whose images are read one by one.

    Raises:
        DataError: None of the measured images can be read.
    """
    split = data.train
    assert isinstance(split, PoolSplit), data.name
    sides = list(_shorter_sides(split))
    if not sides:
        raise DataError(
            f"none of the training images of {data.name} that were measured can be read"
        )
    return ImageSizes(len(split), median_low(sides))


def _shorter_sides(split: PoolSplit) -> Iterator[int]:
    """The shorter sides of some images, in pixels."""
    paths = getattr(split.images, "paths", None)
    every = -(-len(split) // MAX_MEASURED)
    for position in split.positions[::every]:
        try:
            if paths is None:
                yield min(split.images[position][0].size)
            else:
                with open_image(paths[position]) as image:
                    yield min(image.size)
        except BROKEN:
            continue
