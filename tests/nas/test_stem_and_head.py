"""Widths of stem and head: in trials, model, selection and report."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rounds_lab import loss, search, settings

from genets.core.errors import StructureError
from genets.nas.accuracy.model import AccuracyModel
from genets.nas.accuracy.observations import Observations
from genets.nas.result import SearchResult
from genets.nas.snapshot import Snapshot
from genets.nas.study.records import Trial, TrialResult
from genets.nas.study.study import Study
from genets.nas.trials.plan import Sampling, plan_trials
from genets.report.study.page import study_page
from genets.structure import Structure
from genets.training.score import Metric

ENDS = {"stem_width_range": (0.5, 2), "head_width_range": (0.5, 2)}
ASKED = settings(
    space={"blocks": ["XX3", "DW3r3"], "depth_change": 1, **ENDS}, budget="1.3x", rounds=1
)
MASTER = ASKED.structure
SPACE = ASKED.space.design_space().around(MASTER)
STEM, HEAD = MASTER.indices[0], MASTER.indices[-1]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SearchResult]:
    folder = tmp_path_factory.mktemp("ends") / "study"
    return folder, search(ASKED, folder)


@pytest.mark.parametrize("sampling", ["design", "balanced", "random"])
def test_widths_of_stem_and_head_are_balanced_and_only_controls_keep_the_own_width(
    sampling: Sampling,
) -> None:
    trials = plan_trials(SPACE, 6, 2, seed=0, sampling=sampling)
    for index in (STEM, HEAD):
        own = [trial for trial in trials if trial.index == index]
        assert sum(trial.is_control(MASTER) for trial in own) == 2
        widths = [t.super_block.width for t in own if not t.is_control(MASTER)]
        assert set(widths) <= set(SPACE.widths[index]) - {MASTER.stage(index).width}
        if sampling != "random":
            counts = [widths.count(width) for width in set(widths)]
            assert max(counts) - min(counts) <= 1
    if sampling != "design":  # which pairs the super-blocks of the network in another way
        fixed = settings().space.design_space().around(MASTER)
        same = [trial for trial in trials if trial.index not in (STEM, HEAD)]
        assert [*plan_trials(fixed, 6, 2, seed=0, sampling=sampling)] == same


def synthetic_results(noise: float) -> list[TrialResult]:
    """The log width of the stem gains 0.1, that of the head 0.02; super-blocks gain nothing."""
    rng, results = np.random.default_rng(0), []
    for trial in plan_trials(SPACE, 8, 4, seed=1):
        gain = {STEM: 0.1, HEAD: 0.02}.get(trial.index, 0.0)
        own = MASTER.stage(trial.index)
        value = 0.8 + gain * math.log(trial.super_block.width / own.width) + rng.normal(0, noise)
        results.append(TrialResult(trial, "done", value, 1 - value))
    return results


def test_the_model_learns_the_gain_of_their_widths() -> None:
    model = AccuracyModel.fit(MASTER, synthetic_results(1e-3), 0.9)
    for index, gain in ((STEM, 0.1), (HEAD, 0.02)):
        wider = MASTER.with_stage(
            index, replace(MASTER.stage(index), width=2 * MASTER.stage(index).width)
        )
        error = 0.1 * (0.2 - gain * math.log(2)) / 0.2  # trials begin at an error of 0.2
        assert model.predict(wider).mean == pytest.approx(0.1 - error, abs=2e-3)
    rows = [row for row in model.effects.gradients() if row["super_block"] in (STEM, HEAD)]
    assert [(row["block"], "g0" in row) for row in rows] == [("Conv3", False), ("Conv1", False)]
    assert not [text for text in model.trial_warnings() if "stem" in text or "head" in text]
    assert model.predict(MASTER).mean == 0


def test_an_untried_width_and_a_missing_control_are_reported() -> None:
    model = AccuracyModel.fit(MASTER, synthetic_results(1e-3), 0.9)
    outside = MASTER.with_stage(STEM, replace(MASTER.stem, width=24))
    assert model.tried.outside(outside) == ("stem: width 24 is outside the tried range (8 to 16)",)
    perturbed = [TrialResult(Trial(STEM, replace(MASTER.stem, width=16)), "done", 0.8, 1.0)]
    warnings = AccuracyModel.fit(MASTER, perturbed, 0.9).trial_warnings()
    assert "stem has no control trial, so the baseline of stem is only an estimate" in warnings
    assert Observations.collect(MASTER, perturbed, Metric.TOP1).trials[0].index == STEM


def test_a_search_selects_other_widths_of_stem_and_head(
    finished: tuple[Path, SearchResult],
) -> None:
    folder, result = finished
    selected = result.selected
    assert selected.structure.stem.width == 16, "a wider stem has the largest gain"
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


def test_a_range_without_the_masternets_width_is_refused() -> None:
    for name in ENDS:
        with pytest.raises(StructureError, match=f"{name} must hold two factors"):
            settings(space={name: (1.5, 2)})
