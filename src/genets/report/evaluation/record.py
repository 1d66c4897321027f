"""The result of `genets eval`: accuracy by target and class, and its record for JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from genets.latency import Target
from genets.latency.evaluation import Accuracy


@dataclass(frozen=True)
class Evaluation:
    """The accuracy of a network on each target; the requested target comes first.

    Attributes:
        weights: The source of the weights, in words; `fresh` for untrained ones.
        split: The evaluated images of `data`.
        class_names: In the order of the network's outputs.
        resolution: Input size in pixels, along one side.
        mean, std: The normalisation of the input, for R, G and B.
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

    @property
    def trained(self) -> bool:
        return self.weights != "fresh"

    def to_json(self) -> dict[str, Any]:
        return {
            "network": self.network,
            "weights": self.weights,
            "trained": self.trained,
            "data": self.data,
            "split": self.split,
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
        """A record for each class; a share of no images is None."""
        return [
            {
                "class": name,
                "images": score.images,
                "right": score.right,
                "taken_for_it": score.taken,
                "top1": score.top1,
                "top5": score.top5,
                "precision": score.precision,
            }
            for name, score in zip(self.class_names, accuracy.classes, strict=True)
        ]

    def confusion_records(self, accuracy: Accuracy) -> list[dict[str, Any]]:
        """A record for each pair of classes that was confused, the most frequent first."""
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
