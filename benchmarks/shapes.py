"""Textured shapes: a generated data set of 20 classes for benchmarks.

The classes are five shapes times four textures. Each image has 32 x 32 pixels and its own texture
size and phase. Like the digits, it is rotated, moved, stretched, coloured and made noisy anew in
every epoch. `load_data("shapes", ...)` works after this module is imported, also in a worker
process.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from genets.core.image_facts import Preprocessing
from genets.data import LOADERS, DigitsSplit, ImageData, Nuisance, make_generator, render
from genets.data.split import CPU, VALIDATION_SHARE, cut
from genets.nas.trials.runner import TrialJob

SHAPES = ("disc", "square", "triangle", "cross", "ring")
TEXTURES = ("stripes", "fine stripes", "checks", "dots")
EACH = 120  # images per class, over all splits
PIXELS = 32
TEST_SHARE = 0.25
NUISANCE = Nuisance(rotation_degrees=45.0, scale=(0.6, 1.0), noise=0.2)


@dataclass(frozen=True)
class ShapesTrialJob(TrialJob):
    """A trial job that imports this module in every process where it runs."""


def load_shapes(
    resolution: int,
    *,
    seed: int = 0,
    views: int = 4,
    device: torch.device = CPU,
) -> ImageData:
    """Load the shapes as `load_digits` does: the test split is the same for every seed."""
    sources, labels = _sources()
    rest, test = cut(labels.tolist(), TEST_SHARE, purpose="shapes test")
    own = labels[rest].tolist()
    train, validation = cut(own, VALIDATION_SHARE, purpose="shapes validation", seed=seed)
    sample = render(sources[rest], resolution, NUISANCE, make_generator("shapes scale"))
    mean, std = sample.mean().item(), sample.std().item()

    def split(purpose: str, positions: Tensor, views: int) -> DigitsSplit:
        return DigitsSplit(
            purpose, sources[positions], labels[positions], resolution, NUISANCE, mean, std, views,
            device=device,
        )  # fmt: skip

    return ImageData(
        name="shapes",
        resolution=resolution,
        class_names=tuple(f"{shape}, {texture}" for shape in SHAPES for texture in TEXTURES),
        train=split("train", torch.tensor(rest)[train], 1),
        validation=split("validation", torch.tensor(rest)[validation], views),
        test=split("test", torch.tensor(test), views),
        preprocessing=Preprocessing(mean=(mean,) * 3, std=(std,) * 3, crop_pct=1.0),
        seed=seed,
        cut_splits=("test", "validation"),
    )


@cache
def _sources() -> tuple[Tensor, Tensor]:
    """Images (20 * EACH, 32, 32) from 0 to 1, and their classes."""
    generator = make_generator("shapes", 0)
    count = len(SHAPES) * len(TEXTURES) * EACH
    labels = torch.arange(count) // EACH
    line = (torch.arange(PIXELS) + 0.5) / PIXELS * 2 - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    stretch = 1 + 0.1 * torch.randn(count, 2, 1, 1, generator=generator)
    masks = _masks(x * stretch[:, 0], y * stretch[:, 1])
    phase, jitter = torch.rand(2, count, 1, 1, generator=generator)
    inks = _textures(x, y, phase, 0.85 + 0.3 * jitter)
    rows = torch.arange(count)
    mask = masks[torch.div(labels, len(TEXTURES), rounding_mode="floor"), rows]
    ink = inks[labels % len(TEXTURES), rows]
    return (mask * (0.35 + 0.65 * ink)).clamp(0, 1), labels


def _masks(x: Tensor, y: Tensor) -> Tensor:
    """(shapes, N, 32, 32) of 0 and 1."""
    radius = (x**2 + y**2).sqrt()
    masks = (
        radius < 0.8,
        torch.maximum(x.abs(), y.abs()) < 0.7,
        (y < 0.65) & (y > 2 * x.abs() - 0.75),
        (torch.minimum(x.abs(), y.abs()) < 0.28) & (torch.maximum(x.abs(), y.abs()) < 0.8),
        (radius < 0.8) & (radius > 0.42),
    )
    return torch.stack(masks).float()


def _textures(x: Tensor, y: Tensor, phase: Tensor, size: Tensor) -> Tensor:
    """(textures, N, 32, 32) from 0 to 1. phase, size: (N, 1, 1)."""
    turn = 2 * torch.pi

    def wave(axis: Tensor, periods: float) -> Tensor:
        return torch.sin(turn * (axis * periods / 2 * size + phase))

    stripes = wave(y, 4), wave(y, 8)
    across = wave(x, 5) * wave(y, 5)
    dots = (wave(x, 6) > 0.3) & (wave(y, 6) > 0.3)
    return torch.stack([*((s > 0).float() for s in stripes), (across > 0).float(), dots.float()])


LOADERS["shapes"] = load_shapes
