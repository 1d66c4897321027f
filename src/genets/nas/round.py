"""A round of a search: trials around one MasterNet, and what was selected and confirmed there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from genets.core.errors import StudyError
from genets.nas.study.records import Candidate, TrainedCandidate
from genets.structure import Block, SearchSpace, Structure
from genets.training.score import Metric, score_value

ROUNDS = "rounds"  # the folder of all rounds but the first
MASTER, CANDIDATES, CONFIRMED = "master", "candidates", "confirmed"  # files of a round


@dataclass(frozen=True)
class Start:
    """A confirmed candidate, as the MasterNet that a later round starts from."""

    selected: Candidate
    confirmed: TrainedCandidate

    @property
    def structure(self) -> Structure:
        return self.confirmed.structure

    def score(self, metric: Metric) -> float:
        """On the validation split. Raises ValueError where it failed."""
        score = score_value(self.confirmed, metric)
        if score is None:
            raise ValueError(f"{self.structure} has no {metric.label}")
        return score

    def value(self, metric: Metric) -> float:
        """The score, of which more is better."""
        return metric.oriented(self.score(metric))

    def to_json(self) -> dict[str, Any]:
        return {"selected": self.selected.to_json(), "confirmed": self.confirmed.to_json()}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Start:
        """The inverse of `to_json`. Raises ValueError or KeyError for a foreign record."""
        start = cls(
            Candidate.from_json(record["selected"]), TrainedCandidate.from_json(record["confirmed"])
        )
        if start.selected.structure != start.structure or start.confirmed.status != "done":
            raise ValueError("it is of no confirmed candidate")
        return start


@dataclass(frozen=True)
class Round:
    """One round, and where its files are.

    number: from 1. around: the choices that its trials are taken from.
    weights: of its MasterNet. start: that MasterNet's record; None in the first round.
    """

    number: int
    around: SearchSpace
    weights: Path
    start: Start | None = None

    @property
    def master(self) -> Structure:
        return self.around.master

    def file(self, name: str) -> str:
        """The name of one of its JSON files within the study, without the suffix."""
        return file_of(self.number, name)

    def phase(self, name: str) -> str:
        """What a phase is called in this round."""
        return name if self.number == 1 else f"{name}, round {self.number}"


def file_of(number: int, name: str) -> str:
    """The first round's files stand in the study's folder itself."""
    return name if number == 1 else f"{ROUNDS}/{number}/{name}"


@dataclass(frozen=True)
class MovedSpace(SearchSpace):
    """The choices of the space around the first MasterNet, about another one among them.

    A search answers in the space that was asked for, and its latency table covers that space and
    no other; so a later round moves the MasterNet and not the space.
    """

    first: SearchSpace

    @cached_property
    def blocks(self) -> Mapping[int, tuple[Block, ...]]:
        return self.first.blocks

    @cached_property
    def widths(self) -> Mapping[int, tuple[int, ...]]:
        return self.first.widths

    @cached_property
    def depths(self) -> Mapping[int, tuple[int, ...]]:
        return self.first.depths

    @cached_property
    def resolutions(self) -> tuple[int, ...]:
        return self.first.resolutions


def moved(first: SearchSpace, master: Structure) -> MovedSpace:
    """Raises StudyError where `master` is none of the space's structures."""
    of_space = master.indices == first.master.indices and all(
        master.stage(index) in first.choices(index) for index in master.indices
    )
    if not of_space:
        raise StudyError(
            f"the MasterNet of a later round must be of the study's design space, not {master}"
        )
    return MovedSpace(first.space, master, first)
