"""Enlargement and centre crop of long images: the pixels of timm's transform in little memory.

timm resizes the shorter side first: 20000 x 1 pixels become 5120000 x 256, which are 5 GB, and
nearly all of them are then cut off. Here only the pixels of the crop are computed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

MAX_RATIO = 8  # of the sides; photographs and panoramas are below this ratio
PRECISION_BITS = 22  # of the weights in Pillow's src/libImaging/Resample.c

Floats = NDArray[np.float64]


def _bilinear(x: Floats) -> Floats:
    return np.where(np.abs(x) < 1, 1 - np.abs(x), 0)


def _bicubic(x: Floats) -> Floats:
    a, x = -0.5, np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def _lanczos(x: Floats) -> Floats:
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)


# By the name of the interpolation: the filter and its reach, as Pillow defines them.
FILTERS: dict[str, tuple[Callable[[Floats], Floats], float]] = {
    "bilinear": (_bilinear, 1.0),
    "bicubic": (_bicubic, 2.0),
    "lanczos": (_lanczos, 3.0),
}


class CentreOfLong:
    """A transform to pixels (3, resolution, resolution) that takes bounded memory.

    An image that is not enlarged takes the transform as it is: its resized form is not larger than
    the image, and Pillow limits the pixels of an image.

    Args:
        transform: resizes the shorter side of an image to `side` pixels and crops the centre.
        side: pixels of the shorter side before the crop.
        resolution: pixels along each side of the crop.
        interpolation: a name in `FILTERS`.
    """

    def __init__(
        self,
        transform: Callable[[Image.Image], Tensor],
        side: int,
        resolution: int,
        interpolation: str,
    ) -> None:
        self._transform = transform
        self._sizes = side, resolution, interpolation

    def __call__(self, image: Image.Image) -> Tensor:
        short, long = sorted(image.size)
        if long <= MAX_RATIO * short or short >= self._sizes[0]:
            return self._transform(image)
        pixels: Tensor = pil_to_tensor(crop_enlarged(image, *self._sizes))
        return pixels


def crop_enlarged(
    image: Image.Image, side: int, resolution: int, interpolation: str
) -> Image.Image:
    """Enlarge an RGB image until its shorter side has `side` pixels, and crop the centre.

    Pillow enlarges the rows and then the columns, with bytes in between, and so does this function.
    """
    resample = Image.Resampling[interpolation.upper()]
    short, long = sorted(image.size)
    outputs = int(side * long / short)
    margin, first = (crop_offset(length, resolution) for length in (side, outputs))
    taps = _Taps(long, outputs, range(first, first + resolution), interpolation)
    low, high = taps.start, taps.stop
    if image.width == long:
        strip = np.asarray(image.crop((low, 0, high, short)))
        middle = np.ascontiguousarray(taps.apply(strip.swapaxes(0, 1)).swapaxes(0, 1))
        columns = Image.fromarray(middle).resize((resolution, side), resample)
        return columns.crop((0, margin, resolution, margin + resolution))
    rows = image.crop((0, low, short, high)).resize((side, high - low), resample)
    rows = rows.crop((margin, 0, margin + resolution, high - low))
    return Image.fromarray(taps.apply(np.asarray(rows)))


def crop_offset(length: int, crop: int) -> int:
    """The first pixel of a centre crop along one axis, as torchvision rounds it.

    It is negative where the crop is larger: the border of zeros before the image is the smaller.
    """
    return round((length - crop) / 2) if length >= crop else -((crop - length) // 2)


class _Taps:
    """Pillow's weights for some outputs of an enlargement along one axis.

    Args:
        length, outputs: pixels of the whole axis before and after.
        wanted: the outputs that are computed.
        interpolation: a name in `FILTERS`.

    Attributes:
        start, stop: the pixels that are needed.
    """

    def __init__(self, length: int, outputs: int, wanted: range, interpolation: str) -> None:
        kernel, reach = FILTERS[interpolation]
        self._taps: list[tuple[int, NDArray[np.int64]]] = []
        for output in wanted:
            center = (output + 0.5) * (length / outputs)
            low = max(int(center - reach + 0.5), 0)
            high = min(int(center + reach + 0.5), length)
            weights = kernel(np.arange(low, high, dtype=np.float64) - center + 0.5)
            scaled = weights / weights.sum() * (1 << PRECISION_BITS)
            self._taps.append((low, np.trunc(scaled + np.copysign(0.5, scaled)).astype(np.int64)))
        self.start = self._taps[0][0]
        self.stop = self._taps[-1][0] + len(self._taps[-1][1])

    def apply(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Enlarge the pixels `start` to `stop` of the axis: (stop - start, M, 3)."""
        half = 1 << (PRECISION_BITS - 1)
        lines = []
        for low, weights in self._taps:
            part = pixels[low - self.start :][: len(weights)].astype(np.int64)
            lines.append(np.tensordot(weights, part, 1) + half)
        values: NDArray[np.int64] = np.clip(np.stack(lines) >> PRECISION_BITS, 0, 255)
        return values.astype(np.uint8)
