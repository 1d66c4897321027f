"""Images in RGB, whatever their files hold."""

from __future__ import annotations

import numpy as np
from PIL import Image


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
