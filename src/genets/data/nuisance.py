"""Seeded distortions: small grey images on a colour canvas, rotated, moved and noisy."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from genets.core.errors import DataError
from genets.data.seeds import make_generator

NOISE_BANK = 1 << 18


@dataclass(frozen=True, slots=True)
class Nuisance:
    """The largest distortions of an image; each image draws its own values.

    Attributes:
        rotation_degrees: largest rotation in either direction.
        scale: smallest and largest size of the source, as a share of the canvas.
        stretch: largest difference between width and height, as a share.
        shear: largest slant, as the tangent of its angle.
        shift: largest move along each axis, as a share of the canvas.
        contrast: smallest and largest distance between the two colours in the unit cube.
        colour: deviation of the contrast's direction from grey; 0 gives light on dark, 2 gives
            nearly any pair of colours.
        tint: largest distance of the middle between the two colours from grey 0.5, per channel.
        noise: standard deviation of the noise that is added to each pixel and channel.

    Raises:
        DataError: a value is out of range.
    """

    rotation_degrees: float = 30.0
    scale: tuple[float, float] = (0.55, 1.0)
    stretch: float = 0.15
    shear: float = 0.25
    shift: float = 0.12
    contrast: tuple[float, float] = (0.4, 1.0)
    colour: float = 0.3
    tint: float = 0.1
    noise: float = 0.15

    def __post_init__(self) -> None:
        for name in ("scale", "contrast"):
            value = getattr(self, name)
            if not isinstance(value, tuple | list) or len(value) != 2:
                raise DataError(f"nuisance {name} must be two numbers, not {value}")
            object.__setattr__(self, name, tuple(value))
        for field in fields(self):
            value = getattr(self, field.name)
            numbers = value if isinstance(value, tuple) else (value,)
            if not all(math.isfinite(number) and number >= 0 for number in numbers):
                raise DataError(f"nuisance {field.name} must not be negative or NaN, not {value}")
        for name in ("scale", "contrast"):
            value = getattr(self, name)
            if not 0 < value[0] <= value[1]:
                raise DataError(
                    f"nuisance {name} must be positive numbers in ascending order, not {value}"
                )
        if self.stretch >= 1:
            raise DataError(f"nuisance stretch must be below 1, not {self.stretch}")


def render(
    sources: Tensor, resolution: int, nuisance: Nuisance, generator: torch.Generator
) -> Tensor:
    """Draw each source once, with its own distortions.

    Args:
        sources: (N, h, w), ink from 0 to 1.
        resolution: pixels along each side of the results.
        nuisance: the largest distortions.
        generator: the source of all random values.

    Returns:
        (N, 3, resolution, resolution), colours about 0 to 1 (noise may leave that range),
        channels last in memory.
    """
    count = len(sources)
    theta = _affine(count, nuisance, generator)
    shape = [count, 1, resolution, resolution]
    grid = F.affine_grid(theta, shape, align_corners=False)
    ink = F.grid_sample(sources[:, None], grid, mode="bilinear", align_corners=False)
    paper, stroke = _colours(count, nuisance, generator)
    image = _noise(count, resolution, nuisance.noise, generator)
    return image.add_(torch.addcmul(paper, stroke, ink))


def _affine(count: int, nuisance: Nuisance, generator: torch.Generator) -> Tensor:
    """(count, 2, 3): for each image, the map from canvas to source coordinates, both -1 to 1."""
    angle = math.radians(nuisance.rotation_degrees) * _symmetric(count, generator)
    size = _between(nuisance.scale, (count,), generator)
    stretch = nuisance.stretch * _symmetric(count, generator)
    shear = nuisance.shear * _symmetric(count, generator)
    shift = 2 * nuisance.shift * _symmetric((count, 2), generator)
    cos, sin = torch.cos(angle), torch.sin(angle)
    turn = torch.stack([cos, sin, -sin, cos], dim=1).view(count, 2, 2)
    zero = torch.zeros(count)
    wide, high = 1 / (size * (1 + stretch)), 1 / (size * (1 - stretch))
    slant = torch.stack([wide, wide * shear, zero, high], dim=1).view(count, 2, 2)
    linear = slant @ turn
    return torch.cat([linear, -linear @ shift[:, :, None]], dim=2)


def _colours(count: int, nuisance: Nuisance, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The colour of the paper, and the colour that full ink adds; both (count, 3, 1, 1)."""
    shape = (count, 3, 1, 1)
    direction = 3**-0.5 + nuisance.colour * torch.randn(shape, generator=generator)
    contrast = _between(nuisance.contrast, (count, 1, 1, 1), generator)
    stroke = contrast * F.normalize(direction, dim=1)
    middle = 0.5 + nuisance.tint * _symmetric(shape, generator)
    return middle - stroke / 2, stroke


def _noise(count: int, resolution: int, std: float, generator: torch.Generator) -> Tensor:
    """(count, 3, resolution, resolution), channels last.

    The noise is a window at a random place of a fixed bank of normal numbers. At 32 pixels this is
    about 100 times as fast as new numbers, which would take longer than the rest of an image.
    """
    length = 3 * resolution * resolution
    windows = _noise_bank(NOISE_BANK + length).unfold(0, length, 1)
    places = torch.randint(len(windows), (count,), generator=generator)
    noise = windows[places].mul_(std)
    return noise.view(count, resolution, resolution, 3).permute(0, 3, 1, 2)


@cache
def _noise_bank(length: int) -> Tensor:
    return torch.randn(length, generator=make_generator("noise bank"))


def _symmetric(shape: int | tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Uniform values from -1 to 1."""
    return 2 * torch.rand(shape, generator=generator) - 1


def _between(
    limits: tuple[float, float], shape: tuple[int, ...], generator: torch.Generator
) -> Tensor:
    low, high = limits
    return low + (high - low) * torch.rand(shape, generator=generator)
