"""Accuracy of a network as an engine runs it: what stands beside its latency."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from genets.core.errors import TargetError
from genets.data import Split
from genets.latency.engines import ENGINES
from genets.latency.target import Target

if TYPE_CHECKING:
    from torch import nn

CALIBRATION_IMAGES = 300  # NNCF's own default


@dataclass(frozen=True, slots=True, eq=False)
class Accuracy:
    """top1, top5: shares of images, 0 to 1. cross_entropy: nats per image. images: how many.

    confusion: (outputs, outputs), images by their class (rows) and what they were taken for.
    top5_right: (outputs,), images of each class that is among the five best outputs.
    quantisation: see `Measurement`.
    """

    top1: float
    top5: float
    cross_entropy: float
    images: int
    confusion: NDArray[np.int64]
    top5_right: NDArray[np.int64]
    quantisation: dict[str, Any] | None = None

    @property
    def classes(self) -> list[ClassAccuracy]:
        """One for each output, in their order."""
        right, taken = np.diag(self.confusion), self.confusion.sum(0)
        counts = zip(self.confusion.sum(1), right, self.top5_right, taken, strict=True)
        return [ClassAccuracy(*map(int, row)) for row in counts]

    def to_json(self) -> dict[str, Any]:
        """Without what is by class."""
        names = ("top1", "top5", "cross_entropy", "images", "quantisation")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True)
class ClassAccuracy:
    """Counts of images. images: of this class. taken: of any class that were taken for this one.

    right: of this class, and taken for it. top5_right: with this class among the best five.
    """

    images: int
    right: int
    top5_right: int
    taken: int

    @property
    def top1(self) -> float | None:
        """The share of its images that are recognised; None without images."""
        return self.right / self.images if self.images else None

    @property
    def top5(self) -> float | None:
        return self.top5_right / self.images if self.images else None

    @property
    def precision(self) -> float | None:
        """The share of images taken for this class that are of it; None if none was."""
        return self.right / self.taken if self.taken else None


def measure_accuracy(
    network: nn.Module,
    target: Target,
    resolution: int,
    split: Split,
    *,
    calibration: Tensor | None = None,
) -> Accuracy:
    """Score `network`, which is not changed, on every image of `split`, run as `target` says.

    calibration: (N, channels, resolution, resolution) images, needed for int8.
    Raises TargetError: no calibration images for int8, outputs that are not finite, fewer
    outputs than classes; and see `measure`.
    """
    if target.precision == "int8" and calibration is None:
        raise TargetError("the accuracy of precision int8 needs calibration images")
    engine = ENGINES[target.engine]
    with engine.open(target):
        prepared = engine.prepare(network, target, resolution, calibration)
        found = score(prepared.predict, split, target.batch_size)
    return replace(found, quantisation=prepared.quantisation)


def score(predict: Callable[[Tensor], Tensor], split: Split, batch_size: int) -> Accuracy:
    """Accuracy on every image of `split`. Raises TargetError."""
    total = 0.0
    confusion = torch.zeros(0, dtype=torch.int64)
    top5_right = torch.zeros(0, dtype=torch.int64)
    for batch, labels in split.batches(batch_size):
        logits = predict(batch).float()
        _check_outputs(logits, labels)
        outputs = logits.shape[1]
        best = logits.topk(min(5, outputs)).indices
        among = labels[(best == labels[:, None]).any(1)]
        if not len(confusion):
            confusion = torch.zeros(outputs * outputs, dtype=torch.int64)
            top5_right = torch.zeros(outputs, dtype=torch.int64)
        # Counted where they are: a table of its own for each batch would be slow for many classes.
        confusion.index_add_(0, labels * outputs + best[:, 0], torch.ones_like(labels))
        top5_right.index_add_(0, among, torch.ones_like(among))
        total += F.cross_entropy(logits.double(), labels, reduction="sum").item()
    outputs, images = len(top5_right), int(confusion.sum())
    if not images:
        raise TargetError("there is no score, as none of the images could be read")
    table = confusion.reshape(outputs, outputs)
    return Accuracy(
        table.trace().item() / images, top5_right.sum().item() / images, total / images, images,
        table.numpy(), top5_right.numpy(),
    )  # fmt: skip


def calibration_images(split: Split, count: int = CALIBRATION_IMAGES) -> Tensor:
    """Up to `count` images, shuffled and augmented as in training: (N, 3, H, W).

    Not the first ones as they are stored: those are often all of one class.
    """
    wanted = min(count, len(split))
    parts: list[Tensor] = []
    for images, _ in split.batches(min(64, wanted), epoch=0):
        parts.append(images)
        if sum(map(len, parts)) >= wanted:
            break
    return torch.cat(parts)[:wanted].contiguous()


def _check_outputs(logits: Tensor, labels: Tensor) -> None:
    if not math.isfinite(logits.sum().item()):
        raise TargetError("the network's outputs are not finite, which gives no accuracy")
    if int(labels.max()) >= logits.shape[1]:
        raise TargetError(
            f"the network has {logits.shape[1]} outputs, too few for class {int(labels.max())} "
            "of the data, counted from 0"
        )
