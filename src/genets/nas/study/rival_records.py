"""The records of rivals: their trainings, and their comparison with a winner."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, Self, get_args

import numpy as np

from genets.training import Score
from genets.training.predictions import PairedDifference, Predictions

Status = Literal["done", "above budget", "failed", "left out"]
MILLISECONDS = ("measured_ms", "low_ms", "high_ms", "master_ms", "budget_ms")


@dataclass(frozen=True, eq=False)
class TrainedRival:
    """A rival after its training.

    Attributes:
        epochs: The length of its training.
        score: Its score on the test split.
        predictions: Its predictions for the test images.
    """

    epochs: int
    score: Score
    predictions: Predictions

    def to_json(self) -> dict[str, Any]:
        return {
            "epochs": self.epochs,
            "test": self.score.to_json(),
            "labels": self.predictions.labels.tolist(),
            "classes": self.predictions.classes.tolist(),
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`. Raises the errors of foreign JSON."""
        labels, classes = (
            np.array([int(each) for each in record[name]], dtype=np.int64)
            for name in ("labels", "classes")
        )
        if len(labels) != len(classes):
            raise ValueError(f"it has {len(labels)} labels and {len(classes)} predictions")
        score = Score.from_json(record["test"])
        return cls(int(record["epochs"]), score, Predictions(labels, classes))


@dataclass(frozen=True, slots=True, kw_only=True)
class RivalResult:
    """A rival beside the winner of a budget. All latencies are ms per image.

    Attributes:
        name: The rival as it was asked for: `NETWORK`, `NETWORK=FILE` or `NETWORK=scratch`.
        status: `done`: it was trained, and is compared. `above budget`: its latency does not meet
            the budget, so it is not compared. `failed`: it could not be measured or trained.
            `left out`: a default rival that has no weights at hand, or does not take this size.
        reason: Why a rival failed or was left out.
        weights: The start of its training: `published`, `results folder`, `file` or `fresh`.
        resolution: Its input size in pixels, which is the winner's; see `compare_rivals`.
        measured_ms, low_ms, high_ms: The median of its latency and the 95 % interval.
        master_ms: The MasterNet's median, measured in turn with the rival.
        budget_ms: The budget; a relative one was multiplied by the MasterNet's latency.
        within_budget: Whether its latency meets the budget; None where it was not measured.
        noisy, disturbed: See `genets.Measurement`.
        epochs: The length of its training.
        test: Its score on the test split.
        difference: Top-1 of the rival minus that of the winner, paired over the test images.
        folder: Its results folder, relative to the study; empty before its training ends.
    """

    name: str
    status: Status
    reason: str = ""
    weights: str = ""
    resolution: int | None = None
    measured_ms: float | None = None
    low_ms: float | None = None
    high_ms: float | None = None
    master_ms: float | None = None
    budget_ms: float | None = None
    within_budget: bool | None = None
    noisy: bool = False
    disturbed: bool = False
    epochs: int | None = None
    test: Score | None = None
    difference: PairedDifference | None = None
    folder: str = ""

    def to_json(self) -> dict[str, Any]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return values | {
            "test": self.test and self.test.to_json(),
            "difference": self.difference and self.difference.to_json(),
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`; a field that an older genets lacked has its default.

        Raises the errors of foreign JSON.
        """
        names = [field.name for field in fields(cls)]
        values = {name: record[name] for name in names if record.get(name) is not None}
        if values["status"] not in get_args(Status):
            raise ValueError(f"a rival cannot have the status {values['status']!r}")
        readers: dict[str, Callable[[Any], object]] = {
            **dict.fromkeys(MILLISECONDS, float),
            "test": Score.from_json,
            "difference": PairedDifference.from_json,
        }
        read = {name: reader(values[name]) for name, reader in readers.items() if name in values}
        return cls(**values | read)
