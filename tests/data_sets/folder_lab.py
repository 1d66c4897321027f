"""Folders of small images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image


def write(path: Path, seed: int = 0, size: tuple[int, int] = (12, 10)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def fill(
    root: Path, classes: Sequence[str] = ("cat", "dog"), count: int = 10, suffix: str = ".png"
) -> Path:
    for number, name in enumerate(classes):
        for i in range(count):
            write(root / name / f"{i}{suffix}", seed=1000 * number + i)
    return root
