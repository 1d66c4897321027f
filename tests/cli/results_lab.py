"""Results folders with small networks for the commands that take one, and images for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from genets.data import ImageData, load_digits
from genets.networks import build, save_weights
from genets.structure import Structure
from genets.training import Recipe, train

STRUCTURE = Structure.parse("Conv3x16s2 XX3x32s2 XX3x48s2 Conv1x64 @16")


def write_results(folder: Path, *, epochs: int = 0, seed: int = 0) -> ImageData:
    """Write a results folder with a network of the digits; returns its images."""
    data = load_digits(STRUCTURE.resolution, seed=seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = build(STRUCTURE, data.num_classes)
        if epochs:
            recipe = Recipe(epochs, learning_rate=1.2, warmup_epochs=1, label_smoothing=0.0)
            train(net, data.train, recipe, seed=seed)
    folder.mkdir(parents=True, exist_ok=True)
    STRUCTURE.save(folder / "structure.toml")
    save_weights(net, folder / "weights.safetensors", data.weights_metadata())
    return data


def write_digits(
    folder: Path, data: ImageData, for_each_class: int, purpose: str = "test"
) -> list[Path]:
    """Write images of a split as PNG files, in one folder for each class; returns the files."""
    files: list[Path] = []
    split = {"train": data.train, "test": data.test}[purpose]
    for images, labels in split.batches(64):
        mean, std = (torch.tensor(each).view(3, 1, 1) for each in (data.mean, data.std))
        pixels = ((images * std + mean) * 255).round().clamp(0, 255).byte()
        rows = pixels.permute(0, 2, 3, 1).numpy()
        for image, label in zip(rows, labels.tolist(), strict=True):
            place = folder / data.class_names[label]
            place.mkdir(parents=True, exist_ok=True)
            if len(list(place.iterdir())) < for_each_class:
                files.append(place / f"{len(files):04d}.png")
                Image.fromarray(np.ascontiguousarray(image)).save(files[-1])
        if len(files) == for_each_class * data.num_classes:
            return sorted(files)
    raise AssertionError("the split has too few images")
