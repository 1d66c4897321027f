"""Evaluation: the accuracy of a network as an engine runs it, in total and by class."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from genets.core.class_balance import balanced_accuracy, balanced_images, is_unbalanced
from genets.core.errors import TargetError
from genets.data import Split
from genets.latency.engines import ENGINES
from genets.latency.target import Target

if TYPE_CHECKING:
    from torch import nn

CALIBRATION_IMAGES = 300  # NNCF's default


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """The best output for each image, in the order of the split; each of shape (images,).

    Attributes:
        labels: The true classes.
        classes: The best outputs.
        probabilities: The probabilities of the best outputs, 0 to 1.
    """

    labels: NDArray[np.int64]
    classes: NDArray[np.int64]
    probabilities: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Accuracy:
    """The accuracy of a network on a target.

    Attributes:
        top1: Share of images whose class is the best output, 0 to 1.
        top5: Share of images whose class is among the five best outputs, 0 to 1.
        cross_entropy: Mean over the images, in nats.
        images: The number of images.
        confusion: Shape (outputs, outputs), numbers of images by true class (rows) and best output
            (columns).
        top5_right: Shape (outputs,), the images of each class that are right in the top 5.
        quantisation: See `Measurement`.
        predictions: The prediction for each image.
    """

    top1: float
    top5: float
    cross_entropy: float
    images: int
    confusion: NDArray[np.int64]
    top5_right: NDArray[np.int64]
    quantisation: dict[str, Any] | None = None
    predictions: Predictions | None = None

    @property
    def classes(self) -> list[ClassAccuracy]:
        """The accuracy of each class, in the order of the outputs."""
        right, taken = np.diag(self.confusion), self.confusion.sum(0)
        counts = zip(self.confusion.sum(1), right, self.top5_right, taken, strict=True)
        return [ClassAccuracy(*map(int, row)) for row in counts]

    @property
    def balanced_accuracy(self) -> float:
        """The mean over the classes of the share of right images; see `core.class_balance`."""
        return balanced_accuracy(np.diag(self.confusion).tolist(), self.confusion.sum(1).tolist())

    @property
    def is_unbalanced(self) -> bool:
        """Whether the classes of the images have unequal sizes."""
        return is_unbalanced(balanced_images(self.confusion.sum(1).tolist()), self.images)

    def to_json(self) -> dict[str, Any]:
        """Return the totals, without the classes."""
        names = (
            "top1", "top5", "cross_entropy", "balanced_accuracy", "images", "quantisation",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True)
class ClassAccuracy:
    """Numbers of images of one class.

    Attributes:
        images: Images of this class.
        right: Images of this class whose best output is this class.
        top5_right: Images of this class with this class among the five best outputs.
        taken: Images of any class whose best output is this class.
    """

    images: int
    right: int
    top5_right: int
    taken: int

    @property
    def top1(self) -> float | None:
        """The share of this class's images that are recognised; None without images."""
        return self.right / self.images if self.images else None

    @property
    def top5(self) -> float | None:
        """The share of this class's images that are right in the top 5; None without images."""
        return self.top5_right / self.images if self.images else None

    @property
    def precision(self) -> float | None:
        """The share of images taken for this class that belong to it; None without such images."""
        return self.right / self.taken if self.taken else None


@dataclass(frozen=True)
class Evaluation:
    """The accuracy of a network on one or more targets; the requested target is first.

    Attributes:
        network: The name of the network.
        weights: The origin of the weights, in words; `fresh` for an untrained network.
        data: The name of the data set.
        split: The split of the data set.
        class_names: In the order of the network's outputs.
        resolution: Pixels along one side of the input.
        mean: Subtracted from the input, by channel.
        std: Divides the input, by channel.
        accuracy: The accuracy by target.
        preprocessing: How an image file became an input; see `describe_input`.
        split_from: See `SplitOrigin.source`.
        calibration: The images that set the ranges of int8; None for other precisions.
    """

    network: str
    weights: str
    data: str
    split: str
    class_names: tuple[str, ...]
    resolution: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    accuracy: Mapping[Target, Accuracy]
    preprocessing: Mapping[str, Any] | None = None
    split_from: str = "unknown"
    calibration: Mapping[str, Any] | None = None

    @property
    def trained(self) -> bool:
        """Whether the weights are trained."""
        return self.weights != "fresh"

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary for JSON, with all classes and confusions."""
        return {
            "network": self.network,
            "weights": self.weights,
            "trained": self.trained,
            "data": self.data,
            "split": self.split,
            "split_from": self.split_from,
            "calibration": self.calibration,
            "preprocessing": self.preprocessing,
            "resolution": self.resolution,
            "mean": list(self.mean),
            "std": list(self.std),
            "accuracy": {
                target.name: accuracy.to_json()
                | {
                    "classes": self.class_records(accuracy),
                    "confusions": self.confusion_records(accuracy),
                }
                for target, accuracy in self.accuracy.items()
            },
        }

    def class_records(self, accuracy: Accuracy) -> list[dict[str, Any]]:
        """Return a record for each class; a share without images is None."""
        return [
            {
                "class": name,
                "images": counts.images,
                "right": counts.right,
                "taken_for_it": counts.taken,
                "top1": counts.top1,
                "top5": counts.top5,
                "precision": counts.precision,
            }
            for name, counts in zip(self.class_names, accuracy.classes, strict=True)
        ]

    def prediction_records(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Return the prediction for each image on the first target.

        Args:
            names: The names of the images, in the order of the split.

        Raises:
            TargetError: Other images could be read in another pass.
        """
        predictions = next(iter(self.accuracy.values())).predictions
        assert predictions is not None
        if len(names) != len(predictions.labels):
            raise TargetError(
                f"{len(predictions.labels)} images were scored and {len(names)} can be read now, "
                "so no prediction can be assigned to its file"
            )
        rows = zip(
            names, predictions.labels, predictions.classes, predictions.probabilities, strict=True
        )
        return [
            {
                "file": name,
                "true_class": self.class_names[label],
                "predicted_class": self.class_names[taken],
                "probability": float(probability),
            }
            for name, label, taken, probability in rows
        ]

    def confusion_records(self, accuracy: Accuracy) -> list[dict[str, Any]]:
        """Return every pair of confused classes, the most frequent pair first."""
        wrong = accuracy.confusion * (1 - np.eye(len(self.class_names), dtype=np.int64))
        pairs = sorted(np.argwhere(wrong).tolist(), key=lambda pair: -wrong[*pair])
        return [
            {
                "class": self.class_names[row],
                "taken_for": self.class_names[column],
                "images": int(wrong[row, column]),
            }
            for row, column in pairs
        ]


