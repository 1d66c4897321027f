"""What a study holds at this moment, read without its lock: also while a search runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from genets.errors import GenetsError, StudyError
from genets.latency import LatencyTable, Target
from genets.nas.chain import Frontier
from genets.nas.measured import Measured, load_measured
from genets.nas.planning import changeable
from genets.nas.promise import chain_of
from genets.nas.regression import AccuracyModel
from genets.nas.result import Confirmed, Selected
from genets.nas.selection import frontier
from genets.nas.settings import SearchSettings
from genets.nas.study import LATENCY, TRIALS, load_settings
from genets.nas.trial import TrialResult
from genets.nas.trial_database import read_in_order
from genets.structure import Structure

Read = TypeVar("Read")

MEASURED = "-measured"


@dataclass(frozen=True, eq=False)
class OnTarget:
    """A latency table, and the whole networks measured on its target for this study."""

    table: LatencyTable
    measured: Mapping[Structure, Measured]

    @property
    def target(self) -> Target:
        return self.table.target


@dataclass(frozen=True, eq=False)
class Snapshot:
    """All that is there; what is not there yet is None or empty.

    targets: the study's own first. results: trials in the order in which they ended.
    master_score: on the validation split, with `images`. confirmed: the candidates that have been
        trained so far, the best predicted first. result: the record of the hand-over.
    failure: the sentence that the last run of the search stopped with.
    model: None where no accuracy model can be fitted; `model_failure` says why.
    """

    folder: Path
    settings: SearchSettings
    targets: tuple[OnTarget, ...]
    results: tuple[TrialResult, ...]
    master_score: dict[str, float] | None
    selected: Selected | None
    confirmed: tuple[Confirmed, ...]
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
        results = tuple(read_in_order(folder / TRIALS))
        score = _read(folder / "master.json", _floats)
        model, model_failure = _fit(settings, results, score)
        return cls(
            folder=folder,
            settings=settings,
            targets=tuple(_targets(folder / LATENCY, settings)),
            results=results,
            master_score=score,
            selected=_read(folder / "selected.json", Selected.from_json),
            confirmed=_read(folder / "confirmed.json", _confirmed) or (),
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
    def failed(self) -> list[TrialResult]:
        return [result for result in self.results if result.status == "failed"]

    @cached_property
    def planned(self) -> int:
        """How many trials the search plans."""
        settings = self.settings
        around = settings.space.design_space().around(self.master)
        each = settings.trials_per_super_block + settings.controls_per_super_block
        return each * len(changeable(around))

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

    def frontier(self, table: LatencyTable) -> Frontier | None:
        """The best predicted structure for every predicted latency; None without a model."""
        if self.model is None:
            return None
        chain = chain_of(table.space, table, self.model.stage_accuracy, self.model.failed)
        return frontier(chain, table.offset_ms_per_image)


def _fit(
    settings: SearchSettings, results: tuple[TrialResult, ...], score: dict[str, float] | None
) -> tuple[AccuracyModel | None, str | None]:
    if score is None or not results:
        return None, "there are no trials yet"
    try:
        model = AccuracyModel.fit(
            settings.structure,
            results,
            score[settings.response],
            response=settings.response,
            form=settings.regression,
        )
    except GenetsError as error:
        return None, str(error)
    return model, None


def _targets(folder: Path, settings: SearchSettings) -> list[OnTarget]:
    own = settings.target.resolved().name
    paths = [p for p in sorted(folder.glob("*.json")) if not p.stem.endswith(MEASURED)]
    paths.sort(key=lambda path: path.stem != own)
    return [
        OnTarget(LatencyTable.load(path), load_measured(folder / f"{path.stem}{MEASURED}.json"))
        for path in paths
    ]


def _read(path: Path, read: Callable[[Any], Read]) -> Read | None:
    try:
        return read(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StudyError(f"{path} is damaged ({error})") from error


def _confirmed(rows: list[Mapping[str, Any]]) -> tuple[Confirmed, ...]:
    return tuple(Confirmed.from_json(row) for row in rows)


def _floats(record: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in record.items()}
