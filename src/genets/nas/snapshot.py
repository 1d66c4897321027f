"""The content of a study at one moment, read without its lock: also while a search runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from genets.core.errors import GenetsError, StudyError, TargetError, counted
from genets.latency import Budget, LatencyTable
from genets.nas.accuracy.model import AccuracyModel
from genets.nas.accuracy.round_trials import RoundTrials, fit_rounds
from genets.nas.selection.chain import make_chain
from genets.nas.selection.frontier import Frontier, frontier
from genets.nas.selection.measured import MeasuredNetworks, TargetLatency
from genets.nas.settings.rival_names import expand_rivals
from genets.nas.settings.settings import SearchSettings
from genets.nas.study import layout
from genets.nas.study.class_counts import ClassCounts
from genets.nas.study.reader import StudyReader
from genets.nas.study.records import Candidate, Fault, TrainedCandidate, TrialResult
from genets.nas.study.rival_records import RivalResult
from genets.nas.study.trial_database import read_in_order
from genets.nas.trials.plan import changeable_stages
from genets.structure import SearchSpace, Structure
from genets.training.score import Score
from genets.training.variants import Variant


@dataclass(frozen=True, eq=False)
class RoundSnapshot(RoundTrials):
    """The content of a round; its trials are in the order in which they ended.

    Attributes:
        number: Counted from 1.
        screened: The structures that have been screened so far.
        confirmed: The candidates that have been trained so far.
        selected: Whether the round has selected its candidates.
    """

    number: int
    screened: tuple[TrainedCandidate, ...]
    confirmed: tuple[TrainedCandidate, ...]
    selected: bool

    @property
    def has_screened(self) -> bool:
        """Whether the accuracy model learns from a screened structure."""
        return any(each.status == "done" for each in self.screened)


class ModelFit:
    """The fit of the accuracy model to the trials that have ended, made when it is first used."""

    def __init__(self, settings: SearchSettings, rounds: Sequence[RoundSnapshot]) -> None:
        self._settings, self._rounds = settings, rounds

    @cached_property
    def outcome(self) -> tuple[AccuracyModel | None, str | None]:
        """The model, or None and the reason why it cannot be fitted."""
        return _fit_model(self._settings, self._rounds)


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The content of a study. A part that does not exist yet is None or empty.

    In a study of several budgets, winner and result are those of the largest budget that has them,
    and trained candidates are those of all budgets. `budgets` has the content for each budget.

    Attributes:
        budget: The budget of the winner, as it was given.
        targets: The study's own target comes first.
        rounds: The rounds that have begun; the first one is always among them.
        master_score: The first MasterNet's score on the validation split.
        result: The record of the finished search.
        class_counts: Its test predictions by class.
        failure: The sentence that the last run of the search stopped with.
        seconds: Wall time of each phase.
        short_trainings: See `StudyReader.short_trainings`.
        faults: See `StudyReader.faults`.
        fit: The fit of the accuracy model, which the contents of all budgets share.
        refusal: Why the budget was refused, if it is one of several.
        budgets: The content for each of several budgets, the largest first; empty with one budget.
    """

    folder: Path
    settings: SearchSettings
    budget: str
    targets: tuple[TargetLatency, ...]
    rounds: tuple[RoundSnapshot, ...]
    master_score: Score | None
    selected: Candidate | None
    result: dict[str, Any] | None
    class_counts: ClassCounts | None
    failure: str | None
    seconds: dict[str, float]
    short_trainings: dict[str, list[Variant]]
    faults: tuple[Fault, ...]
    fit: ModelFit
    refusal: str | None = None
    budgets: tuple[Snapshot, ...] = ()

    @classmethod
    def read(cls, folder: str | Path) -> Snapshot:
        """Read a study. Raises StudyError where the folder is no study or a file is damaged."""
        study = StudyReader(folder)
        score = study.master_score()
        rounds = tuple(_read_rounds(study, score))
        budgets = study.each_budget()
        _check_one_study(study, rounds, [each.selected() for each in budgets])
        whole = cls(
            folder=study.folder,
            settings=study.settings,
            budget=study.settings.all_budgets[0],
            targets=tuple(_read_targets(study)),
            rounds=rounds,
            master_score=score,
            selected=budgets[0].selected(),
            result=budgets[0].result(),
            class_counts=budgets[0].class_counts(),
            failure=study.failure(),
            seconds=study.seconds(),
            short_trainings=study.short_trainings(),
            faults=tuple(study.faults()),
            fit=ModelFit(study.settings, rounds),
        )
        return whole._with_budgets(budgets) if len(budgets) > 1 else whole

    def _with_budgets(self, studies: Sequence[StudyReader]) -> Snapshot:
        """Give the study with the content for each of several budgets."""
        budgets = [
            replace(
                self,
                budget=study.budget,
                rounds=(
                    replace(
                        self.rounds[0],
                        screened=tuple(study.screened()),
                        confirmed=tuple(study.trained()),
                        selected=study.has_candidates(),
                    ),
                ),
                selected=study.selected(),
                result=study.result(),
                class_counts=study.class_counts(),
                refusal=study.refusal(),
            )
            for study in studies
        ]
        budgets.sort(key=lambda each: self._size(each.budget), reverse=True)
        best = max(budgets, key=lambda each: (each.result is not None, each.selected is not None))
        return replace(best, rounds=self.rounds, refusal=None, budgets=tuple(budgets))

    def _size(self, budget: str) -> float:
        """The budget in ms per image, to compare it with others."""
        own = self.own_latency
        return Budget.parse(budget).ms_per_image(own.table.master_ms_per_image if own else 1.0)

    @property
    def each_budget(self) -> tuple[Snapshot, ...]:
        """The content for each of several budgets; with one budget, this content alone."""
        return self.budgets or (self,)

    @cached_property
    def reader(self) -> StudyReader:
        """The reader of the study at the budget of this content."""
        return StudyReader(self.folder).at_budget(self.budget if self.settings.budgets else "")

    @property
    def own_latency(self) -> TargetLatency | None:
        """The latency on the target of the search; None before its table is stored."""
        own = self.settings.target.resolved()
        return next((each for each in self.targets if each.target == own), None)

    @property
    def master(self) -> Structure:
        return self.settings.structure

    @property
    def winner_score(self) -> Score | None:
        """The winner's score on the test split."""
        return None if self.result is None else Score.from_json(self.result["winner"])

    @property
    def rivals(self) -> tuple[RivalResult, ...]:
        """The rivals beside the winner; empty before they are compared."""
        rows = (self.result or {}).get("rivals", ())
        return tuple(map(RivalResult.from_json, rows))

    @property
    def latest(self) -> RoundSnapshot:
        """The last round that has selected its candidates, or the first round."""
        return _find_latest(self.rounds)

    @property
    def model(self) -> AccuracyModel | None:
        """The accuracy model of the `latest` round; None where it cannot be fitted."""
        return self.fit.outcome[0]

    @property
    def model_failure(self) -> str | None:
        """Why it cannot be fitted."""
        return self.fit.outcome[1]

    @property
    def results(self) -> list[TrialResult]:
        """The trials of all rounds."""
        return [result for each in self.rounds for result in each.results]

    @property
    def confirmed(self) -> tuple[TrainedCandidate, ...]:
        """The trained candidates of all rounds, each structure once."""
        ended = (candidate for each in self.rounds for candidate in each.confirmed)
        return tuple({candidate.structure: candidate for candidate in ended}.values())

    @property
    def failed(self) -> list[TrialResult]:
        return [result for result in self.results if result.status == "failed"]

    @cached_property
    def around(self) -> SearchSpace:
        return self.settings.space.design_space().around(self.master)

    @cached_property
    def planned(self) -> int:
        """The number of trials that are planned in the rounds that have begun."""
        settings = self.settings
        per_stage = settings.trials_per_super_block + settings.controls_per_super_block
        return per_stage * len(changeable_stages(self.around)) * len(self.rounds)

    def missing(self) -> list[str]:
        """List the missing parts, in the order of the phases; a finished study lacks none."""
        ended = len(self.results) - len(self.failed)
        shared = [
            sentence
            for absent, sentence in (
                (self.own_latency is None, "the latency table has not been measured yet"),
                (self.master_score is None, "the MasterNet has not been trained yet"),
                (
                    len(self.results) < self.planned,
                    f"{self.planned - len(self.results)} of {self.planned} trials have not ended",
                ),
                (
                    bool(self.results) and not ended,
                    f"all {len(self.results)} trials that ended have failed",
                ),
            )
            if absent
        ]
        return shared + [each for budget in self.each_budget for each in budget._missing_winner()]

    def _missing_winner(self) -> list[str]:
        if self.refusal is not None:
            return []
        budget = f" for {self.budget}" * bool(self.settings.budgets)
        compared = {rival.name for rival in self.rivals}
        rivals = [each for each in expand_rivals(self.settings.rivals) if str(each) not in compared]
        return [
            sentence
            for absent, sentence in (
                (self.selected is None, f"no structure has been selected yet{budget}"),
                (self.result is None, f"the winner{budget} has not been trained and exported yet"),
                (
                    self.result is not None and bool(rivals),
                    f"{counted(len(rivals), 'rival')} {'has' if len(rivals) == 1 else 'have'} not "
                    f"been compared with the winner{budget} yet",
                ),
            )
            if absent
        ]

    def frontier(self, table: LatencyTable, resolution: int) -> Frontier | None:
        """The best predicted structure for every predicted latency; None without a model.

        At another resolution than the MasterNet's only the order of the predictions is
        meaningful.
        """
        if self.model is None:
            return None
        gain, failed = self.model.stage_gain, self.model.failed
        chain = make_chain(table.space, table, gain, failed, resolution=resolution)
        return frontier(chain, table.offset_ms_per_image)


