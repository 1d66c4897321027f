"""Pixels from an image file to a normalised batch; they stay bytes as long as possible.

Bytes take a quarter of the space of float32, between processes and on the way to a GPU, and one
batch is normalised much faster than its images one by one.
"""

from __future__ import annotations

import os
from functools import cache
from typing import IO, Any

import numpy as np
import torch
from PIL import Image
from PIL.ExifTags import Base
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.data.random_erasing import RandomErasing
from torch import Tensor

from genets.core.image_facts import Preprocessing
from genets.data.image_file import BROKEN, open_image

MEAN, STD = IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
FILLING = torch.tensor(MEAN).mul(255).round().to(torch.uint8).view(3, 1, 1)
EXIF_ORIENTATION = "applied"
"""The value of `exif_orientation` in the input contract: images are turned as EXIF asks."""

# The EXIF standard numbers the orientations from 1, the upright one.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Erasing:
    """timm's random erasing for pixels (3, H, W) that are still bytes; it works in place.

    It draws from Python's global generator.
    """

    def __init__(self, probability: float) -> None:
        erasing: Any = RandomErasing  # has no types
        self._erasing = erasing(probability, device="cpu")

    def __call__(self, pixels: Tensor) -> Tensor:
        self._erasing(_MeanForZero(pixels))
        return pixels


class _MeanForZero:
    """Poses as a normalised image for timm's erasing: where timm sets zero, the mean is set.

    timm uses only `size`, `dtype` and item assignment; a version that uses more breaks this class.
    """

    def __init__(self, pixels: Tensor) -> None:
        self._pixels = pixels
        self.dtype = pixels.dtype

    def size(self) -> torch.Size:
        return self._pixels.size()

    def __setitem__(self, place: Any, zero: Tensor) -> None:
        self._pixels[place] = FILLING


def normalised(pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Turn bytes (N, H, W, 3) into images (N, 3, H, W), float32, channels last in memory."""
    count, height, width, _ = pixels.shape
    # Rows are computed as one dimension: with a last dimension of 3 it takes five times as long.
    rows = pixels.reshape(count * height, width * 3).float()
    scale, offset = _row(width, preprocessing, pixels.device)
    images = torch.addcmul(offset, rows, scale)
    return images.view(count, height, width, 3).permute(0, 3, 1, 2)


@cache
def _row(width: int, preprocessing: Preprocessing, device: torch.device) -> tuple[Tensor, Tensor]:
    """The factors and the offsets for the bytes of a row; (3 * width,) each."""
    mean, std = torch.tensor(preprocessing.mean), torch.tensor(preprocessing.std)
    scale, offset = 1 / (255 * std), -mean / std
    return scale.repeat(width).to(device), offset.repeat(width).to(device)


def read_rgb(file: str | os.PathLike[str] | IO[bytes]) -> Image.Image:
    """Read an image file as every part of genets does; see `as_rgb`."""
    with open_image(file) as image:
        return as_rgb(image)


def as_rgb(image: Image.Image) -> Image.Image:
    """Read the image, convert it to RGB and turn it upright; an upright RGB image is not copied.

    Of 16-bit values the upper 8 bits are used; `convert` would make all values above 255 white.
    Cameras store the orientation in EXIF. Browsers, OpenCV and phones apply it, so a network gets
    upright images when it is used, and must get them in training, too.

    Raises:
        ValueError: the mode has no known range of values. Pillow raises other errors for broken
            files; see `image_file.BROKEN`.
    """
    image.load()
    turn = UPRIGHT.get(_orientation(image))
    image = _converted(image)
    if turn is not None:
        image = image.transpose(turn)
        image.info = {}  # otherwise a second call would turn the image again
    return image


def _orientation(image: Image.Image) -> int:
    """The orientation from 1 to 8 that EXIF or XMP states; 1 where none can be read."""
    try:
        return int(image.getexif().get(Base.Orientation, 1))
    except BROKEN:  # the EXIF data are damaged, not the pixels
        return 1


def _converted(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode in ("F", "I") and image.format != "PPM":  # mode I of a PPM file holds 16 bits
        raise ValueError(f"pixels of mode {image.mode} have no known range")
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode == "P":
        image = image.convert("RGBA")  # otherwise Pillow warns of transparent colours
    return image.convert("RGB")
