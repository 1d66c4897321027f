"""What a study holds at this moment, read without its lock: also while a search runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypeVar

from genets.core.errors import GenetsError, StudyError
from genets.latency import LatencyTable, Target
from genets.nas.accuracy.model import AccuracyModel
from genets.nas.round import CANDIDATES, CONFIRMED, MASTER, Start, file_of
from genets.nas.selection.chain import Frontier, make_chain
from genets.nas.selection.frontier import frontier
from genets.nas.selection.measured import NetworkLatency, load_measured
from genets.nas.settings.settings import SearchSettings
from genets.nas.study.records import Candidate, TrainedCandidate, TrialResult
from genets.nas.study.study import LATENCY, TRIALS, load_settings
from genets.nas.study.trial_database import read_in_order
from genets.nas.trials.plan import changeable_stages
from genets.structure import SearchSpace, Structure
from genets.training.score import Metric

Read = TypeVar("Read")

MEASURED = "-measured"


@dataclass(frozen=True, eq=False)
class TargetLatency:
    """A latency table, and the whole networks measured on its target for this study."""

    table: LatencyTable
    measured: Mapping[Structure, NetworkLatency]

    @property
    def target(self) -> Target:
        return self.table.target


@dataclass(frozen=True, eq=False)
class RoundSnapshot:
    """What a round holds; see `nas.round`.

    results: trials in the order in which they ended. score: its MasterNet's, on the validation
        split. confirmed: the candidates that have been trained so far, the best predicted first.
    selected: whether it has got to its selection.
    """

    number: int
    master: Structure
    results: tuple[TrialResult, ...]
    score: dict[str, float] | None
    confirmed: tuple[TrainedCandidate, ...]
    selected: bool

    @classmethod
    def read(
        cls, folder: Path, number: int, master: Structure, score: dict[str, float] | None
    ) -> Self:
        own = folder / file_of(number, "")
        return cls(
            number=number,
            master=master,
            results=tuple(read_in_order(own / TRIALS)),
            score=score,
            confirmed=_read(own / f"{CONFIRMED}.json", _confirmed) or (),
            selected=(own / f"{CANDIDATES}.json").exists(),
        )


@dataclass(frozen=True, eq=False)
class Snapshot:
    """All that is there; what is not there yet is None or empty.

    targets: the study's own first. rounds: those that have begun, the first always among them.
    master_score: the first MasterNet's on the validation split, with `images`.
    result: the record of the hand-over.
    failure: the sentence that the last run of the search stopped with.
    model: of the `latest` round; None where none can be fitted; `model_failure` says why.
    """

    folder: Path
    settings: SearchSettings
    targets: tuple[TargetLatency, ...]
    rounds: tuple[RoundSnapshot, ...]
    master_score: dict[str, float] | None
    selected: Candidate | None
    result: dict[str, Any] | None
    failure: str | None
    seconds: dict[str, float]
    model: AccuracyModel | None
    model_failure: str | None

    @classmethod
    def read(cls, folder: str | Path) -> Snapshot:
        """Raises StudyError where the folder is no study, or a file in it is damaged."""
        folder = Path(folder)
        settings = load_settings(folder)
        score = _read(folder / "master.json", _floats)
        rounds = tuple(_rounds(folder, settings, score))
        model, model_failure = _fit(settings, rounds)
        return cls(
            folder=folder,
            settings=settings,
            targets=tuple(_targets(folder / LATENCY, settings)),
            rounds=rounds,
            master_score=score,
            selected=_read(folder / "selected.json", Candidate.from_json),
            result=_read(folder / "results" / "result.json", dict),
            failure=_read(folder / "failure.json", lambda record: str(record["sentence"])),
            seconds=_read(folder / "seconds.json", _floats) or {},
            model=model,
            model_failure=model_failure,
        )

    @property
    def master(self) -> Structure:
        return self.settings.structure

    @property
    def latest(self) -> RoundSnapshot:
        """The last round that has got to its selection, or the first."""
        return _latest(self.rounds)

    @property
    def results(self) -> list[TrialResult]:
        """Of all rounds."""
        return [result for each in self.rounds for result in each.results]

    @property
    def confirmed(self) -> tuple[TrainedCandidate, ...]:
        """Of all rounds, each structure once."""
        found = {one.structure: one for each in self.rounds for one in each.confirmed}
        return tuple(found.values())

    @property
    def failed(self) -> list[TrialResult]:
        return [result for result in self.results if result.status == "failed"]

    @cached_property
    def around(self) -> SearchSpace:
        return self.settings.space.design_space().around(self.master)

    @cached_property
    def planned(self) -> int:
        """How many trials the search plans, in the rounds that have begun."""
        settings, around = self.settings, self.around
        each = settings.trials_per_super_block + settings.controls_per_super_block
        return each * len(changeable_stages(around)) * len(self.rounds)

    def missing(self) -> list[str]:
        """What a finished study has and this one has not, in the order of the phases."""
        own = [t for t in self.targets if t.target == self.settings.target.resolved()]
        ended = len(self.results) - len(self.failed)
        return [
            sentence
            for absent, sentence in (
                (not own, "the latency table has not been measured yet"),
                (self.master_score is None, "the MasterNet has not been trained yet"),
                (
                    len(self.results) < self.planned,
                    f"{self.planned - len(self.results)} of {self.planned} trials have not ended",
                ),
                (
                    bool(self.results) and not ended,
                    f"all {len(self.results)} trials that ended have failed",
                ),
                (self.selected is None, "no structure has been selected yet"),
                (self.result is None, "the winner has not been trained and handed over yet"),
            )
            if absent
        ]

    def frontier(self, table: LatencyTable, resolution: int) -> Frontier | None:
        """The best predicted structure for every predicted latency; None without a model.

        At another resolution than the MasterNet's the order alone of the predictions counts.
        """
        if self.model is None:
            return None
        chain = make_chain(
            table.space,
            table,
            self.model.stage_gain,
            self.model.failed,
            resolution=resolution,
        )
        return frontier(chain, table.offset_ms_per_image)


def _rounds(
    folder: Path, settings: SearchSettings, score: dict[str, float] | None
) -> Iterator[RoundSnapshot]:
    master, number = settings.structure, 1
    while True:
        yield RoundSnapshot.read(folder, number, master, score)
        number += 1
        start = _read(folder / f"{file_of(number, MASTER)}.json", Start.from_json)
        if start is None:
            return
        master, score = start.structure, {name: start.score(name) for name in Metric}


def _latest(rounds: Sequence[RoundSnapshot]) -> RoundSnapshot:
    return next((each for each in reversed(rounds) if each.selected), rounds[0])


def _fit(
    settings: SearchSettings, rounds: Sequence[RoundSnapshot]
) -> tuple[AccuracyModel | None, str | None]:
    latest = _latest(rounds)
    if latest.score is None or not latest.results:
        return None, "there are no trials yet"
    confirmed = {one.structure: one for each in rounds[: latest.number] for one in each.confirmed
                 if one.status == "done"}  # fmt: skip
    try:
        model = AccuracyModel.fit(
            latest.master,
            latest.results,
            latest.score[settings.metric],
            metric=settings.metric,
            form=settings.regression,
            confirmed=tuple(confirmed.values()),
        )
    except GenetsError as error:
        return None, str(error)
    return model, None


def _targets(folder: Path, settings: SearchSettings) -> list[TargetLatency]:
    own = settings.target.resolved().name
    paths = [p for p in sorted(folder.glob("*.json")) if not p.stem.endswith(MEASURED)]
    paths.sort(key=lambda path: path.stem != own)
    return [
        TargetLatency(
            LatencyTable.load(path), load_measured(folder / f"{path.stem}{MEASURED}.json")
        )
        for path in paths
    ]


def _read(path: Path, read: Callable[[Any], Read]) -> Read | None:
    try:
        return read(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StudyError(f"{path} is damaged ({error})") from error


def _confirmed(rows: list[Mapping[str, Any]]) -> tuple[TrainedCandidate, ...]:
    return tuple(TrainedCandidate.from_json(row) for row in rows)


def _floats(record: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in record.items()}
