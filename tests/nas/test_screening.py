"""Screening: structures that are trained for a short time before candidates are selected."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rounds_lab import (
    DEVICE,
    SETTINGS,
    ClosedFormLaboratory,
    ClosedFormLatency,
    loss,
    search,
    settings,
)

from genets.core.errors import BusyDeviceError, InfeasibleBudgetError, SettingsError, StudyError
from genets.data import load_data
from genets.data.split import Fold
from genets.latency import Measurement, Target
from genets.nas.accuracy.model import AccuracyModel
from genets.nas.candidates import screening
from genets.nas.context import SearchContext
from genets.nas.new_study import settings_at
from genets.nas.plan.search_plan import make_plan
from genets.nas.reselect import select_top
from genets.nas.result import SearchResult
from genets.nas.search import run_search
from genets.nas.selection import improvement
from genets.nas.selection.chain import find_latency_ms, make_chain
from genets.nas.settings.final_training import screening_recipe
from genets.nas.settings.settings import SearchSettings
from genets.nas.snapshot import Snapshot
from genets.nas.study.reader import StudyReader
from genets.nas.study.records import TrainedCandidate, Trial, TrialResult
from genets.nas.study.study import Study
from genets.nas.warnings import ALL_SCREENINGS_FAILED, NOTHING_SCREENED
from genets.nas.watch.phases import list_phases
from genets.nas.workers.job import Workers
from genets.report.study.facts import finished_parts
from genets.report.study.page import study_page
from genets.structure import Structure
from genets.training import named_recipe
from genets.training.recipe import make_recipe

EVERYTHING = 10_000  # more structures than the space has
BATCH, NUM_FRONTIERS = screening.BATCH, improvement.NUM_FRONTIERS  # of a user's search


@pytest.fixture(scope="module", autouse=True)
def small_batches() -> Iterator[None]:
    """The trials of closed-form searches keep no weights that could be restored.

    Few draws of the effects choose from a small space well enough.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(screening, "BATCH", 4)
        patch.setattr(improvement, "NUM_FRONTIERS", 4)
        patch.setattr("genets.nas.candidates.training.restore_weights", lambda *args, **words: None)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Screens, SearchResult]:
    """A search that nothing interrupts."""
    lab = Screens(asked())
    return lab, search(asked(), tmp_path_factory.mktemp("whole"), lab)


def asked(**changes: Any) -> SearchSettings:
    return settings(**{"rounds": 1, "from_scratch": False, "screen": 10, **changes})


class Screens(ClosedFormLaboratory):
    """Records what is screened, in groups; trainings end in any order, and some of them fail.

    failing: Structures whose screening fails.
    stop_after: The search is interrupted after so many screened structures.
    """

    def __init__(self, chosen: SearchSettings, *, backwards: bool = False) -> None:
        super().__init__(chosen)
        self.backwards = backwards
        self.batches: list[list[Structure]] = []
        self.failing: set[Structure] = set()
        self.stop_after = EVERYTHING

    def train_candidates(
        self, job: Any, groups: Sequence[tuple[Structure, ...]], workers: Workers
    ) -> Iterator[TrainedCandidate]:
        if job.folder is not None:
            yield from super().train_candidates(job, groups, workers)
            return
        self.batches.append([structure for (structure,) in groups])
        for group in groups[::-1] if self.backwards else groups:
            if self.stop_after == 0:
                raise KeyboardInterrupt
            self.stop_after -= 1
            (trained,) = super().train_candidates(job, [group], workers)
            yield job.failed(group[0], "its loss is NaN") if group[0] in self.failing else trained

    @property
    def screened(self) -> list[Structure]:
        return [structure for batch in self.batches for structure in batch]


def structures_of(chosen: SearchSettings) -> list[Structure]:
    """All structures of the search space."""
    space = chosen.space.design_space().around(chosen.structure)
    stages = itertools.product(*map(space.choices, chosen.structure.indices))
    return [Structure(each, chosen.structure.resolution) for each in stages]


def best_within(chosen: SearchSettings, budget: float) -> float:
    """The lowest loss of all structures within a multiple of the MasterNet's latency."""
    limit_ms = budget * DEVICE.network_ms(chosen.structure)
    return min(loss(s) for s in structures_of(chosen) if DEVICE.network_ms(s) <= limit_ms)


