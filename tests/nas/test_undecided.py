"""Undecided choices and the trials that would settle them, against refits and simulation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from small_networks import THREE

from genets.nas.accuracy.bayes import BayesEffects
from genets.nas.accuracy.gaussian import LinearModel, compute_posterior
from genets.nas.accuracy.model import AccuracyModel, Form
from genets.nas.accuracy.observations import LogErrors
from genets.nas.accuracy.undecided import (
    UndecidedChoice,
    chance_to_settle,
    std_after_trials,
    trials_to_settle,
    undecided_choices,
)
from genets.nas.settings.settings import SearchSettings
from genets.nas.study.records import Candidate, TrainedCandidate, Trial, TrialResult
from genets.nas.trials.plan import plan_more_trials
from genets.nas.warnings import (
    master_warnings,
    measurement_warnings,
    round_warnings,
    table_warnings,
    trial_warnings,
)
from genets.structure import Block, SuperBlock
from genets.training import Score
from genets.training.score import Metric

SETTINGS = SearchSettings(
    data="digits", budget="0.5x", metric="top1",
    master=str(THREE),
    space={"blocks": ["XX3", "BL3r0.5", "DW3r3"]}, trials_per_super_block=6, screen=0,
)  # fmt: skip
MASTER = SETTINGS.structure
SPACE = SETTINGS.space.design_space().around(MASTER)


def fit(loss: float, noise: float = 0.01, form: Form = "bayes") -> AccuracyModel:
    """Fit trials where BL is as good as XX, and DW is worse by `loss`."""
    rng = np.random.default_rng(0)
    trials = [Trial(index, own, n) for index, own in enumerate(MASTER.super_blocks) for n in (0, 1)]
    trials += plan_more_trials(SPACE, trials, 6, seed=0, sampling="balanced")
    results = [
        TrialResult(t, "done", 0.8 - loss * (t.super_block.type == "DW") + rng.normal(0, noise))
        for t in dict.fromkeys(trials)
    ]
    structure = MASTER.with_stage(0, SuperBlock("DW", 1, 24, 1, 3, 3))
    candidates = [TrainedCandidate(structure, "done", 9, 0.88, 0.5)]
    return AccuracyModel.fit(MASTER, results, 0.9, form=form, candidates=candidates)


def plan(count: int) -> Sequence[Trial]:
    return plan_more_trials(SPACE, [], count, seed=1, sampling="balanced")


def bayes_effects(model: AccuracyModel) -> BayesEffects:
    assert isinstance(model.effects, BayesEffects)
    return model.effects


def test_the_deviation_after_more_trials_equals_the_deviation_of_a_new_fit() -> None:
    effects = bayes_effects(fit(0.05))
    choice, trials, rng = undecided_choices(effects)[0], plan(4), np.random.default_rng(2)
    model = effects.model
    done = effects.observations.trials
    noise = dict(zip([t.index for t in done], model.noise_variance[: len(done)], strict=True))
    assert len(model.noise_variance) == len(done) + 1, "a trained candidate"
    refit = compute_posterior(
        LinearModel(
            np.vstack(
                (
                    model.features,
                    [effects.feature_map.trial_row(t.index, t.super_block) for t in trials],
                )
            ),
            np.concatenate((model.target, rng.normal(size=len(trials)))),
            model.prior_mean,
            model.prior_variance,
            np.concatenate((model.noise_variance, [noise[t.index] for t in trials])),
            np.pad(model.misfit, (0, len(trials))),
        )
    )
    expected = math.sqrt(choice.row @ refit.covariance @ choice.row)
    assert std_after_trials(effects, choice.row, trials) == pytest.approx(expected, rel=1e-6)
    assert expected < choice.std
    assert std_after_trials(effects, choice.row, []) == pytest.approx(choice.std)


@pytest.mark.parametrize(("mean", "left"), [(0.0, 0.3), (1.2, 0.5), (1.9, 0.9), (0.4, 0.05)])
def test_the_chance_to_settle_a_choice_equals_a_simulation(mean: float, left: float) -> None:
    errors = LogErrors(Metric.TOP1, 0.9)
    choice = UndecidedChoice(0, Block("XX"), Block("DW", 3, 3), mean, 1.0, np.zeros(1), errors)
    rng = np.random.default_rng(0)
    later = rng.normal(mean, math.sqrt(1 - left**2), 200_000)
    share = float(np.mean(np.abs(later) >= 2 * left))
    assert chance_to_settle(choice, left) == pytest.approx(share, abs=0.005)
    assert chance_to_settle(choice, 1.0) == 0.0


def test_the_number_of_needed_trials_equals_a_search_over_all_numbers() -> None:
    effects = bayes_effects(fit(0.05, noise=0.02))
    choices = undecided_choices(effects)
    needed = trials_to_settle(effects, choices, plan, step=3)
    for choice, count in zip(choices, needed, strict=True):
        chances = [chance_to_settle(choice, std_after_trials(effects, choice.row, plan(n)))
                   for n in range(3, 51, 3)]  # fmt: skip
        expected = [n for n, chance in zip(range(3, 51, 3), chances, strict=True) if chance >= 0.5]
        assert count == (expected[0] if expected else None)


def test_each_undecided_choice_has_a_warning_and_the_last_is_the_command(tmp_path: Path) -> None:
    folder = tmp_path / "my study"
    model = fit(0.05, noise=0.02)
    warnings = trial_warnings(model, SETTINGS, folder)
    choices = model.undecided_choices()
    assert choices
    needed = trials_to_settle(
        bayes_effects(model), choices,
        lambda n: plan_more_trials(SPACE, bayes_effects(model).observations.trials, n, seed=0,
                                   sampling="design"), 3,
    )  # fmt: skip
    assert any(needed)
    for choice, count in zip(choices, needed, strict=True):
        number = "even 50" if count is None else f"about {count}"
        assert any(s.startswith(f"{choice}; {number} more trials") for s in warnings), warnings
    enough = 6 + max(n for n in needed if n)
    assert warnings[-1].endswith(
        f"genets search --out '{folder}' --trials-per-super-block {enough}"
    )  # fmt: skip
    assert not fit(0.05, form="paper").undecided_choices()


def test_a_clear_difference_is_not_an_undecided_choice() -> None:
    choices = fit(0.3, noise=1e-4).undecided_choices()
    early = [choice for choice in choices if choice.index < 2]
    assert not any("DW" in (choice.best.type, choice.other.type) for choice in early)


def test_structures_outside_the_range_of_the_trials_are_marked() -> None:
    own = MASTER.super_blocks
    trials = [Trial(0, SuperBlock("BL", 3, 32, 1, 3, 0.5)), Trial(1, SuperBlock("XX", 2, 48, 2))]
    results = [TrialResult(trial, "done", 0.7) for trial in trials]
    tried = AccuracyModel.fit(MASTER, results, 0.9).tried
    assert tried.outside(MASTER) == ()
    assert tried.outside(MASTER.with_stage(0, SuperBlock("BL", 2, 32, 1, 3, 0.5))) == ()
    outside = MASTER.with_stage(0, SuperBlock("XX", 4, 16)).with_stage(
        2, SuperBlock("XX", own[2].depth, own[2].width, 2)
    )
    assert tried.outside(outside) == (
        "super-block 1: depth 4 is outside the tried range (1 to 3)",
        "super-block 1: width 16 is outside the tried range (24 to 32)",
        "super-block 3: no trial used the block XX3",
    )


def test_a_table_with_large_errors_causes_a_warning() -> None:
    assert table_warnings(0.1) == []
    (sentence,) = table_warnings(0.773)
    assert sentence.startswith("the latency table errs by 77% (RMSPE) on networks that")


@pytest.mark.parametrize(("times", "warned"), [(1.0, 0), (1.4, 0), (0.7, 0), (15.0, 1), (0.5, 1)])
def test_a_measurement_far_from_the_prediction_causes_a_warning(times: float, warned: int) -> None:
    ms = 2.0 * times
    candidate = Candidate(MASTER, 9.0, 2.0, ms, ms, ms, 5.0, False, 0.8, 0.1, 0.05)
    warnings = measurement_warnings(candidate)
    assert len(warnings) == warned
    if warnings:
        assert f"{ms:.4g} ms per image, is {times:.2g} times the prediction of the" in warnings[0]


@pytest.mark.parametrize(
    ("own", "master_ms", "warned"), [(0.9, 1.0, True), (0.7, 1.0, False), (0.9, 3.0, False)]
)
def test_a_master_net_that_is_better_than_the_winner_causes_a_warning(
    own: float, master_ms: float, warned: bool
) -> None:
    selected = Candidate(MASTER, 2.0, 1.5, 1.5, 1.5, 1.5, master_ms, False, 0.8, 0.1, 0.05)
    winner = TrainedCandidate(MASTER, "done", 3, 0.8, 0.5)
    warnings = master_warnings(SETTINGS, selected, Score(own, 0.4), [winner])
    assert len(warnings) == warned
    if warnings:
        assert "(top-1 0.9 after 36 epochs against 0.8 after 3)" in warnings[0]
        assert warnings[0].startswith("the MasterNet, which at 1 ms per image meets the budget")
    assert master_warnings(SETTINGS, selected, Score(own, 0.4), []) == []


def test_a_round_with_one_candidate_causes_a_warning() -> None:
    same, other = (
        TrainedCandidate(s, "done", 3, 0.8, 0.5) for s in (MASTER, MASTER.with_resolution(20))
    )
    (sentence,) = round_warnings(2, MASTER, [same])
    assert sentence.startswith("round 2 had no candidate except its own MasterNet")
    for number, confirmed in ((1, [same]), (2, [other]), (2, [same, other]), (2, [])):
        assert round_warnings(number, MASTER, confirmed) == []


def test_where_structures_are_screened_no_trials_are_asked_for(tmp_path: Path) -> None:
    model = fit(0.05, noise=0.02)
    assert model.undecided_choices()
    assert trial_warnings(model, SETTINGS, tmp_path, screened=True) == model.trial_warnings()
