"""The score of a network on a split of images, and the metrics that a search can predict.

A *score* is a number as it was measured. A *value* has the sign that makes a higher one better: it
is the top-1, the balanced accuracy, or minus the cross-entropy. Predictions are values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Protocol, Self

from genets.core.class_balance import balanced_accuracy, balanced_images, is_unbalanced
from genets.core.errors import GenetsError, unknown_name
from genets.core.image_facts import FEW_VALIDATION_IMAGES

NOT_RECORDED = "which older versions of genets did not record"

ClassSums = tuple[tuple[float, float], ...]
"""For each class, the number of its images, and the number of those that are recognised."""


class Metric(StrEnum):
    """A validation score that is predicted and compared. Its value is the name of the score."""

    TOP1 = "top1"
    CROSS_ENTROPY = "cross_entropy"
    BALANCED_ACCURACY = "balanced_accuracy"

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
        return _LABELS[self]

    @property
    def unit(self) -> str:
        """The unit of a difference of two scores."""
        return f"of {self.label}" if self.is_share else "nats"

    @property
    def is_share(self) -> bool:
        """Whether a score is a share of images, from 0 to 1."""
        return self is not Metric.CROSS_ENTROPY

    @property
    def higher_is_better(self) -> bool:
        return self.is_share

    def oriented(self, score: float) -> float:
        """The value of a score; also the score of a value."""
        return score if self.higher_is_better else -score


_LABELS = {
    Metric.TOP1: "top-1",
    Metric.CROSS_ENTROPY: "cross-entropy",
    Metric.BALANCED_ACCURACY: "balanced accuracy",
}


def shown_metrics(*, balanced: bool) -> tuple[Metric, ...]:
    """The metrics of a table of scores.

    Args:
        balanced: Whether balanced accuracy is among them: where it decides, and where the classes
            of the images have unequal sizes.
    """
    shown = (Metric.TOP1, Metric.CROSS_ENTROPY)
    return (*shown, Metric.BALANCED_ACCURACY) if balanced else shown


class HasMetrics(Protocol):
    """A record with a score for each metric; None where the training failed.

    Balanced accuracy is also None in the records of an older genets.
    """

    @property
    def top1(self) -> float | None: ...
    @property
    def cross_entropy(self) -> float | None: ...
    @property
    def balanced_accuracy(self) -> float | None: ...


@dataclass(frozen=True, slots=True)
class Score:
    """The score of one network on one split.

    Attributes:
        top1: The share of correct images, 0 to 1.
        cross_entropy: The mean, in nats per image.
        images: The number of images; None where it was not recorded.
        balanced_accuracy: The mean over the classes of the share of correct images, 0 to 1;
            classes without an image do not count. None in the records of an older genets.
        balanced_images: The number of images in classes of equal size on which a share would be
            as uncertain as `balanced_accuracy`; see `core.class_balance`. None as above.
        by_class: The sums of each class; empty where they are not known. They are not stored.
        quantised: The score of the same network on the same split after its quantisation to int8;
            None where the network was not quantised.
    """

    top1: float
    cross_entropy: float
    images: int | None = None
    balanced_accuracy: float | None = None
    balanced_images: float | None = None
    by_class: ClassSums = field(default=(), compare=False, repr=False)
    quantised: Score | None = None

    @classmethod
    def from_classes(
        cls, counts: Sequence[float], right: Sequence[float], cross_entropy: float
    ) -> Self:
        """Make a score from the sums of each class.

        Args:
            counts: For each class, the number of its images; one class has an image at least.
            right: For each class, the number of its images that are recognised.
            cross_entropy: The mean, in nats per image.
        """
        images = sum(counts)
        return cls(
            sum(right) / images,
            cross_entropy,
            int(images),
            balanced_accuracy(right, counts),
            balanced_images(counts),
            tuple(zip(counts, right, strict=True)),
        )

    def __getitem__(self, metric: str) -> float:
        """The score by a metric, such as `score["top1"]`.

        Raises:
            GenetsError: No metric has this name, or the score was recorded without it.
        """
        metric = Metric.parse(metric)
        score = metric_score(self, metric)
        if score is None:
            raise GenetsError(
                f"a stored score has no {metric.label}, {NOT_RECORDED}; begin another study or run "
                "for this metric"
            )
        return score

    @property
    def is_unbalanced(self) -> bool:
        """Whether the classes of the images are known to have unequal sizes."""
        if self.images is None or self.balanced_images is None:
            return False
        return is_unbalanced(self.balanced_images, self.images)

    def images_of(self, metric: Metric) -> float | None:
        """The number of images on which a share of this metric was computed; None if not known.

        For balanced accuracy, `balanced_images`.
        """
        return self.balanced_images if metric is Metric.BALANCED_ACCURACY else self.images

    def with_images_of(self, other: Score | None) -> Score:
        """The score with the numbers of images of another score on the same split."""
        if other is None or self.images is not None:
            return self
        return replace(self, images=other.images, balanced_images=other.balanced_images)

    def by_metric(self) -> dict[str, float | None]:
        """The score of each metric, by the name of the metric; None where it is not recorded."""
        return {metric.value: metric_score(self, metric) for metric in Metric}

    def to_json(self) -> dict[str, Any]:
        """The score of each metric, and the other values where they are known."""
        others = {
            "images": self.images,
            "balanced_images": self.balanced_images,
            "quantised": self.quantised and self.quantised.to_json(),
        }
        return self.by_metric() | {name: n for name, n in others.items() if n is not None}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`. Raises ValueError, TypeError or KeyError."""
        images, quantised = record.get("images"), record.get("quantised")
        names = ("balanced_accuracy", "balanced_images")
        balanced, effective = (
            None if record.get(name) is None else float(record[name]) for name in names
        )
        score = cls(
            float(record["top1"]),
            float(record["cross_entropy"]),
            None if images is None else int(images),
            balanced,
            effective,
            quantised=None if quantised is None else cls.from_json(quantised),
        )
        score.check()
        return score

    def check(self) -> None:
        """Raise ValueError where no network can have this score."""
        in_range = 0 <= self.top1 <= 1 and 0 <= self.cross_entropy < math.inf
        in_range &= self.balanced_accuracy is None or 0 <= self.balanced_accuracy <= 1
        in_range &= self.balanced_images is None or 0 <= self.balanced_images < math.inf
        if not in_range or (self.images is not None and self.images < 0):
            raise ValueError(f"{self} is not possible")
        if self.quantised is not None:
            self.quantised.check()