def test_screening_finds_a_better_structure_than_the_trials_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two super-blocks of one type are worse than the sum of both changes, as no trial shows."""
    monkeypatch.setattr(improvement, "NUM_FRONTIERS", NUM_FRONTIERS)
    losses = [
        loss(search(asked(screen=count), tmp_path / str(count)).selected.structure)
        for count in (0, 24)
    ]
    assert losses[1] < losses[0]
    assert losses[1] < best_within(asked(), 0.9) + 0.02


def test_batches_are_chosen_one_after_another(whole: tuple[Screens, SearchResult]) -> None:
    """All are within the budget by the table, and none is the MasterNet."""
    chosen, (lab, result) = asked(), whole
    study = StudyReader(result.folder)
    assert [len(batch) for batch in lab.batches] == [4, 4, 2]
    assert len(set(lab.screened)) == 10
    assert chosen.structure not in lab.screened
    assert [each.structure for each in study.screened()] == lab.screened
    table = Snapshot.read(result.folder).targets[0].table
    limit_ms = 1.1 * 0.9 * table.master_ms_per_image
    assert all(table.predict_ms_per_image(structure) <= limit_ms for structure in lab.screened)
    assert "screening" in result.seconds
    assert result.screened == 10


def test_a_chain_gives_the_latencies_of_its_table() -> None:
    """A pool looks up thousands of latencies, bit for bit those of the table."""
    table = DEVICE.table_of(asked())
    chain = make_chain(table.space, table)
    for structure in structures_of(asked()):
        ms_per_image = table.predict_ms_per_image(structure)
        assert find_latency_ms(chain, structure, table.offset_ms_per_image) == ms_per_image


def test_the_order_in_which_trainings_end_changes_nothing(
    tmp_path: Path, whole: tuple[Screens, SearchResult]
) -> None:
    forwards, first = whole
    backwards = Screens(asked(), backwards=True)
    second = search(asked(), tmp_path, backwards)
    assert forwards.batches == backwards.batches
    one, other = StudyReader(first.folder), StudyReader(tmp_path)
    assert one.screened() == other.screened()
    assert one.candidates() == other.candidates()
    assert first.selected == second.selected


@pytest.mark.parametrize("ended", [1, 4, 7])
def test_an_interrupted_screening_continues_where_it_stopped(
    tmp_path: Path, whole: tuple[Screens, SearchResult], ended: int
) -> None:
    chosen, (_, expected) = asked(), whole
    stopped, rest = Screens(chosen, backwards=True), Screens(chosen)
    stopped.stop_after = ended
    with pytest.raises(KeyboardInterrupt):
        search(chosen, tmp_path / "stopped", stopped)
    assert len(StudyReader(tmp_path / "stopped").screened()) == ended
    assert search(chosen, tmp_path / "stopped", rest).selected == expected.selected
    assert len(rest.screened) == 10 - ended
    screened = StudyReader(expected.folder).screened()
    assert StudyReader(tmp_path / "stopped").screened() == screened
    again = Screens(chosen)
    search(chosen, tmp_path / "stopped", again)
    assert not again.batches, "a finished study repeats nothing"


def test_a_batch_is_chosen_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A continued search trains the rest of the stored batch, whatever it would choose now."""
    stopped, rest = Screens(asked()), Screens(asked())
    stopped.stop_after = 2
    with pytest.raises(KeyboardInterrupt):
        search(asked(), tmp_path, stopped)
    screened = StudyReader(tmp_path).screening()
    assert screened.chosen == tuple(stopped.batches[0])
    assert screened.num_ended == 2
    monkeypatch.setattr(screening, "choose_to_screen", lambda *args: [])
    search(asked(), tmp_path, rest)
    assert rest.batches == [stopped.batches[0][2:]]


