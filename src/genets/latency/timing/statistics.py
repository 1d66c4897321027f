"""Order statistics of timings; no distribution is assumed, as timings have a long upper tail."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr

Array = NDArray[np.float64]

MIN_SAMPLES = 6  # with fewer samples, even smallest and largest do not enclose the median to 95 %


def median_interval(samples: Array, confidence: float = 0.95) -> tuple[float, float]:
    """Bounds of the median from binomial order statistics, for independent samples.

    The number of n samples below the true median is Binomial(n, 1/2). So the k-th smallest and the
    k-th largest sample enclose the median with probability 1 - 2 P(B < k). The result uses the
    largest k that reaches `confidence`. Below MIN_SAMPLES no k does; then the result is the
    smallest and the largest sample.
    """
    ordered = np.sort(samples)
    count = len(ordered)
    below = bdtr(np.arange(count), count, 0.5)  # P(B <= k)
    k = int(np.searchsorted(below, (1 - confidence) / 2, side="right"))  # ranks from 1
    k = max(k, 1)
    return float(ordered[k - 1]), float(ordered[count - k])


def trimmed_mean(samples: Array, share: float = 0.1) -> float:
    """Mean without the highest and the lowest `share` of the samples (paper, section 3.2)."""
    cut = int(len(samples) * share)
    return float(np.mean(np.sort(samples)[cut : len(samples) - cut]))


def median(samples: Array) -> float:
    """The median as a Python float."""
    return float(np.median(samples))


def rmspe(predicted: Array, measured: Array) -> float:
    """Root mean squared error, relative to the measured values."""
    return float(np.sqrt(np.mean((np.asarray(predicted) / np.asarray(measured) - 1) ** 2)))
