"""Accuracy of a network as an engine runs it: what stands beside its latency."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from genets.data import Split
from genets.errors import TargetError
from genets.latency.engines import ENGINES
from genets.latency.target import Target

if TYPE_CHECKING:
    from torch import nn

CALIBRATION_IMAGES = 300  # NNCF's own default


@dataclass(frozen=True, slots=True)
class Accuracy:
    """top1, top5: shares of images, 0 to 1. cross_entropy: nats per image. images: how many.

    quantisation: see `Measurement`.
    """

    top1: float
    top5: float
    cross_entropy: float
    images: int
    quantisation: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


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
        scores = score(prepared.predict, split, target.batch_size)
    return Accuracy(*scores, quantisation=prepared.quantisation)


def score(
    predict: Callable[[Tensor], Tensor], split: Split, batch_size: int
) -> tuple[float, float, float, int]:
    """top-1, top-5, cross-entropy and number of images. Raises TargetError."""
    hits = torch.zeros(2, dtype=torch.int64)
    total, images = 0.0, 0
    for batch, labels in split.batches(batch_size):
        logits = predict(batch).float()
        _check_outputs(logits, labels)
        best = logits.topk(min(5, logits.shape[1])).indices == labels[:, None]
        hits += torch.stack((best[:, 0].sum(), best.sum()))
        total += F.cross_entropy(logits.double(), labels, reduction="sum").item()
        images += len(labels)
    top1, top5 = (hits.double() / images).tolist()
    return top1, top5, total / images, images


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