def _read_rounds(study: StudyReader, score: Score | None) -> Iterator[RoundSnapshot]:
    for number, (master, own_score) in enumerate(study.masters(score), start=1):
        trials = study.folder / layout.in_round(number, layout.TRIALS)
        yield RoundSnapshot(
            number=number,
            master=master,
            results=tuple(read_in_order(trials)),
            score=own_score,
            screened=_each_once(each.screened(number) for each in study.each_budget()),
            confirmed=_each_once(each.trained(number) for each in study.each_budget()),
            selected=any(each.has_candidates(number) for each in study.each_budget()),
        )


def _each_once(by_budget: Iterable[Sequence[TrainedCandidate]]) -> tuple[TrainedCandidate, ...]:
    """The structures that were trained for all budgets, each once.

    A structure whose training failed for one budget may have been trained for another one.
    """
    ended: dict[Structure, TrainedCandidate] = {}
    for trained in by_budget:
        for each in trained:
            if each.structure not in ended or each.status == "done":
                ended[each.structure] = each
    return tuple(ended.values())


def _check_one_study(
    study: StudyReader, rounds: Sequence[RoundSnapshot], winners: Sequence[Candidate | None]
) -> None:
    """Raise StudyError where a structure or a trial has no place in the MasterNet's stages."""
    indices = study.settings.structure.indices
    structures = [each.master for each in rounds]
    structures += [
        trained.structure for each in rounds for trained in (*each.screened, *each.confirmed)
    ]
    structures += [winner.structure for winner in winners if winner]
    trials = [result.trial for each in rounds for result in each.results]
    foreign = [str(structure) for structure in structures if structure.indices != indices]
    foreign += [f"a trial of stage {t.index}" for t in trials if t.index not in indices]
    if foreign:
        raise StudyError(
            f"{study.folder} holds {foreign[0]}, which does not have the stages of the MasterNet "
            f"{study.settings.master}; put back the files of one study"
        )


def _find_latest(rounds: Sequence[RoundSnapshot]) -> RoundSnapshot:
    return next((each for each in reversed(rounds) if each.selected), rounds[0])


def _fit_model(
    settings: SearchSettings, rounds: Sequence[RoundSnapshot]
) -> tuple[AccuracyModel | None, str | None]:
    latest = _find_latest(rounds)
    if latest.score is None or not latest.results:
        return None, "there are no trials yet"
    trained = {
        candidate.structure: candidate
        for each in rounds[: latest.number]
        for candidate in each.confirmed
        if candidate.status == "done"
    }
    known = (*trained.values(), *latest.screened)
    try:
        return fit_rounds(settings, rounds[: latest.number], known), None
    except GenetsError as error:
        return None, str(error)


def _read_targets(study: StudyReader) -> Iterator[TargetLatency]:
    own = study.settings.target.resolved().name
    for path in sorted(layout.list_tables(study.latency_folder), key=lambda path: path.stem != own):
        networks = MeasuredNetworks(layout.measured_path(path))
        try:
            table = LatencyTable.load(path)
        except TargetError as error:
            raise StudyError(str(error)) from error
        yield TargetLatency(table, networks)
