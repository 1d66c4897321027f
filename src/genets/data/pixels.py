"""Pixels on their way from an image to a normalised batch: bytes as long as possible.

Bytes are a quarter of what numbers take, between processes and on the way to a GPU, and a batch
is normalised at once much faster than its images one by one.

Images in RGB, whatever their files hold.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.data.random_erasing import RandomErasing
from torch import Tensor

MEAN, STD = IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
FILLING = torch.tensor(MEAN).mul(255).round().to(torch.uint8).view(3, 1, 1)


class Erasing:
    """timm's random erasing, of pixels (3, H, W) that are bytes still; in place.

    It draws from Python's global generator.
    """

    def __init__(self, probability: float) -> None:
        erasing: Any = RandomErasing  # has no types
        self._erasing = erasing(probability, device="cpu")

    def __call__(self, pixels: Tensor) -> Tensor:
        self._erasing(_MeanForZero(pixels))
        return pixels


class _MeanForZero:
    """What timm's erasing takes for a normalised image: where it sets zero the mean is set."""

    def __init__(self, pixels: Tensor) -> None:
        self._pixels = pixels
        self.dtype = pixels.dtype

    def size(self) -> torch.Size:
        return self._pixels.size()

    def __setitem__(self, place: Any, zero: Tensor) -> None:
        self._pixels[place] = FILLING


def normalised(pixels: Tensor) -> Tensor:
    """Bytes (N, H, W, 3) as images (N, 3, H, W), float32, channels last in memory."""
    count, height, width, _ = pixels.shape
    # Whole rows at once: with a last dimension of 3 the same takes five times as long.
    rows = pixels.reshape(count * height, width * 3).float()
    scale, offset = _row(width, pixels.device)
    images = torch.addcmul(offset, rows, scale)
    return images.view(count, height, width, 3).permute(0, 3, 1, 2)


@cache
def _row(width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """What the bytes of a row are multiplied by, and what is added then; (3 * width,) each."""
    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    scale, offset = 1 / (255 * std), -mean / std
    return scale.repeat(width).to(device), offset.repeat(width).to(device)


def as_rgb(image: Image.Image) -> Image.Image:
    """The image read, in RGB; `convert` alone would copy one that is.

    Of 16 bits the upper 8 are taken, where `convert` would make all above 255 white.
    Raises ValueError: a mode whose range nobody knows; and what Pillow raises for broken files.
    """
    image.load()
    if image.mode == "RGB":
        return image
    if image.mode in ("F", "I") and image.format != "PPM":  # whose I holds 16 bits
        raise ValueError(f"pixels of mode {image.mode} have no known range")
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode == "P":
        image = image.convert("RGBA")  # or Pillow warns where colours are transparent
    return image.convert("RGB")
