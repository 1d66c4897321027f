"""The predictions of networks for single images, and differences that are paired over images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

NORMAL_95 = 1.96  # standard deviations to either side of a 95 % interval

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
        half_width: Half of the width of the 95 % interval, from the differences of single images.
            It holds for these two networks: other trainings would differ by more.
        images: The number of images.
    """

    top1: float
    half_width: float
    images: int

    @classmethod
    def between(cls, first: Predictions, second: Predictions) -> Self | None:
        """The difference; None where the images are not the same."""
        if not np.array_equal(first.labels, second.labels) or len(first.labels) < 2:
            return None
        differences = first.right.astype(float) - second.right
        error = float(differences.std(ddof=1)) / math.sqrt(len(differences))
        return cls(float(differences.mean()), NORMAL_95 * error, len(differences))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`. Raises ValueError, TypeError or KeyError."""
        top1, half_width = float(record["top1"]), float(record["half_width"])
        if not (-1 <= top1 <= 1 and 0 <= half_width < math.inf):
            raise ValueError(f"a difference of {top1} ± {half_width} is not possible")
        return cls(top1, half_width, int(record["images"]))