def measure_accuracy(
    network: nn.Module,
    target: Target,
    resolution: int,
    split: Split,
    *,
    calibration: Tensor | None = None,
) -> Accuracy:
    """Score a network on every image of a split, as the target's engine runs it.

    Args:
        network: Any network; it is not changed.
        target: Device, engine, precision and batch size.
        resolution: Pixels along one side of the input.
        split: The images.
        calibration: Images of shape (N, channels, resolution, resolution); required for int8.

    Returns:
        The accuracy.

    Raises:
        TargetError: There are no calibration images for int8, the outputs are not finite, or the
            network has fewer outputs than classes; see also `measure`.
    """
    if target.precision == "int8" and calibration is None:
        raise TargetError("the accuracy of precision int8 needs calibration images")
    engine = ENGINES[target.engine]
    with engine.open(target):
        prepared = engine.prepare(network, target, resolution, calibration)
        accuracy = score(prepared.predict, split, target.batch_size)
    return replace(accuracy, quantisation=prepared.quantisation)


def score(predict: Callable[[Tensor], Tensor], split: Split, batch_size: int) -> Accuracy:
    """Score a function from images to logits on every image of `split`. Raises TargetError."""
    total = 0.0
    confusion = torch.zeros(0, dtype=torch.int64)
    top5_right = torch.zeros(0, dtype=torch.int64)
    predicted: list[tuple[Tensor, Tensor, Tensor]] = []
    for batch, labels in split.batches(batch_size):
        logits = predict(batch.cpu()).float()
        _check_outputs(logits, labels)
        outputs = logits.shape[1]
        # Logits of int8 are often equal. The first class wins then, in every program.
        best = logits.sort(dim=1, descending=True, stable=True).indices[:, :5]
        among = labels[(best == labels[:, None]).any(1)]
        if not len(confusion):
            confusion = torch.zeros(outputs * outputs, dtype=torch.int64)
            top5_right = torch.zeros(outputs, dtype=torch.int64)
        # Counted in place, because a new table for each batch is slow with many classes.
        confusion.index_add_(0, labels * outputs + best[:, 0], torch.ones_like(labels))
        top5_right.index_add_(0, among, torch.ones_like(among))
        total += F.cross_entropy(logits.double(), labels, reduction="sum").item()
        predicted.append((labels, best[:, 0], logits.double().softmax(1).amax(1)))
    outputs, images = len(top5_right), int(confusion.sum())
    if not images:
        raise TargetError("there is no score because none of the images could be read")
    table = confusion.reshape(outputs, outputs)
    predictions = Predictions(*(torch.cat(part).numpy() for part in zip(*predicted, strict=True)))
    return Accuracy(
        table.trace().item() / images, top5_right.sum().item() / images, total / images, images,
        table.numpy(), top5_right.numpy(), predictions=predictions,
    )  # fmt: skip


def calibration_images(split: Split, count: int = CALIBRATION_IMAGES) -> Tensor:
    """Return up to `count` images, shuffled and augmented as in training: (N, 3, H, W).

    The images are not the first of the split, because those often all have the same class.
    """
    count = min(count, len(split))
    parts: list[Tensor] = []
    for images, _ in split.batches(min(64, count), epoch=0):
        parts.append(images.cpu())
        if sum(map(len, parts)) >= count:
            break
    return torch.cat(parts)[:count].contiguous()


def _check_outputs(logits: Tensor, labels: Tensor) -> None:
    if not math.isfinite(logits.sum().item()):
        raise TargetError("the network's outputs are not finite, so it has no accuracy")
    if int(labels.max()) >= logits.shape[1]:
        raise TargetError(
            f"the network has {logits.shape[1]} outputs, too few for class {int(labels.max())} "
            "of the data, counted from 0"
        )
