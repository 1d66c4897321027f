"""Spectrum: the singular values of a convolution's kernel, and how many of them matter.

Rank of untrained kernels: what random weights of the same shape would show.

The squares of the singular values of a large Gaussian matrix follow the law of Marchenko and
Pastur (1967).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.integrate import cumulative_trapezoid
from scipy.stats import semicircular
from torch import Tensor

from genets.core.errors import GenetsError

ENERGY = 0.9  # the share of energy that counts as most of it
ROUNDING = 1e-12  # of a sum of squares, so that equal values count as equal


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Singular values of a kernel (section 3.3): one for each output channel, descending.

    values: the largest is 1, as in Figure 4. largest: what it was.
    Energy is the sum of the squares: the expected square of the output for white input.
    """

    values: NDArray[np.float64]
    largest: float

    @property
    def channels(self) -> int:
        return len(self.values)

    @property
    def stable_rank(self) -> float:
        """Energy over the largest square: from 1 to `channels`."""
        return float(np.sum(self.values**2))

    @property
    def effective_rank(self) -> float:
        """exp of the entropy of the values over their sum (Roy and Vetterli, 2007)."""
        shares = self.values[self.values > 0] / self.values.sum()
        return float(np.exp(-np.sum(shares * np.log(shares))))

    def directions(self, energy: float = ENERGY) -> int:
        """The least number of singular directions that hold this share of the energy."""
        reached = self._energies >= energy * self._energies[-1] * (1 - ROUNDING)
        return int(np.argmax(reached)) + 1

    def kept(self, ratio: float) -> float:
        """The share of energy that the best approximation of rank `ratio * channels` keeps.

        Nothing that goes through so few channels keeps more (Eckart and Young).
        """
        rank = min(round(ratio * self.channels), self.channels)
        return float(self._energies[rank - 1] / self._energies[-1]) if rank > 0 else 0.0

    @cached_property
    def _energies(self) -> NDArray[np.float64]:
        energies: NDArray[np.float64] = np.cumsum(self.values**2)
        return energies


def spectrum_of(weight: Tensor, groups: int = 1) -> Spectrum:
    """The spectrum of a convolution's kernel.

    weight: (c_out, c_in / groups, k, k). It is reshaped to (c_out, c_in k^2). A grouped kernel
    is the full one with zeros between the groups: its singular values are those of all groups
    together, and those of a depth-wise kernel the norms of its filters. Where c_in k^2 is less
    than c_out the rest is zero.
    Raises GenetsError: the kernel is not finite, or all zero.
    """
    channels = weight.shape[0]
    matrices = weight.detach().double().cpu().reshape(groups, channels // groups, -1)
    if not bool(torch.isfinite(matrices).all()):
        raise GenetsError("its weights are not finite")
    found = _singular_values(matrices)
    if not found.max() > 0:
        raise GenetsError("its weights are all zero")
    values = np.zeros(channels)
    values[: len(found)] = np.sort(found)[::-1]
    return Spectrum(values / values[0], float(values[0]))


def _singular_values(matrices: Tensor) -> NDArray[np.float64]:
    """Of all matrices (groups, rows, columns) together."""
    # By QR first: several times as fast for matrices as wide as these, and as exact.
    tall = matrices if matrices.shape[1] > matrices.shape[2] else matrices.mT
    triangles = torch.linalg.qr(tall, mode="r").R
    values: NDArray[np.float64] = torch.linalg.svdvals(triangles).flatten().numpy()
    return values


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