def test_a_continued_search_repeats_the_screening_that_failed(
    tmp_path: Path, whole: tuple[Screens, SearchResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*args: Any) -> None:
        raise KeyboardInterrupt

    failing, rest = Screens(asked(screen=4)), Screens(asked(screen=4))
    failing.failing = set(whole[0].batches[0])
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):  # noqa: PT012
        patch.setattr("genets.nas.rounds.select_at_each_resolution", stop)
        search(asked(screen=4), tmp_path, failing)
    search(asked(screen=4), tmp_path, rest)
    assert rest.batches == failing.batches
    assert {each.status for each in StudyReader(tmp_path).screened()} == {"done"}


def test_the_trials_decide_alone_where_every_screening_fails(
    tmp_path: Path, whole: tuple[Screens, SearchResult]
) -> None:
    failing = Screens(asked(screen=4))
    failing.failing = set(whole[0].batches[0])
    result = search(asked(screen=4), tmp_path, failing)
    assert ALL_SCREENINGS_FAILED in result.warnings
    assert NOTHING_SCREENED not in result.warnings


def test_a_search_says_that_no_structure_could_be_screened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screening, "choose_to_screen", lambda *args: [])
    result = search(asked(), tmp_path)
    assert NOTHING_SCREENED in result.warnings
    assert ALL_SCREENINGS_FAILED not in result.warnings


def test_a_study_of_an_older_version_keeps_its_scores(
    tmp_path: Path, whole: tuple[Screens, SearchResult]
) -> None:
    """Its file has the scores alone."""
    stopped, rest = Screens(asked()), Screens(asked())
    stopped.stop_after = 4
    with pytest.raises(KeyboardInterrupt):
        search(asked(), tmp_path, stopped)
    file = tmp_path / "screened.json"
    file.write_text(json.dumps(json.loads(file.read_text())["ended"]))
    assert search(asked(), tmp_path, rest).selected == whole[1].selected
    assert rest.batches == whole[0].batches[1:]


def test_latencies_that_a_user_removed_are_measured_again(
    tmp_path: Path, whole: tuple[Screens, SearchResult]
) -> None:
    """The stored choice stays."""
    stopped, rest = Screens(asked()), Screens(asked())
    stopped.stop_after = 6
    with pytest.raises(KeyboardInterrupt):
        search(asked(), tmp_path, stopped)
    shutil.rmtree(tmp_path / "latency")
    search(asked(), tmp_path, rest)
    assert rest.batches[0] == stopped.batches[1][2:]
    assert len(StudyReader(tmp_path).screening().measured) > 1


def test_a_search_that_is_stopped_in_the_selection_screens_nothing_again(
    tmp_path: Path, whole: tuple[Screens, SearchResult]
) -> None:
    class Stopped(Screens):
        def measure(self, *args: Any, **words: Any) -> dict[Structure, Measurement]:
            if len(self.screened) == 10:
                raise KeyboardInterrupt
            return super().measure(*args, **words)

    with pytest.raises(KeyboardInterrupt):
        search(asked(), tmp_path, Stopped(asked(), backwards=True))
    rest = Screens(asked())
    search(asked(), tmp_path, rest)
    assert not rest.batches
    assert StudyReader(tmp_path).candidates() == StudyReader(whole[1].folder).candidates()


@pytest.mark.parametrize(
    ("preset", "given", "differences"),
    [
        (None, {"screen": 9}, ["screen"]),
        (None, {"from_scratch": True}, ["from_scratch", "screen"]),
        (None, {"from_scratch": "False"}, []),
        (None, {"regression": "paper"}, ["regression", "screen"]),
        ("paper-literal", {}, ["regression", "screen", "trial_training.thaw"]),
    ],
)
def test_a_study_names_the_setting_that_differs(
    whole: tuple[Screens, SearchResult],
    preset: str | None,
    given: dict[str, Any],
    differences: list[str],
) -> None:
    folder = whole[1].folder
    changed = SearchSettings(**settings_at(folder, preset, given))
    if not differences:
        assert (changed.screen, changed.from_scratch) == (10, False)
        return
    with pytest.raises(StudyError) as caught:
        search(changed, folder)
    assert all(f"{name}: " in str(caught.value) for name in differences)


