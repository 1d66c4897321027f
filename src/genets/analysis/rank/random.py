"""Rank of untrained kernels: what random weights of the same shape would show.

The squares of the singular values of a large Gaussian matrix follow the law of Marchenko and
Pastur (1967).
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import cumulative_trapezoid
from scipy.stats import semicircular

from genets.analysis.rank.spectrum import ENERGY

POINTS = 4001


@cache
def random_share(channels: int, fan_in: int, energy: float = ENERGY) -> float:
    """The share of directions that holds this share of the energy of a random kernel.

    channels, fan_in: c_out and c_in k^2 of an ungrouped kernel.
    """
    aspect = min(channels, fan_in) / max(channels, fan_in)
    # Energy over squares is the density times the square: a semicircle.
    angle = np.arccos(semicircular.ppf(1 - energy))
    angles, tail = _tail(aspect)
    return float(np.interp(angle, angles, tail)) * min(1.0, fan_in / channels)


def random_curve(channels: int, fan_in: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The curve of Figure 4 for a random kernel: index over c_out, value over the largest."""
    aspect = min(channels, fan_in) / max(channels, fan_in)
    angles, tail = _tail(aspect)
    values = np.sqrt(_squares(aspect, angles) / _squares(aspect, angles[:1]))
    return tail * min(1.0, fan_in / channels), values


def _tail(aspect: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The share of squares above each, at angles from 0 (the largest) to pi (the least).

    aspect: the shorter side over the longer.
    """
    # In the angle the density has no singular ends, but for aspect 1 at pi.
    angles = np.linspace(0, np.pi, POINTS)
    squares = np.maximum(_squares(aspect, angles), 1e-30)
    density = 2 * np.sin(angles) ** 2 / (np.pi * squares)
    density[-1] = 2 / np.pi if aspect == 1 else 0.0  # the limit
    tail = cumulative_trapezoid(density, angles, initial=0.0)
    return angles, tail / tail[-1]


def _squares(aspect: float, angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squares of singular values, the mean being 1."""
    return np.asarray(1 + aspect + 2 * np.sqrt(aspect) * np.cos(angles))
