"""Order statistics of timings. No distribution is assumed: timings have a long upper tail."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr

Array = NDArray[np.float64]


MIN_SAMPLES = 6  # with fewer, not even smallest and largest enclose the median to 95 %


def median_interval(samples: Array, confidence: float = 0.95) -> tuple[float, float]:
    """Bounds of the median from binomial order statistics, for independent samples.

    With n samples the number below the true median is Binomial(n, 1/2), so the k-th smallest
    and the k-th largest enclose it with probability 1 - 2 P(B < k). The largest k that keeps
    `confidence` is taken; below MIN_SAMPLES none does, and smallest and largest are returned.
    """
    ordered = np.sort(samples)
    count = len(ordered)
    below = bdtr(np.arange(count), count, 0.5)  # P(B <= k)
    k = int(np.searchsorted(below, (1 - confidence) / 2, side="right"))  # ranks from 1
    k = max(k, 1)
    return float(ordered[k - 1]), float(ordered[count - k])


def trimmed_mean(samples: Array, share: float = 0.1) -> float:
    """Mean after the highest and the lowest `share` are dropped (paper, section 3.2)."""
    cut = int(len(samples) * share)
    return float(np.mean(np.sort(samples)[cut : len(samples) - cut]))


def median(samples: Array) -> float:
    return float(np.median(samples))


def rmspe(predicted: Array, measured: Array) -> float:
    """Root of the mean squared error, as a fraction of what was measured."""
    return float(np.sqrt(np.mean((np.asarray(predicted) / np.asarray(measured) - 1) ** 2)))