def test_a_structure_that_fails_is_left_out(
    tmp_path: Path, whole: tuple[Screens, SearchResult]
) -> None:
    lab, failing = whole[0], Screens(asked())
    failing.failing = set(lab.batches[0][:3])
    search(asked(), tmp_path, failing)
    screened = StudyReader(tmp_path).screened()
    assert len(failing.screened) == len(set(failing.screened)) == len(screened) == 10
    assert [each.structure for each in screened if each.status == "failed"] == lab.batches[0][:3]
    text = study_page(Snapshot.read(tmp_path), "2026-11-30")
    assert "failed: its loss is NaN" in text
    assert "3 screened structures failed (its loss is NaN)" in text


@pytest.mark.parametrize("selection", ["exact", "random"])
def test_fewer_are_screened_where_too_few_meet_the_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, selection: str
) -> None:
    monkeypatch.setattr(screening, "BATCH", BATCH)
    monkeypatch.setattr(improvement, "NUM_FRONTIERS", NUM_FRONTIERS)
    chosen = asked(screen=EVERYTHING, budget="0.7x", selection=selection)
    lab = Screens(chosen)
    result = search(chosen, tmp_path, lab)
    limit_ms = 0.7 * DEVICE.network_ms(chosen.structure)
    within = [s for s in structures_of(chosen) if DEVICE.network_ms(s) <= limit_ms]
    assert 0.7 * len(within) < len(lab.screened) < EVERYTHING
    assert loss(result.selected.structure) <= best_within(chosen, 0.7) + 0.02


def test_select_takes_a_screened_structure(whole: tuple[Screens, SearchResult]) -> None:
    """It is at least as good as the winner, which was chosen for the same budget."""
    chosen, (_, result) = asked(), whole
    (selected,) = select_top(result.folder, "0.9x", 1, lab=Screens(chosen))
    assert loss(selected.structure) <= loss(result.selected.structure)


def test_a_budget_learns_from_the_structures_of_other_budgets(tmp_path: Path) -> None:
    chosen = asked(budget=None, budgets=("0.9x", "0.8x"))
    lab = Screens(chosen)
    result = search(chosen, tmp_path, lab)
    study = StudyReader(tmp_path)
    larger, smaller = (study.at_budget(budget) for budget in ("0.9x", "0.8x"))
    assert [each.structure for each in larger.screened()] == lab.screened[:10]
    assert [each.structure for each in smaller.screened()] == lab.screened[10:]
    assert result.screened == len(set(lab.screened)) == len(lab.screened) == 20
    assert [each.screened for each in result.budgets.values()] == [10, 10]
    assert f"{result.screened} structures screened" in finished_parts(tmp_path)
    assert [result.screened, 10, 10] == [
        json.loads((tmp_path / "results" / folder / "result.json").read_text())["screened"]
        for folder in (".", "0.9x", "0.8x")
    ]
    again = search(chosen, tmp_path, Screens(chosen))
    assert [each.screened for each in again.budgets.values()] == [10, 10]
    assert smaller.screened_elsewhere() == larger.screened()
    assert study.screened_elsewhere() == [*larger.screened(), *smaller.screened()]
    snapshot = Snapshot.read(tmp_path)
    assert {each.structure for each in snapshot.latest.screened} == set(lab.screened)
    assert [len(each.latest.screened) for each in snapshot.budgets] == [10, 10]
    assert {"screening, 0.9x", "screening, 0.8x"} <= snapshot.seconds.keys()


def test_a_study_with_more_trials_keeps_what_it_has_screened(tmp_path: Path) -> None:
    few, more = asked(trials_per_super_block=2), asked(trials_per_super_block=6)
    first, second = Screens(few), Screens(more)
    search(few, tmp_path, first)
    before = StudyReader(tmp_path).screened()
    search(more, tmp_path, second)
    assert second.screened, "other trials choose other structures"
    assert not set(first.screened) & set(second.screened), "none is trained again"
    after = StudyReader(tmp_path).screened()
    assert {each.structure for each in after} == {*first.screened, *second.screened}
    assert all(each in after for each in before)
    third = Screens(more)
    search(more, tmp_path, third)
    assert not third.batches


