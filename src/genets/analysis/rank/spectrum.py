"""The singular values of a convolution's kernel, and those of random weights for comparison.

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
from torch import Tensor

from genets.core.errors import GenetsError

ENERGY = 0.9  # the share of energy in the rank "90 % of the energy"
ROUNDING = 1e-12  # relative error of a sum of squares
POINTS = 4001  # of the curve of random weights


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Singular values of a kernel (section 3.3): one for each output channel, descending.

    The energy is the sum of their squares: the expected square of the output for white input.

    Attributes:
        values: The values divided by the largest, as in Figure 4.
        largest: The largest value.
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

    def directions(self) -> int:
        """The smallest number of singular directions that hold the share ENERGY of the energy."""
        reached = self._energies >= ENERGY * self._energies[-1] * (1 - ROUNDING)
        return int(np.argmax(reached)) + 1

    def kept(self, ratio: float) -> float:
        """The share of energy that the best approximation of rank `ratio * channels` keeps.

        No map through so few channels keeps more (Eckart and Young).
        """
        rank = min(round(ratio * self.channels), self.channels)
        return float(self._energies[rank - 1] / self._energies[-1]) if rank > 0 else 0.0

    @cached_property
    def _energies(self) -> NDArray[np.float64]:
        energies: NDArray[np.float64] = np.cumsum(self.values**2)
        return energies


def compute_spectrum(weight: Tensor, groups: int = 1) -> Spectrum:
    """Compute the spectrum of a convolution's kernel.

    The kernel is reshaped to a matrix (c_out, c_in k^2). A grouped kernel is a full kernel with
    zeros between the groups: its singular values are those of all groups together. The singular
    values of a depth-wise kernel are the norms of its filters. Where c_in k^2 is less than c_out,
    the remaining values are zero.

    Args:
        weight: (c_out, c_in / groups, k, k).
        groups: The groups of the convolution.

    Raises:
        GenetsError: The kernel is not finite, or all zero.
    """
    channels = weight.shape[0]
    matrices = weight.detach().double().cpu().reshape(groups, channels // groups, -1)
    if not bool(torch.isfinite(matrices).all()):
        raise GenetsError("its weights are not finite")
    nonzero = _singular_values(matrices)
    if not nonzero.max() > 0:
        raise GenetsError("its weights are all zero")
    values = np.zeros(channels)
    values[: len(nonzero)] = np.sort(nonzero)[::-1]
    return Spectrum(values / values[0], float(values[0]))


def _singular_values(matrices: Tensor) -> NDArray[np.float64]:
    """The singular values of all matrices (groups, rows, columns) together."""
    # A QR decomposition first is several times as fast for matrices as wide as these, and as exact.
    tall = matrices if matrices.shape[1] > matrices.shape[2] else matrices.mT
    triangles = torch.linalg.qr(tall, mode="r").R
    values: NDArray[np.float64] = torch.linalg.svdvals(triangles).flatten().numpy()
    return values


@cache
def random_share(channels: int, fan_in: int, energy: float = ENERGY) -> float:
    """The share of directions that holds this share of the energy of a random kernel.

    Args:
        channels: c_out of an ungrouped kernel.
        fan_in: c_in k^2.
        energy: The share of the energy.
    """
    from scipy.stats import semicircular  # half a second, which other commands need not wait for

    aspect = min(channels, fan_in) / max(channels, fan_in)
    # The energy by square is the density times the square, which is a semicircle.
    angle = np.arccos(semicircular.ppf(1 - energy))
    angles, tail = _tail(aspect)
    return float(np.interp(angle, angles, tail)) * min(1.0, fan_in / channels)


def random_curve(channels: int, fan_in: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The curve of Figure 4 for a random kernel: index over c_out, and value over the largest."""
    aspect = min(channels, fan_in) / max(channels, fan_in)
    angles, tail = _tail(aspect)
    values = np.sqrt(_squares(aspect, angles) / _squares(aspect, angles[:1]))
    return tail * min(1.0, fan_in / channels), values


def _tail(aspect: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Angles from 0 (the largest square) to pi (the smallest), and the share of larger squares.

    aspect: The shorter side of the matrix over the longer one.
    """
    # As a function of the angle, the density is singular only for aspect 1 at pi.
    angles = np.linspace(0, np.pi, POINTS)
    squares = np.maximum(_squares(aspect, angles), 1e-30)
    density = 2 * np.sin(angles) ** 2 / (np.pi * squares)
    density[-1] = 2 / np.pi if aspect == 1 else 0.0  # the limit at pi
    tail = cumulative_trapezoid(density, angles, initial=0.0)
    return angles, tail / tail[-1]


def _squares(aspect: float, angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """The squares of the singular values, with mean 1."""
    return np.asarray(1 + aspect + 2 * np.sqrt(aspect) * np.cos(angles))
