"""The records of a study: trials, candidates and rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import Field

from genets.core.validation import from_plain, to_plain
from genets.structure import Structure, SuperBlock
from genets.training.score import ClassSums, Metric, Score, comparable

Record = TypeVar("Record")
Positive = Annotated[float, Field(gt=0)]


@dataclass(frozen=True, slots=True, order=True)
class Trial:
    """The MasterNet with its stage `index` replaced by `super_block`.

    A trial of the MasterNet's own super-block is a control trial: it starts and is trained like any
    other trial, and the other trials of that super-block are compared with it.

    Attributes:
        index: The stage. Super-blocks count from 0; the stem is -1, and the head comes after the
            last super-block.
        super_block: The super-block that is tried.
        repeat: Distinguishes trials of the same super-block with different seeds.
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
    """The scores of a trial on the validation split. A failed trial has a reason and no scores.

    Attributes:
        top1: Share of correct images, 0 to 1.
        cross_entropy: Nats per image.
        seconds: Wall time; trials that were trained together share it equally.
        balanced_accuracy: See `Score`; None also where an older genets recorded the trial.
        by_class: See `Score`; a study does not store it.
        lacks_memory: Whether the trial failed because memory ran out; a study does not store it.
    """

    trial: Trial
    status: Literal["done", "failed"]
    top1: float | None = None
    cross_entropy: float | None = None
    seconds: float = 0.0
    reason: str = ""
    balanced_accuracy: float | None = None
    by_class: ClassSums = field(default=(), compare=False, repr=False)
    lacks_memory: bool = field(default=False, compare=False, repr=False)

    @classmethod
    def of(cls, trial: Trial, score: Score) -> TrialResult:
        """The result of a trial that ended well."""
        top1, entropy, balanced = score.top1, score.cross_entropy, score.balanced_accuracy
        return cls(
            trial, "done", top1, entropy, balanced_accuracy=balanced, by_class=score.by_class
        )


FaultKind = Literal["", "dropped weights"]