def test_a_budget_that_was_screened_becomes_one_of_several(tmp_path: Path) -> None:
    lab = Screens(asked())
    lab.stop_after = 6
    with pytest.raises(KeyboardInterrupt):
        search(asked(), tmp_path, lab)
    both = asked(budget=None, budgets=("0.9x", "0.8x"))
    rest = Screens(both)
    search(both, tmp_path, rest)
    study = StudyReader(tmp_path)
    assert len(study.at_budget("0.9x").screened()) == 10
    assert not study.screened(), "its file has moved"
    assert not set(lab.screened[:6]) & set(rest.screened)


class BusyBeforeScreening(Screens):
    """Other programs use the device until structures have been screened."""

    def measure(self, structures: Any, *args: Any, **words: Any) -> dict[Structure, Measurement]:
        if not self.screened and {*structures} - {self.asked.structure}:
            raise BusyDeviceError("the device is busy")
        return super().measure(structures, *args, **words)


class SlowAfterScreening(BusyBeforeScreening):
    """Networks meet a budget by the table, and are measured after screening as slow as this.

    limit: The latency of every network but the MasterNet, as a factor of the MasterNet's.
    """

    limit = 0.6

    def _measurement(self, structure: Structure, target: Target) -> Measurement:
        measured = super()._measurement(structure, target)
        slowest_ms = self.limit * DEVICE.network_ms(self.asked.structure) / target.batch_size
        factor = max(1.0, slowest_ms / measured.ms_per_image)
        values = ("ms_per_image", "low_ms_per_image", "high_ms_per_image")
        return replace(measured, **{n: factor * getattr(measured, n) for n in values})


def test_a_budget_that_is_refused_after_screening_can_be_replaced(tmp_path: Path) -> None:
    both = asked(budget=None, budgets=("0.9x", "0.55x"))
    first = SlowAfterScreening(both)
    result = search(both, tmp_path, first)
    assert list(result.refused) == ["0.55x"]
    other = asked(budget=None, budgets=("0.9x", "0.65x"))
    result = search(other, tmp_path, SlowAfterScreening(other))
    assert (list(result.budgets), result.refused) == (["0.9x", "0.65x"], {})
    with pytest.raises(StudyError, match=r"has results for 0\.65x, so give"):
        search(both, tmp_path)


@pytest.mark.parametrize("budgets", [("0.7x", "0.65x"), ("0.7x", "0.55x")])
def test_one_budget_that_is_refused_after_screening_gives_way_to_several(
    tmp_path: Path, budgets: tuple[str, str]
) -> None:
    """The structures that were screened for it are not screened again if it is among them."""
    alone, several = asked(budget="0.55x"), asked(budget=None, budgets=budgets)
    first, second = SlowAfterScreening(alone), SlowAfterScreening(several)
    with pytest.raises(InfeasibleBudgetError, match="give a larger budget, which continues"):
        search(alone, tmp_path, first)
    assert first.screened
    result = search(several, tmp_path, second)
    assert [*result.budgets, *result.refused] == [*budgets]
    study = StudyReader(tmp_path)
    assert not study.screened(), "its file has moved"
    screened = study.at_budget("0.55x").screened()
    assert {each.structure for each in screened} >= set(first.screened)
    assert "0.55x" not in budgets or not set(first.screened) & set(second.screened)


class SlowerThanPredicted(Screens):
    """All structures but the MasterNet are slower than the table predicts, by an eighth."""

    def _measurement(self, structure: Structure, target: Target) -> Measurement:
        measured = super()._measurement(structure, target)
        slower = 1.0 if structure == self.asked.structure else 1.125
        values = ("ms_per_image", "low_ms_per_image", "high_ms_per_image")
        return replace(measured, **{name: slower * getattr(measured, name) for name in values})


def test_measurements_correct_the_table_before_structures_are_chosen(tmp_path: Path) -> None:
    chosen = asked()
    lab = SlowerThanPredicted(chosen)
    search(chosen, tmp_path, lab)
    limit_ms = 0.9 * DEVICE.network_ms(chosen.structure)
    assert len(lab.screened) == 10
    assert all(1.125 * DEVICE.network_ms(structure) <= limit_ms for structure in lab.screened)
    measured = StudyReader(tmp_path).screening().measured
    assert 2 <= len(measured) <= 1 + 3 * 3


