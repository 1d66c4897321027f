"""Folders of small images."""

import numpy as np
from PIL import Image


def write(path, seed=0, size=(12, 10)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def fill(root, classes=("cat", "dog"), count=10, suffix=".png"):
    for number, name in enumerate(classes):
        for i in range(count):
            write(root / name / f"{i}{suffix}", seed=1000 * number + i)
    return root
