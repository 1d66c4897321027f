"""Generated pictures for speed benchmarks: noise of several scales, stored as JPEG.

They take as long to decode as photographs of their size, and contain nothing to learn.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SCALES = (4, 16, 80)  # pixels


def write_photos(folder: Path, count: int, sides: tuple[int, int], seed: int) -> None:
    """Write `count` pictures of `sides` (width, height) into a new folder."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    for number in range(count):
        picture(sides, random).save(folder / f"{number}.jpg", quality=90)


def picture(sides: tuple[int, int], random: np.random.Generator) -> Image.Image:
    width, height = sides
    pixels = np.full((height, width, 3), 128, dtype=np.float32)
    for scale in SCALES:
        shape = -(-height // scale), -(-width // scale), 3
        cells = random.normal(0, 30, shape).astype(np.float32)
        pixels += cells.repeat(scale, axis=0).repeat(scale, axis=1)[:height, :width]
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