def test_a_structure_that_is_too_slow_takes_no_place(tmp_path: Path) -> None:
    """Screened structures are only predicted to meet the budget, and all of them measure slower."""
    chosen = asked()

    class Slow(BusyBeforeScreening):
        def _measurement(self, structure: Structure, target: Target) -> Measurement:
            measured = super()._measurement(structure, target)
            slower = 9.0 if structure in self.screened else 1.0
            values = ("ms_per_image", "low_ms_per_image", "high_ms_per_image")
            return replace(measured, **{n: slower * getattr(measured, n) for n in values})

    lab = Slow(chosen)
    result = search(chosen, tmp_path, lab)
    assert len(result.confirmed) == chosen.confirm, "no place is left empty"


def test_each_round_screens_around_its_own_masternet(tmp_path: Path) -> None:
    chosen = asked(rounds=2)
    lab = Screens(chosen)
    result = search(chosen, tmp_path, lab)
    study = StudyReader(tmp_path)
    assert len(result.rounds) == 2
    assert [len(study.screened(number)) for number in (1, 2)] == [10, 10]
    assert result.rounds[1].master not in [each.structure for each in study.screened(2)]
    first, second = ([each.structure for each in study.screened(n)] for n in (1, 2))
    scaled = first[0]
    assert [b.type for b in scaled.super_blocks] == [b.type for b in chosen.structure.super_blocks]
    assert second[0] != scaled, "later MasterNets have other block types"
    assert "screening, round 2" in result.seconds


@pytest.mark.parametrize(
    "changes",
    [
        {"screen": 0},
        {"screen": None, "from_scratch": True},
        {"screen": None, "regression": "paper"},
    ],
)
def test_a_search_without_screening_has_no_such_phase(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    given = {name: value for name, value in changes.items() if value is not None}
    values = {**SETTINGS, "rounds": 1, "from_scratch": False, **given}
    if changes["screen"] is None:
        del values["screen"]
    chosen = SearchSettings(**values)
    lab = Screens(chosen)
    result = search(chosen, tmp_path, lab)
    assert chosen.screen == 0
    assert not lab.batches
    assert "screening" not in result.seconds
    snapshot = Snapshot.read(tmp_path)
    assert "screening" not in {each.phase for each in list_phases(snapshot, None, is_running=False)}
    assert "Screened structures" not in study_page(snapshot, "2026-11-30")


def test_the_page_and_the_phases_show_the_screening(
    tmp_path: Path, whole: tuple[Screens, SearchResult]
) -> None:
    chosen = asked()
    stopped = Screens(chosen)
    stopped.stop_after = 6
    with pytest.raises(KeyboardInterrupt):
        search(chosen, tmp_path, stopped)
    snapshot = Snapshot.read(tmp_path)
    (phase,) = (
        each for each in list_phases(snapshot, None, is_running=False) if each.phase == "screening"
    )
    assert (phase.state, phase.done, phase.total) == ("waiting", 6, 10)
    _, result = whole
    text = study_page(Snapshot.read(result.folder), "2026-11-30")
    assert "Screened structures" in text
    assert all(str(each.structure) in text for each in StudyReader(result.folder).screened())


@pytest.mark.parametrize(
    ("steps", "images", "epochs"), [(1, 1000, 1), (32, 1000, 3), (32, 100_000, 1), (9999, 640, 20)]
)
def test_a_screened_structure_takes_enough_steps(steps: int, images: int, epochs: int) -> None:
    """Batches of 64; an epoch is completed, and the recipe of a candidate is the limit."""
    fields = {**named_recipe("quick"), "epochs": 90, "batch_size": 64}
    chosen = asked(screen_steps=steps, confirm_epochs=20)
    assert screening_recipe(chosen, make_recipe(fields), images).epochs == epochs


def test_each_length_of_training_has_a_level_of_its_own() -> None:
    """A short training scores worse, which says nothing about the structure."""
    master = settings().structure
    space = structures_of(asked())
    trials = [
        Trial(index, super_block)
        for index in (0, 1)
        for super_block in {s.super_blocks[index] for s in space}
    ]
    results = [
        TrialResult(t, "done", 0.5, loss(t.structure(master)) + 0.05) for t in sorted(trials)
    ]
    structures = space[:40:4]

    def fit(short: float) -> AccuracyModel:
        screened = [TrainedCandidate(s, "done", 1, 0.5, short * loss(s)) for s in structures]
        trained = [TrainedCandidate(s, "done", 9, 0.5, loss(s)) for s in structures[:2]]
        return AccuracyModel.fit(
            master, results, loss(master), metric="cross_entropy",
            candidates=[*trained, *screened], inherited=True,
        )  # fmt: skip

    one, other = fit(1.5), fit(3.0)
    for structure in space[::7]:
        expected = one.predict(structure).value
        assert other.predict(structure).value == pytest.approx(expected, rel=0.02)


def test_the_plan_counts_the_screening(tmp_path: Path) -> None:
    lab = ClosedFormLatency(asked())
    plan = make_plan(asked(), tmp_path / "study", lab=lab, workers=1, limit_s=1)
    (phase,) = (each for each in plan.phases if each.phase == "screening")
    assert (phase.count, phase.epochs, phase.folds) == (10, 1, 1)
    assert phase.seconds > 0


@pytest.mark.parametrize(
    ("changes", "counts"),
    [
        ({}, (5, 1, 32, 2)),
        ({"space": {"blocks": ["XX3", "DW3r6"]}}, (3, 1, 32, 2)),  # and its own block
        ({"screen": 0}, (14, 2, 0, 4)),
        ({"from_scratch": True}, (14, 2, 0, 4)),
        ({"from_scratch": "False"}, (5, 1, 32, 2)),
        ({"regression": "paper"}, (14, 2, 0, 4)),
        ({"from_scratch": True, "confirm": 2, "trials_per_super_block": 3}, (3, 2, 0, 2)),
    ],
)
def test_a_search_without_screening_has_more_trials(
    changes: dict[str, Any], counts: tuple[int, ...]
) -> None:
    chosen = SearchSettings(**{"data": "digits", "budget": "0.5x", **changes})
    names = ("trials_per_super_block", "controls_per_super_block", "screen", "confirm")
    assert tuple(getattr(chosen, name) for name in names) == counts
    assert SearchSettings.from_toml(chosen.to_toml()) == chosen


@pytest.mark.parametrize(
    "changes",
    [
        {"screen": -1},
        {"screen_steps": 0},
        {"screen": 1.5},
        {"screen": 4, "from_scratch": True},
        {"screen": 4, "regression": "paper"},
    ],
)
def test_a_wrong_number_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=next(iter(changes))):
        asked(**changes)


