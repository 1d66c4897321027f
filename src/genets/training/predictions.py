"""The predictions of networks for single images, and the intervals of shares and differences."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Classes = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Predictions:
    """The predicted class of each image of a split.

    Attributes:
        labels: Shape (images,), the true classes.
        classes: Shape (images,), the predicted classes.
    """

    labels: Classes
    classes: Classes

    @property
    def right(self) -> NDArray[np.bool_]:
        """Shape (images,), whether the image was recognised."""
        return np.asarray(self.labels == self.classes)

    def confusion(self) -> list[list[int]]:
        """Rows of true class, predicted class and number of images; numbers of 0 are left out."""
        pairs = np.stack([self.labels, self.classes], axis=1)
        rows, counts = np.unique(pairs, axis=0, return_counts=True)
        numbers: list[list[int]] = np.column_stack([rows, counts]).tolist()
        return numbers


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """The difference of the top-1 of two networks on the same images.

    Attributes:
        top1: Top-1 of the first network minus that of the second one.
        low, high: The 95 % interval, from the differences of single images. It holds for these two
            networks: other trainings would differ by more.
        images: The number of images.
    """

    top1: float
    low: float
    high: float
    images: int

    @property
    def half_width(self) -> float:
        """Half of the width of the interval, which is not symmetric around `top1`."""
        return (self.high - self.low) / 2

    @classmethod
    def between(cls, first: Predictions, second: Predictions) -> Self | None:
        """The difference; None where the images are not the same."""
        if not np.array_equal(first.labels, second.labels) or len(first.labels) < 2:
            return None
        one, other = first.right, second.right
        return cls.of_counts(
            both=int(np.sum(one & other)),
            only_first=int(np.sum(one & ~other)),
            only_second=int(np.sum(~one & other)),
            neither=int(np.sum(~one & ~other)),
        )

    @classmethod
    def of_counts(cls, both: int, only_first: int, only_second: int, neither: int) -> Self:
        """The difference from the numbers of images that both, one or none recognised.

        The interval is method 10 of Newcombe (1998, Statistics in Medicine 17, 2635-2650): the
        distances to the ends of both Wilson intervals are added as correlated errors. It has a
        width also where the networks differ in no image.
        """
        images = both + only_first + only_second + neither
        right = (both + only_first, both + only_second)
        (first_low, first_high), (second_low, second_high) = (
            share_interval(count, images) for count in right
        )
        first, second = (count / images for count in right)
        product = math.prod(count * (images - count) for count in right)
        covariance = float(both * neither - only_first * only_second)
        if covariance > 0:  # the correction for continuity
            covariance = max(0.0, covariance - images / 2)
        correlation = covariance / math.sqrt(product) if product else 0.0

        def combine(one: float, other: float) -> float:
            return math.sqrt(max(0.0, one**2 - 2 * correlation * one * other + other**2))

        top1 = (only_first - only_second) / images
        low = top1 - combine(first - first_low, second_high - second)
        high = top1 + combine(first_high - first, second - second_low)
        return cls(top1, max(-1.0, low), min(1.0, high), images)

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name)
                for name in ("top1", "half_width", "low", "high", "images")}  # fmt: skip

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`. Raises ValueError, TypeError or KeyError.

        Older versions stored half of the width of a symmetric interval.
        """
        top1, half_width = float(record["top1"]), float(record["half_width"])
        low = float(record.get("low", max(-1.0, top1 - half_width)))
        high = float(record.get("high", min(1.0, top1 + half_width)))
        if not (-1 <= low <= top1 <= high <= 1 and half_width >= 0):
            raise ValueError(f"a difference of {top1} from {low} to {high} is not possible")
        return cls(top1, low, high, int(record["images"]))


def share_interval(count: int, images: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of images.

    Unlike the normal approximation, it has a width also where the share is 0 or 1.

    Args:
        count: The number of images that count, such as the recognised ones.
        images: The number of all images, at least 1.

    Returns:
        The low and the high end, from 0 to 1.
    """
    from scipy.stats import binomtest  # half a second, which other commands need not wait for

    interval = binomtest(count, images).proportion_ci(0.95, "wilson")
    return float(interval.low), float(interval.high)
