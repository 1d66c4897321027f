"""One trial: a perturbed super-block of the MasterNet and what came of it.

What a search hands over: the selected network, its promise and its scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from genets.structure import Structure, SuperBlock
from genets.training.score import Metric


@dataclass(frozen=True, slots=True, order=True)
class Trial:
    """The MasterNet's stage `index` replaced by `super_block`.

    index: super-blocks count from 0; the stem is -1 and the head comes after the last of them.

    `repeat` tells apart trials of the same super-block with other seeds. A trial of the
    MasterNet's own super-block is a control trial: re-initialised like any other, it is
    the zero of that super-block's scale.
    """

    index: int
    super_block: SuperBlock
    repeat: int = 0

    def is_control(self, master: Structure) -> bool:
        return self.super_block == master.stage(self.index)

    def structure(self, master: Structure) -> Structure:
        return master.with_stage(self.index, self.super_block)


@dataclass(frozen=True, slots=True)
class TrialResult:
    """Scores on the validation split. A failed trial has a reason and no scores."""

    trial: Trial
    status: Literal["done", "failed"]
    top1: float | None = None  # share of correct images, 0 to 1
    cross_entropy: float | None = None  # nats per image
    seconds: float = 0.0
    reason: str = ""


@dataclass(frozen=True)
class Candidate:
    """A structure that keeps its budget, by measurement. All latencies are ms per image.

    predicted_ms: the latency table's prediction, which knows nothing of this network's
        measurement, at the pace that the machine had when it was measured.
    measured_ms, low_ms, high_ms: median of the measurement and its 95 % interval.
    master_ms: the MasterNet's, measured in turn with this network.
    noisy: the interval did not come within 1 % of the median in the time given.
    predicted_accuracy, predicted_accuracy_std: the accuracy model's value on validation images:
        top-1 (0 to 1) or minus the cross-entropy (nats), as the study's `metric` says;
        the literal formula of the paper has no standard deviation. None at another resolution
        than the MasterNet's, of which trials say nothing.
    table_rmspe: error of the latency table on whole networks that it never saw, as a fraction.
    outside: where the predicted accuracy is an extrapolation, see `TriedRange.outside`.
    """

    structure: Structure
    budget_ms: float
    predicted_ms: float
    measured_ms: float
    low_ms: float
    high_ms: float
    master_ms: float
    noisy: bool
    predicted_accuracy: float | None
    predicted_accuracy_std: float | None
    table_rmspe: float
    outside: tuple[str, ...] = ()

    @property
    def margin(self) -> float:
        """The share of the budget left by the upper bound: 0.05 means 5 % below the budget."""
        return 1 - self.high_ms / self.budget_ms

    def to_json(self) -> dict[str, Any]:
        values = {name: value for name, value in vars(self).items() if name != "structure"}
        return {
            "structure": str(self.structure),
            "resolution": self.structure.resolution,
            **values,
            "margin": self.margin,
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Candidate:
        """The inverse of `to_json`. Raises StructureError, or KeyError for a foreign record."""
        values = {f.name: record[f.name] for f in fields(cls) if f.name != "outside"}
        values["outside"] = tuple(record.get("outside", ()))  # older studies have none
        return cls(**values | {"structure": Structure.parse(record["structure"])})


@dataclass(frozen=True, slots=True)
class TrainedCandidate:
    """A candidate that was trained from scratch, and its scores on the validation split.

    epochs: how long it was trained. A failed one has a reason and no scores.
    top1: share of correct images, 0 to 1. cross_entropy: nats per image.
    """

    structure: Structure
    status: Literal["done", "failed"]
    epochs: int
    top1: float | None = None
    cross_entropy: float | None = None
    seconds: float = 0.0
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return values | {"structure": str(self.structure)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> TrainedCandidate:
        """The inverse of `to_json`. Raises StructureError, or KeyError for a foreign record."""
        values = {field.name: record[field.name] for field in fields(cls)}
        return cls(**values | {"structure": Structure.parse(record["structure"])})


@dataclass(frozen=True)
class RoundResult:
    """What one round of a search came to.

    number: from 1. master: the structure that its trials were taken around.
    score: the MasterNet's on the validation split, {"top1": share of correct images,
        "cross_entropy": nats per image}.
    candidates, confirmed: those of this round, also the ones that were trained in an earlier one.
    """

    number: int
    master: Structure
    score: dict[str, float]
    trials_done: int
    trials_failed: int
    candidates: tuple[Candidate, ...]
    confirmed: tuple[TrainedCandidate, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "round": self.number,
            "master": str(self.master),
            "master_validation": self.score,
            "trials_done": self.trials_done,
            "trials_failed": self.trials_failed,
            "candidates": [candidate.to_json() for candidate in self.candidates],
            "confirmed": [candidate.to_json() for candidate in self.confirmed],
        }


@dataclass(frozen=True)
class SearchResult:
    """The outcome of one search.

    master, winner: scores on the test split, {"top1": share of correct images,
        "cross_entropy": nats per image}.
    seconds: wall time of each phase that ran.
    confirmed: the candidates that were trained to choose among them, the best predicted first;
        empty where the best predicted was taken as it was. Of all rounds, each once.
    trials_done, trials_failed: in all rounds.
    rounds: what each round came to; empty where the search was asked for one.
    metric: the validation score that decided which candidate won.
    files: what was handed over, from a word on each ("structure", "weights") to its path.
    folder: the study.
    """

    selected: Candidate
    master: dict[str, float]
    winner: dict[str, float]
    trials_done: int
    trials_failed: int
    folder: Path
    files: dict[str, Path]
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    confirmed: tuple[TrainedCandidate, ...] = ()
    rounds: tuple[RoundResult, ...] = ()
    metric: Metric = Metric.CROSS_ENTROPY

    @property
    def results(self) -> Path:
        """The folder that `genets.load` reads."""
        return self.folder / "results"

    def select(self, budget: str, **options: Any) -> Candidate:
        """Another budget, or with `target=` another target, without training: see `run.select`."""
        from genets.nas.run import select  # which makes what is in this file

        return select(self.folder, budget, **options)

    def to_json(self) -> dict[str, Any]:
        return {
            "selected": self.selected.to_json(),
            "master": self.master,
            "winner": self.winner,
            "trials_done": self.trials_done,
            "trials_failed": self.trials_failed,
            "seconds": self.seconds,
            "folder": str(self.folder),
            "files": {name: str(path) for name, path in self.files.items()},
            "warnings": list(self.warnings),
            "confirmed": [candidate.to_json() for candidate in self.confirmed],
            "metric": self.metric,
            "response": self.metric,  # the name before version 0.2
            **({"rounds": [one.to_json() for one in self.rounds]} if self.rounds else {}),
        }