def metric_score(record: HasMetrics, metric: Metric) -> float | None:
    """The record's score by the metric; None where there is none."""
    score: float | None = getattr(record, metric)
    return None if score is None else float(score)


def comparable(scores: Sequence[Score]) -> list[Score]:
    """The scores by which networks are compared with each other.

    Args:
        scores: The score of each network on one split.

    Returns:
        The scores after quantisation where every network has one, and otherwise the scores before
        it: an older genets did not score networks after quantisation.
    """
    quantised = [score.quantised for score in scores if score.quantised is not None]
    return quantised if len(quantised) == len(scores) else list(scores)


def is_worse(score: Score, other: Score, metric: Metric) -> bool:
    """Whether a state of a network is worse than another state of it.

    Chance decides a single metric on few images. With 80 images, top-1 once preferred a network
    that has 9 points less on other images; with 20 images, cross-entropy preferred one that has 3
    points less. So below FEW_VALIDATION_IMAGES, a worse state is worse by top-1 and by
    cross-entropy, too.

    Args:
        score: The score of the state on validation images.
        other: The score of the other state on the same images.
        metric: The metric that decides; of states with equal shares, the cross-entropy decides.
    """
    own, others = comparable([score, other])
    metrics = [metric]
    if own.images is not None and own.images < FEW_VALIDATION_IMAGES:
        metrics += [Metric.TOP1, Metric.CROSS_ENTROPY]
    return all(rank(own, each) < rank(others, each) for each in metrics)


def rank(score: Score, metric: Metric = Metric.TOP1) -> tuple[float, float]:
    """Rank by a metric, and by cross-entropy where shares are equal, as on few images."""
    return metric.oriented(score[metric]), -score.cross_entropy


def join_scores(scores: Sequence[Score]) -> Score:
    """The score on the images of several splits together.

    Args:
        scores: The score on each split, with the number of its images. The result has no balanced
            accuracy where the sums of each class are not known, and no score after quantisation
            where one of the scores has none.
    """
    quantised = [score.quantised for score in scores if score.quantised is not None]
    weights = [score.images or 0 for score in scores]
    images = sum(weights)

    def mean(values: Sequence[float]) -> float:
        return math.fsum(n * value for n, value in zip(weights, values, strict=True)) / images

    joint = Score(
        mean([score.top1 for score in scores]),
        mean([score.cross_entropy for score in scores]),
        images,
        quantised=join_scores(quantised) if len(quantised) == len(scores) else None,
    )
    if not all(score.by_class for score in scores):
        return joint
    classes = list(zip(*(score.by_class for score in scores), strict=True))
    counts = [sum(count for count, _ in each) for each in classes]
    right = [sum(own for _, own in each) for each in classes]
    return replace(
        joint,
        balanced_accuracy=balanced_accuracy(right, counts),
        balanced_images=balanced_images(counts),
        by_class=tuple(zip(counts, right, strict=True)),
    )
