"""The score of a network on a split of images, and the metrics that a search can predict.

A *score* is a number as it was measured. A *value* has the sign that makes a higher one better: it
is the top-1, or minus the cross-entropy. Predictions are values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, Self

from genets.core.errors import GenetsError, unknown_name


class Metric(StrEnum):
    """A validation score that is predicted and compared. Its value is the name of the score."""

    TOP1 = "top1"
    CROSS_ENTROPY = "cross_entropy"

    @classmethod
    def parse(cls, name: str) -> Self:
        """Find a metric by its name.

        Raises:
            GenetsError: No metric has this name.
        """
        try:
            return cls(name)
        except ValueError:
            raise GenetsError(unknown_name("metric", name, list(cls))) from None

    @property
    def label(self) -> str:
        """The name as people write it."""
        return "top-1" if self is Metric.TOP1 else "cross-entropy"

    @property
    def unit(self) -> str:
        """The unit of a difference of two scores."""
        return "of top-1" if self is Metric.TOP1 else "nats"

    @property
    def higher_is_better(self) -> bool:
        return self is Metric.TOP1

    def oriented(self, score: float) -> float:
        """The value of a score; also the score of a value."""
        return score if self.higher_is_better else -score


class HasMetrics(Protocol):
    """A record with a score for each metric; None where the training failed."""

    @property
    def top1(self) -> float | None: ...
    @property
    def cross_entropy(self) -> float | None: ...


@dataclass(frozen=True, slots=True)
class Score:
    """The score of one network on one split.

    Attributes:
        top1: The share of correct images, 0 to 1.
        cross_entropy: The mean, in nats per image.
        images: The number of images; None where it was not recorded.
    """

    top1: float
    cross_entropy: float
    images: int | None = None

    def __getitem__(self, metric: str) -> float:
        """The score by a metric, such as `score["top1"]`. Raises GenetsError."""
        return float(getattr(self, Metric.parse(metric)))

    def by_metric(self) -> dict[str, float]:
        """The score of each metric, by the name of the metric."""
        return {metric.value: self[metric] for metric in Metric}

    def to_json(self) -> dict[str, Any]:
        """The score of each metric, and the number of images where it is known."""
        return self.by_metric() | ({} if self.images is None else {"images": self.images})

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`. Raises ValueError, TypeError or KeyError."""
        images = record.get("images")
        score = cls(
            float(record["top1"]),
            float(record["cross_entropy"]),
            None if images is None else int(images),
        )
        score.check()
        return score

    def check(self) -> None:
        """Raise ValueError where no network can have this score."""
        in_range = 0 <= self.top1 <= 1 and 0 <= self.cross_entropy < math.inf
        if not in_range or (self.images is not None and self.images < 0):
            raise ValueError(f"{self} is not possible")


def metric_score(record: HasMetrics, metric: Metric) -> float | None:
    """The record's score by the metric; None where there is none."""
    score: float | None = getattr(record, metric)
    return None if score is None else float(score)