@dataclass(frozen=True)
class Fault:
    """Something that went wrong and cost no result, such as the death of a worker.

    Attributes:
        time: When, in seconds since 1970.
        sentence: The fault in one sentence.
        kind: The kind of fault, for those that a search records once; empty for other faults.
    """

    time: float
    sentence: str
    kind: FaultKind = ""

    def to_json(self) -> dict[str, Any]:
        return to_plain(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Fault:
        """The inverse of `to_json`. Raises GenetsError for a foreign record."""
        return _from_record(cls, record)


@dataclass(frozen=True)
class Candidate:
    """A selected structure whose measured latency meets the budget.

    All latencies are ms per image.

    Attributes:
        budget_ms: The budget; a relative one was multiplied by the MasterNet's latency.
        predicted_ms: The prediction of the latency table, which did not use the measurement of
            this network, times the slowdown of the machine since the table was made.
        measured_ms: Median of the measurement.
        low_ms, high_ms: The 95 % interval of the median.
        master_ms: The MasterNet's median, measured in turn with this network.
        noisy: Whether the interval of the measurement stayed wide until the time limit; see
            `Measurement`.
        predicted_accuracy: The accuracy model's prediction on validation images: top-1 (0 to 1),
            balanced accuracy (0 to 1), or minus the cross-entropy (nats), as the study's
            `metric` says. None at a resolution without trials.
        predicted_accuracy_std: Its standard deviation; None also for the literal formula of the
            paper, which has none.
        predicted_accuracy_low, predicted_accuracy_high: Its 95 % interval, which is within the
            possible range. None as above, and where an older genets selected.
        table_rmspe: Error of the latency table on whole networks that it never saw, as a
            fraction.
        outside: Where the predicted accuracy is an extrapolation; see `TriedRange.outside`.
        disturbed: Whether something else used or slowed the device during the measurement. A
            network with a disturbed latency is selected only for a budget in multiples of the
            MasterNet's latency.
    """

    structure: Structure
    budget_ms: Positive
    predicted_ms: Positive
    measured_ms: Positive
    low_ms: Positive
    high_ms: Positive
    master_ms: Positive
    noisy: bool
    predicted_accuracy: float | None
    predicted_accuracy_std: float | None
    table_rmspe: float
    outside: tuple[str, ...] = ()
    disturbed: bool = False
    predicted_accuracy_low: float | None = None
    predicted_accuracy_high: float | None = None

    @property
    def margin(self) -> float:
        """The unused share of the budget: at 0.05 the upper bound is 5 % below the budget."""
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
        """The inverse of `to_json`. Raises GenetsError for a foreign record."""
        return _from_record(cls, record)


@dataclass(frozen=True, slots=True)
class TrainedCandidate:
    """A candidate that was trained, and its scores on the validation split.

    A failed candidate has a reason and no scores.

    Attributes:
        epochs: The length of its training.
        top1: Share of correct images, 0 to 1.
        cross_entropy: Nats per image.
        balanced_accuracy: See `Score`; None also where an older genets recorded the candidate.
        by_class: See `Score`; a study does not store it.
        lacks_memory: Whether it failed because memory ran out; a study does not store it.
        quantised: With an int8 target, the scores after quantisation; see `Score`. None also where
            an older genets recorded the candidate.
    """

    structure: Structure
    status: Literal["done", "failed"]
    epochs: int
    top1: float | None = None
    cross_entropy: float | None = None
    seconds: float = 0.0
    reason: str = ""
    balanced_accuracy: float | None = None
    by_class: ClassSums = field(default=(), compare=False, repr=False)
    lacks_memory: bool = field(default=False, compare=False, repr=False)
    quantised: Score | None = None

    @classmethod
    def of(
        cls, structure: Structure, epochs: int, score: Score, seconds: float = 0.0
    ) -> TrainedCandidate:
        """A candidate whose training ended well."""
        top1, entropy, balanced = score.top1, score.cross_entropy, score.balanced_accuracy
        return cls(
            structure, "done", epochs, top1, entropy, seconds, balanced_accuracy=balanced,
            by_class=score.by_class, quantised=score.quantised,
        )  # fmt: skip

    @property
    def score(self) -> Score:
        """The scores. Raises ValueError where the candidate failed."""
        if self.top1 is None or self.cross_entropy is None:
            raise ValueError(f"{self.structure} has no score")
        return Score(
            self.top1,
            self.cross_entropy,
            balanced_accuracy=self.balanced_accuracy,
            quantised=self.quantised,
        )

    def value(self, metric: Metric) -> float:
        """The score before quantisation, with the sign that makes higher better.

        Raises ValueError where the candidate failed.
        """
        return metric.oriented(self.score[metric])

    def to_json(self) -> dict[str, Any]:
        values = {each.name: getattr(self, each.name) for each in fields(self) if each.compare}
        quantised = self.quantised and self.quantised.to_json()
        return values | {"structure": str(self.structure), "quantised": quantised}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> TrainedCandidate:
        """The inverse of `to_json`. Raises ValueError for a foreign record."""
        candidate = _from_record(cls, record)
        if candidate.status == "done":
            candidate.score.check()
        return candidate


@dataclass(frozen=True)
class Screening:
    """The structures that a round screens for a budget.

    Attributes:
        chosen: The structures that are chosen so far, in their order.
        ended: The structures whose training has ended. The chosen ones come first; the others were
            chosen with fewer trials or for another budget.
        measured: The structures that were measured when the first ones were chosen.
    """

    chosen: tuple[Structure, ...] = ()
    ended: tuple[TrainedCandidate, ...] = ()
    measured: tuple[Structure, ...] = ()

    @property
    def num_ended(self) -> int:
        """The number of chosen structures whose training has ended."""
        return len({each.structure for each in self.ended}.intersection(self.chosen))

    @classmethod
    def from_json(cls, record: Any, conditions: Mapping[str, Any]) -> Self:
        """Read a record; choices and measurements under other conditions are left out."""
        if isinstance(record, list):  # of an older genets
            return cls(ended=tuple(map(TrainedCandidate.from_json, record)))
        ended = tuple(map(TrainedCandidate.from_json, record["ended"]))
        if record["conditions"] != conditions:
            return cls(ended=ended)
        chosen, measured = (
            tuple(map(Structure.parse, record.get(name, ()))) for name in ("chosen", "measured")
        )
        return cls(chosen, ended, measured)

    def to_json(self, conditions: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "conditions": dict(conditions),
            "measured": [str(structure) for structure in self.measured],
            "chosen": [str(structure) for structure in self.chosen],
            "ended": [each.to_json() for each in self.ended],
        }


def best_first(trained: Sequence[TrainedCandidate], metric: Metric) -> list[TrainedCandidate]:
    """Order the candidates that did not fail by `comparable` scores, the best first.

    Equal ones stay in their order.
    """
    done = [each for each in trained if each.status == "done"]
    values = [metric.oriented(score[metric]) for score in comparable([c.score for c in done])]
    order = sorted(range(len(done)), key=lambda number: -values[number])
    return [done[number] for number in order]


@dataclass(frozen=True)
class RoundStart:
    """A trained candidate as the MasterNet of the next round."""

    selected: Candidate
    confirmed: TrainedCandidate

    @property
    def structure(self) -> Structure:
        return self.confirmed.structure

    def to_json(self) -> dict[str, Any]:
        return {"selected": self.selected.to_json(), "confirmed": self.confirmed.to_json()}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> RoundStart:
        """The inverse of `to_json`. Raises ValueError or KeyError for a foreign record."""
        start = cls(
            Candidate.from_json(record["selected"]),
            TrainedCandidate.from_json(record["confirmed"]),
        )
        if start.selected.structure != start.structure or start.confirmed.status != "done":
            raise ValueError("it does not hold one trained candidate")
        return start


@dataclass(frozen=True)
class RoundResult:
    """The results of one round.

    Attributes:
        number: Counted from 1.
        master: The structure around which the trials were taken.
        score: The MasterNet's score on the validation split.
        candidates: The candidates of this round, also those that an earlier round trained.
        confirmed: Those of them that were trained.
    """

    number: int
    master: Structure
    score: Score
    trials_done: int
    trials_failed: int
    candidates: tuple[Candidate, ...]
    confirmed: tuple[TrainedCandidate, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "round": self.number,
            "master": str(self.master),
            "master_validation": self.score.to_json(),
            "trials_done": self.trials_done,
            "trials_failed": self.trials_failed,
            "candidates": [candidate.to_json() for candidate in self.candidates],
            "confirmed": [candidate.to_json() for candidate in self.confirmed],
        }


def _from_record(owner: type[Record], record: Mapping[str, Any]) -> Record:
    """Read the fields of a dataclass; other keys of the record are for people."""
    names = {each.name for each in fields(owner)}  # type: ignore[arg-type]
    return from_plain(owner, {name: value for name, value in record.items() if name in names})
