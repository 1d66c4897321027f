"""Order statistics of timings; no distribution is assumed, as timings have a long upper tail."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr

Array = NDArray[np.float64]

CONFIDENCE = 0.95
TRIMMED_SHARE = 0.1  # at each end, in the protocol of the paper (section 3.2)
MIN_SAMPLES = 6  # with fewer samples, even smallest and largest do not enclose the median to 95 %


def median_interval(samples: Array) -> tuple[float, float]:
    """Bounds of the median from binomial order statistics, for independent samples.

    The number of n samples below the true median is Binomial(n, 1/2). So the k-th smallest and the
    k-th largest sample enclose the median with probability 1 - 2 P(B < k). The result uses the
    largest k that reaches CONFIDENCE. Below MIN_SAMPLES no k does; then the result is the
    smallest and the largest sample.
    """
    ordered = np.sort(samples)
    count = len(ordered)
    below = bdtr(np.arange(count), count, 0.5)  # P(B <= k)
    k = int(np.searchsorted(below, (1 - CONFIDENCE) / 2, side="right"))  # ranks from 1
    k = max(k, 1)
    return float(ordered[k - 1]), float(ordered[count - k])


def trimmed_mean(samples: Array) -> float:
    """Mean without the highest and the lowest TRIMMED_SHARE of the samples."""
    cut = int(len(samples) * TRIMMED_SHARE)
    return float(np.mean(np.sort(samples)[cut : len(samples) - cut]))


def median(samples: Array) -> float:
    """The median as a Python float."""
    return float(np.median(samples))


def rmspe(predicted: Array, measured: Array) -> float:
    """Root mean squared error, relative to the measured values."""
    return float(np.sqrt(np.mean((np.asarray(predicted) / np.asarray(measured) - 1) ** 2)))