def test_a_study_of_an_older_version_screens_nothing(tmp_path: Path) -> None:
    chosen = asked()
    lines = chosen.to_toml().splitlines()
    (tmp_path / "study.toml").write_text(
        "\n".join(line for line in lines if not line.startswith("screen"))
    )
    assert StudyReader(tmp_path).settings == chosen.model_copy(update={"screen": 0})


@pytest.mark.parametrize("folds", [1, 2])
def test_a_real_search_screens_assembled_structures(tmp_path: Path, folds: int) -> None:
    """Trials, screening and candidates train for real, on the digits."""
    chosen = asked(
        screen=2, confirm=1, folds=folds, trials_per_super_block=2,
        trial_training={"feature_steps": 1},
        master_training={"epochs": 12, "warmup_epochs": 0.5, "learning_rate": 0.8},
    )  # fmt: skip
    result = run_search(chosen, tmp_path, workers=1, lab=ClosedFormLatency(chosen))
    screened = StudyReader(tmp_path).screened()
    assert [each.status for each in screened] == ["done", "done"]
    assert all(each.seconds > 0 for each in screened)
    assert result.winner.top1 > 0
    assert not [*tmp_path.glob("confirmed/*")], "the weights of screened structures are not kept"
    fold = load_data(chosen.data, 8, fold=Fold(0, folds) if folds > 1 else None)
    recipe = screening_recipe(chosen, chosen.final_training.recipe(), len(fold.train))
    with Study.open(tmp_path) as study:
        assert screening.make_screening_job(SearchContext(study, 10)).recipe == recipe
    record = json.loads((tmp_path / "screened.json").read_text())
    assert record["chosen"] == [str(each.structure) for each in screened]
    assert [row["structure"] for row in record["ended"]] == record["chosen"]
