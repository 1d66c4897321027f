"""The score of a network on a split of images, and the metrics that a search can predict."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, Self

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
        """The score with the sign that makes a higher value the better one."""
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
        images: The number of images.
    """

    top1: float
    cross_entropy: float
    images: int

    def value(self, metric: Metric) -> float:
        """The score by the metric."""
        return float(getattr(self, metric))


def score_value(record: HasMetrics, metric: Metric) -> float | None:
    """The record's score by the metric, as it is stored; None where there is none."""
    score: float | None = getattr(record, metric)
    return None if score is None else float(score)
