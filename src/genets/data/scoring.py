"""The transform of an image that is scored, and its description for programs without genets."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from PIL import Image
from timm.data.transforms_factory import create_transform
from torch import Tensor

from genets.core.image_facts import Preprocessing
from genets.data.long_images import FILTERS, CentreOfLong
from genets.data.pixels import EXIF_ORIENTATION, MEAN, STD

Pixels = Callable[[Image.Image], Tensor]

EVEN = "halves to the even number"

DEFAULT = Preprocessing(mean=MEAN, std=STD)
"""The preprocessing of data sets whose images are files."""


def make_transform(preprocessing: Preprocessing, resolution: int) -> Pixels:
    """Make the transform from an image to pixels (3, resolution, resolution) as bytes.

    It is timm's; long images take less memory, see `CentreOfLong`.
    """
    transform: Pixels = create_transform(
        resolution,
        use_prefetcher=True,  # otherwise the result is normalised float32
        mean=preprocessing.mean,  # fills the border of crop_mode border
        interpolation=preprocessing.interpolation,
        crop_pct=preprocessing.crop_pct,
        crop_mode=preprocessing.crop_mode,
    )
    if preprocessing.crop_mode != "center" or preprocessing.interpolation not in FILTERS:
        return transform
    side = _resized_side(preprocessing, resolution)
    return CentreOfLong(transform, side, resolution, preprocessing.interpolation)


def _resized_side(preprocessing: Preprocessing, resolution: int) -> int:
    return math.floor(resolution / preprocessing.crop_pct)  # as timm rounds it


def _offset(side: str, crop: int) -> str:
    """The rule of `long_images.crop_offset`, in words."""
    return (
        f"round(({side} - {crop}) / 2), {EVEN}; -floor(({crop} - {side}) / 2) where {side} < {crop}"
    )


def describe_input(preprocessing: Preprocessing, resolution: int) -> dict[str, Any]:
    """Say completely how an image file becomes an input, in the order of the steps.

    `exported_script.py` follows this description, and a test compares both.

    Args:
        preprocessing: The preprocessing that the network was trained for.
        resolution: Pixels along one side of the input.

    Returns:
        Values for JSON.
    """
    side = _resized_side(preprocessing, resolution)
    resized_side, other_side = {
        "center": ("shorter", f"floor({side} * longer / shorter)"),
        "squash": ("both", None),
        "border": ("longer", f"round({side} * shorter / longer), {EVEN}"),
    }[preprocessing.crop_mode]
    fill = "the mean" if preprocessing.crop_mode == "border" else "zeros"
    has_border = preprocessing.crop_mode == "border" or side < resolution
    return {
        "exif_orientation": EXIF_ORIENTATION,
        "colours": "RGB",
        "other_colours": "converted by Pillow, Image.convert; of a palette by way of RGBA",
        "transparency": "dropped, without blending",
        "bit_depth": 8,
        "deeper_pixels": "of 16 bits the upper 8 are used",
        "resize": {
            "resized_side": resized_side,
            "pixels": side,
            "other_side": other_side,
            "interpolation": preprocessing.interpolation,
            "antialias": True,
            "library": "Pillow, Image.resize",
        },
        "crop": {
            "width": resolution,
            "height": resolution,
            "left": _offset("width", resolution),
            "top": _offset("height", resolution),
            "border": f"filled with {fill}" if has_border else None,
        },
        "values": "(pixel / 255 - mean) / std",
        "mean": list(preprocessing.mean),
        "std": list(preprocessing.std),
    }
