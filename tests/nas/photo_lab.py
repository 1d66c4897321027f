"""Folders of images for tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image


def make_photos(root: Path, classes: Sequence[str] = ("cats", "dogs"), count: int = 6) -> Path:
    """Make class folders; each class is brighter than the class before it."""
    random = np.random.default_rng(0)
    for brightness, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 50, (12, 12, 3), dtype="uint8") + 100 * brightness
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root
