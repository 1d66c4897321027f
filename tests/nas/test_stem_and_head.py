"""Widths of stem and head: planned, modelled, selected, confirmed, told."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rounds_lab import in_closed_form, loss, settings

from genets.core.errors import StructureError
from genets.nas import run
from genets.nas.accuracy.model import AccuracyModel
from genets.nas.accuracy.observations import Observations
from genets.nas.study.records import SearchResult, Trial, TrialResult
from genets.nas.study.snapshot import Snapshot
from genets.nas.study.study import Study
from genets.nas.trials.plan import plan_trials
from genets.report.study.page import study_page
from genets.structure import Structure

ENDS = {"stem_width_range": (0.5, 2), "head_width_range": (0.5, 2)}
ASKED = settings(
    space={"blocks": ["XX3", "DW3r3"], "depth_change": 1, **ENDS}, budget="1.3x", rounds=1
)
MASTER = ASKED.structure
AROUND = ASKED.space.design_space().around(MASTER)
STEM, HEAD = MASTER.indices[0], MASTER.indices[-1]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SearchResult]:
    folder = tmp_path_factory.mktemp("ends") / "study"
    with pytest.MonkeyPatch.context() as patch:
        in_closed_form(patch, asked=ASKED)
        return folder, run.search(ASKED, folder, workers=1)


@pytest.mark.parametrize("sampling", ["design", "balanced", "random"])
def test_each_width_of_an_end_is_tried_as_often_and_its_own_by_controls_alone(sampling) -> None:
    trials = plan_trials(AROUND, 6, 2, seed=0, sampling=sampling)
    for index in (STEM, HEAD):
        own = [trial for trial in trials if trial.index == index]
        assert sum(trial.is_control(MASTER) for trial in own) == 2
        widths = [t.super_block.width for t in own if not t.is_control(MASTER)]
        assert set(widths) <= set(AROUND.widths[index]) - {MASTER.stage(index).width}
        if sampling != "random":
            counts = [widths.count(width) for width in set(widths)]
            assert max(counts) - min(counts) <= 1
    fixed = settings().space.design_space().around(MASTER)
    same = [trial for trial in trials if trial.index not in (STEM, HEAD)]
    assert [*plan_trials(fixed, 6, 2, seed=0, sampling=sampling)] == same


def results(noise: float) -> list[TrialResult]:
    """log width of the stem is worth 0.1, of the head 0.02; super-blocks nothing."""
    rng, found = np.random.default_rng(0), []
    for trial in plan_trials(AROUND, 8, 4, seed=1):
        gain = {STEM: 0.1, HEAD: 0.02}.get(trial.index, 0.0)
        own = MASTER.stage(trial.index)
        value = 0.8 + gain * math.log(trial.super_block.width / own.width) + rng.normal(0, noise)
        found.append(TrialResult(trial, "done", value, 1 - value))
    return found


def test_the_model_learns_what_their_widths_are_worth() -> None:
    model = AccuracyModel.fit(MASTER, results(1e-3), 0.9, trend=(0.0, 0.01))
    for index, gain in ((STEM, 0.1), (HEAD, 0.02)):
        wider = MASTER.with_stage(
            index, replace(MASTER.stage(index), width=2 * MASTER.stage(index).width)
        )
        assert model.predict(wider).mean == pytest.approx(gain * math.log(2), abs=5e-3)
    rows = [row for row in model.effects.gradients() if row["super_block"] in (STEM, HEAD)]
    assert [(row["block"], "g0" in row) for row in rows] == [("Conv3", False), ("Conv1", False)]
    assert not [text for text in model.trial_warnings() if "stem" in text or "head" in text]
    assert model.predict(MASTER).mean == 0


def test_where_an_end_was_not_tried_it_is_told() -> None:
    model = AccuracyModel.fit(MASTER, results(1e-3), 0.9)
    beyond = MASTER.with_stage(STEM, replace(MASTER.stem, width=24))
    assert model.tried.outside(beyond) == ("stem: width 24, tried 8 to 16",)
    only = [TrialResult(Trial(STEM, replace(MASTER.stem, width=16)), "done", 0.8, 1.0)]
    doubts = AccuracyModel.fit(MASTER, only, 0.9).trial_warnings()
    assert "stem has no control trial; its zero is an estimate" in doubts
    assert Observations.collect(MASTER, only, "top1").trials[0].index == STEM


def test_a_search_finds_ends_of_other_widths(finished: tuple[Path, SearchResult]) -> None:
    folder, result = finished
    selected = result.selected
    assert selected.structure.stem.width == 16, "a wider stem is worth most of all"
    assert loss(selected.structure) < loss(MASTER)
    assert selected.high_ms <= selected.budget_ms
    with Study.open(folder) as study:
        assert {r.trial.index for r in study.results()} == {*MASTER.indices}
    assert Structure.parse(str(selected.structure)) == selected.structure


def test_the_page_names_stem_and_head(finished: tuple[Path, SearchResult]) -> None:
    snapshot = Snapshot.read(finished[0])
    page = study_page(snapshot, "today")
    assert '"super-block": "stem"' in page or '"super-block":"stem"' in page
    assert "stem 0.5 to 2 times" in page


def test_a_range_that_leaves_out_the_masternets_width_is_refused() -> None:
    for name in ENDS:
        with pytest.raises(StructureError, match=f"{name} must hold two factors"):
            settings(space={name: (1.5, 2)})
