"""What `genets eval` found, class by class, and as a record for machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from genets.latency import Target
from genets.latency.evaluation import Accuracy


@dataclass(frozen=True)
class Evaluation:
    """A network's accuracy by target, the one that was asked for first.

    weights: where they come from, in words; `fresh` for untrained ones.
    split: which images of `data`. class_names: in the order of the network's outputs.
    resolution: pixels along one side of the input. mean, std: what the input was normalised by.
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
                target.name: one.to_json()
                | {"classes": self.classes_of(one), "confusions": self.confusions_of(one)}
                for target, one in self.accuracy.items()
            },
        }

    def classes_of(self, accuracy: Accuracy) -> list[dict[str, Any]]:
        """A record for each class; shares are None where there is nothing to share."""
        return [
            {
                "class": name,
                "images": one.images,
                "right": one.right,
                "taken_for_it": one.taken,
                "top1": one.top1,
                "top5": one.top5,
                "precision": one.precision,
            }
            for name, one in zip(self.class_names, accuracy.classes, strict=True)
        ]

    def confusions_of(self, accuracy: Accuracy) -> list[dict[str, Any]]:
        """Every pair of classes that was confused, the most frequent first."""
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
