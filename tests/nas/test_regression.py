"""The accuracy model, against the synthetic effects that its trials were made of."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr
from small_networks import FOUR

from genets.core.errors import GenetsError
from genets.nas.accuracy.bayes import BayesEffects
from genets.nas.accuracy.features import (
    SHORTCUT,
    TREND,
    TREND_FLOOR,
    FeatureMap,
    candidate_offset,
)
from genets.nas.accuracy.model import AccuracyModel
from genets.nas.accuracy.observations import Observations, RepeatNoise
from genets.nas.accuracy.prior import TREND_MEAN
from genets.nas.study.records import TrainedCandidate, Trial, TrialResult
from genets.structure import Block, DesignSpace, Structure, SuperBlock
from genets.training.score import Metric

MASTER = FOUR
BLOCKS = (Block("XX"), Block("BL", ratio=0.25), Block("BL", ratio=0.5), Block("DW", ratio=3))
SPACE = DesignSpace(blocks=BLOCKS, resolutions=()).around(MASTER)
BASELINES = (0.09, 0.14, 0.1, 0.085)  # error of the control trials of each super-block
MASTER_TOP1 = 0.92
MASTER_ERROR = 0.08

pytestmark = pytest.mark.usefixtures("one_blas_thread")


def true_gain(index, super_block):
    """The fall of the log of the error.

    XX is best in early super-blocks, DW in late ones; depth and width help everywhere.
    """
    own = MASTER.super_blocks[index]
    type_gain = {"XX": 0.0, "BL": -0.2 + 0.08 * index, "DW": -0.3 + 0.12 * index}
    slope_depth, slope_width = 0.1 + 0.02 * index, 0.2
    return (
        type_gain[super_block.type]
        - type_gain[own.type]
        + slope_depth * math.log(super_block.depth / own.depth)
        + slope_width * math.log(super_block.width / own.width)
    )


def synthetic_results(noise, per_super_block=20, controls=3, seed=0):
    rng = np.random.default_rng(seed)
    results = []
    for index, own in enumerate(MASTER.super_blocks):
        choices = SPACE.choices(index)
        drawn = [choices[n] for n in rng.permutation(len(choices))[:per_super_block]]
        trials = [Trial(index, own, repeat) for repeat in range(controls)]
        trials += [Trial(index, super_block) for super_block in drawn if super_block != own]
        for trial in trials:
            gain = true_gain(index, trial.super_block) + rng.normal(0, noise)
            error = BASELINES[index] * math.exp(-gain)
            results.append(TrialResult(trial, "done", 1 - error, 4 * error))
    return results


def samples(count, seed=1):
    rng = np.random.default_rng(seed)
    return [SPACE.sample(rng) for _ in range(count)]


def true_structure_gain(structure):
    """The gain in top-1."""
    fall = sum(true_gain(index, s) for index, s in enumerate(structure.super_blocks))
    return MASTER_ERROR * (1 - math.exp(-fall))


# The Bayesian regression


def test_the_true_gains_are_recovered_as_the_noise_of_trials_vanishes():
    truth = np.array([true_structure_gain(structure) for structure in samples(200)])
    errors = []
    for noise in (3e-1, 3e-2, 3e-4):
        model = AccuracyModel.fit(MASTER, synthetic_results(noise, 60), MASTER_TOP1)
        predicted = np.array([model.predict(s).mean for s in samples(200)])
        errors.append(float(np.sqrt(np.mean((predicted - truth) ** 2))))
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.05 * truth.std()


def test_sixty_trials_rank_structures_and_estimate_their_own_error():
    results = synthetic_results(0.04, per_super_block=12)
    assert len(results) <= 60
    truth = np.array([true_structure_gain(structure) for structure in samples(200)])
    model = AccuracyModel.fit(MASTER, results, MASTER_TOP1)
    predictions = [model.predict(structure) for structure in samples(200)]
    mean = np.array([p.mean for p in predictions])
    standardised = (mean - truth) / [p.std for p in predictions]
    assert spearmanr(mean, truth).statistic > 0.85
    assert 0.4 < np.sqrt(np.mean(standardised**2)) < 1.6
    paper = AccuracyModel.fit(MASTER, results, MASTER_TOP1, form="paper")
    assert spearmanr([paper.predict(s).mean for s in samples(200)], truth).statistic < 0.6


@pytest.mark.parametrize("form", ["bayes", "paper"])
@pytest.mark.parametrize("metric", ["top1", "cross_entropy"])
def test_predictions_follow_from_sums_over_super_blocks(form, metric):
    score = MASTER_TOP1 if metric == "top1" else 0.32
    results = synthetic_results(0.04)
    model = AccuracyModel.fit(MASTER, results, score, metric=metric, form=form)
    for structure in samples(20):
        parts = [
            model.stage_gain(index, [8, structure.stages[index].width], [s])[1, 0]
            for index, s in enumerate(structure.super_blocks)
        ]
        error = 0.08 if metric == "top1" else 0.32
        expected = sum(parts) if form == "paper" else error * (1 - math.exp(-sum(parts)))
        assert model.predict(structure).mean == pytest.approx(expected, abs=1e-12)
    for index, choices in enumerate(map(SPACE.choices, range(4))):
        table = model.stage_gain(index, [16, 24], choices)
        assert table.shape == (2, len(choices))
    own = model.predict(MASTER)
    assert own.mean == pytest.approx(0, abs=1e-12)
    assert own.value == (score if metric == "top1" else -score)


def test_mean_and_deviation_are_of_the_same_sum_of_effects():
    model = AccuracyModel.fit(MASTER, synthetic_results(0.04), MASTER_TOP1)
    effects = model.effects
    assert isinstance(effects, BayesEffects)
    for structure in samples(5):
        row = effects.feature_map.structure_row(structure)
        prediction, fall = model.predict(structure), row @ effects.posterior.mean
        assert prediction.mean == pytest.approx(MASTER_ERROR * (1 - math.exp(-fall)))
        error = MASTER_ERROR * math.exp(-fall)
        assert prediction.std > error * effects.row_std(row), "the misfit is added"
    assert model.predict(MASTER).std == pytest.approx(0, abs=1e-12)
    assert model.predict(samples(1)[0]).std > 0


def test_the_trend_is_a_weighted_sum_of_logs_of_multiply_adds():
    feature_map = FeatureMap(MASTER, BLOCKS)
    (structure,) = samples(1)
    row = feature_map.structure_row(structure)

    def counted(network):
        return np.array([
            feature_map.multiply_adds(index, network.stages[index].width, super_block)
            for index, super_block in enumerate(network.super_blocks)
        ])  # fmt: skip

    own = counted(MASTER)
    floor = TREND_FLOOR * own.mean()
    weights = (own + floor) / (own + floor).sum()
    expected = weights @ np.log((counted(structure) + floor) / (own + floor))
    assert row[feature_map.columns[TREND]] == pytest.approx(expected)
    # A wider input costs a super-block more multiply-adds, so the trend depends on the input width.
    narrow, own, wide = feature_map.trend(2, [16, 32, 64], [MASTER.super_blocks[2]])[:, 0]
    assert narrow < own == 0 < wide


def test_the_masternet_is_no_candidate_of_the_model_where_weights_are_inherited():
    """It has no second training, so it says nothing about the level of the candidates."""
    results = [
        TrialResult(Trial(index, block, repeat), "done", 0.9 - 0.01 * repeat, 0.3)
        for index, block in enumerate(MASTER.super_blocks)
        for repeat in range(3)
    ]
    other = MASTER.with_stage(0, replace(MASTER.super_blocks[0], width=16))
    trained = [
        TrainedCandidate(other, "done", 10, 0.95, 0.2),
        TrainedCandidate(MASTER, "done", 10, MASTER_TOP1, 0.4),
    ]

    def offset(candidates, **words):
        effects = AccuracyModel.fit(
            MASTER, results, MASTER_TOP1, candidates=candidates, **words
        ).effects
        return effects.posterior.mean[effects.feature_map.columns[candidate_offset(10)]]

    assert offset(trained, inherited=True) == offset(trained[:1], inherited=True)
    assert offset(trained) != pytest.approx(offset(trained[:1]), rel=0.1)
    later = offset(trained, inherited=True, earlier=[(other, [])])
    assert later == offset(trained[1:], inherited=True, earlier=[(other, [])])


LINKABLE = Structure.parse("Conv3x16s2 XX3x24 XX3x32s2*2 BL3x96s2r0.25 DW3x64r3 Conv1x128 @32")


def test_an_identity_in_place_of_a_projection_is_an_effect_of_its_own():
    """Each trial of stride 1 with the width of its input loses 0.2; all others lose nothing."""
    space = DesignSpace(blocks=BLOCKS, resolutions=()).around(LINKABLE)
    rng = np.random.default_rng(0)
    results = []
    for index, own in enumerate(LINKABLE.super_blocks):
        choices = space.choices(index)
        drawn = [own, own, *(choices[n] for n in rng.permutation(len(choices))[:25])]
        for repeat, super_block in enumerate(drawn):
            is_linked = super_block.keeps_shape(LINKABLE.input_width(index))
            fall = -0.2 * is_linked + rng.normal(0, 0.01)
            score = 1 - 0.08 * math.exp(-fall)
            results.append(TrialResult(Trial(index, super_block, repeat), "done", score, 0.3))

    def fit(**words):
        return AccuracyModel.fit(LINKABLE, results, MASTER_TOP1, **words)

    model = fit(inherited=True)
    effects = model.effects
    column = effects.feature_map.columns[SHORTCUT]
    assert -0.22 < effects.posterior.mean[column] < -0.1, "the prior draws it towards zero"
    assert SHORTCUT not in fit().effects.feature_map.columns
    # Also a pair of two changed stages: the width of BL is that of DW, which has stride 1.
    pair = Structure.parse("Conv3x16s2 XX3x24 XX3x32s2*2 BL3x64s2r0.25 DW3x64r3 Conv1x128 @32")
    lost, kept = (
        model.predict(LINKABLE.with_stage(0, SuperBlock("XX", 1, width))).order
        for width in (16, 24)
    )
    assert lost < kept - 0.1
    for structure in (pair, LINKABLE.with_stage(0, SuperBlock("BL", 2, 16, ratio=0.25))):
        row = effects.feature_map.structure_row(structure)
        assert row[column] == 1
        parts = [
            model.stage_gain(index, [8, structure.input_width(index)], [structure.stage(index)])
            for index in structure.indices
        ]
        assert sum(part[1, 0] for part in parts) == pytest.approx(row @ effects.posterior.mean)
    assert effects.feature_map.structure_row(LINKABLE)[column] == 0


def test_a_projection_in_place_of_an_identity_is_the_opposite_effect():
    linked = LINKABLE.with_stage(0, SuperBlock("XX", 1, 16))
    feature_map = FeatureMap(linked, BLOCKS, inherited=True)
    row = feature_map.structure_row(LINKABLE)
    assert row[feature_map.columns[SHORTCUT]] == -1


def test_lower_cross_entropy_is_a_gain():
    results = synthetic_results(0.01, 40)
    top1 = AccuracyModel.fit(MASTER, results, MASTER_TOP1)
    entropy = AccuracyModel.fit(MASTER, results, 4 * (1 - MASTER_TOP1), metric="cross_entropy")
    # Each synthetic cross-entropy is four times the error, so each gain is four times as large.
    for structure in samples(10):
        expected = 4 * top1.predict(structure).mean
        assert entropy.predict(structure).mean == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_does_not_depend_on_the_order_of_trials():
    results = synthetic_results(0.04)
    shuffled = [results[n] for n in np.random.default_rng(2).permutation(len(results))]
    for form in ("bayes", "paper"):
        first = AccuracyModel.fit(MASTER, results, MASTER_TOP1, form=form)
        second = AccuracyModel.fit(MASTER, shuffled, MASTER_TOP1, form=form)
        assert first.to_json() == second.to_json()
        assert [first.predict(s).mean for s in samples(5)] == [
            second.predict(s).mean for s in samples(5)
        ]


def test_predictions_from_few_trials_follow_the_prior_and_are_less_certain():
    control = TrialResult(Trial(0, MASTER.super_blocks[0]), "done", 0.9)
    one_trial = AccuracyModel.fit(MASTER, [control], MASTER_TOP1)
    many_trials = AccuracyModel.fit(MASTER, synthetic_results(0.04, 40), MASTER_TOP1)
    feature_map = FeatureMap(MASTER, BLOCKS)
    trend = feature_map.columns[TREND]
    for structure in samples(10):
        fall = TREND_MEAN * feature_map.structure_row(structure)[trend]
        trend_gain = (1 - MASTER_TOP1) * (1 - math.exp(-fall))
        assert one_trial.predict(structure).mean == pytest.approx(trend_gain, abs=1e-6)
    unseen = MASTER.with_stage(1, SuperBlock("DW", 2, 32, 2, 7, 9))
    seen = MASTER.with_stage(1, SuperBlock("DW", 2, 32, 2, 3, 3))
    assert many_trials.predict(unseen).std > many_trials.predict(seen).std
    assert math.isfinite(many_trials.predict(unseen).mean)
    few_trials = (
        "so the predictions for super-block 2 depend mostly on trials of the other super-blocks"
    )
    assert f"super-block 2 has no trial, {few_trials}" in one_trial.warnings()
    two = [TrialResult(Trial(1, SPACE.choices(1)[n]), "done", 0.9) for n in (0, -1)]
    warnings = AccuracyModel.fit(MASTER, two, MASTER_TOP1).warnings()
    no_control = "super-block 2 has no control trial, so the baseline of super-block 2 is only an"
    assert any(sentence.startswith(no_control) for sentence in warnings)
    assert f"super-block 2 has 2 trials for 2 blocks, {few_trials}" in warnings
    assert not any(few_trials in sentence for sentence in many_trials.warnings())
    assert one_trial.leave_one_out().spearman is None


def test_noise_of_a_super_block_is_shrunk_towards_the_pooled_noise():
    own = MASTER.super_blocks
    values = {0: (0.9, 0.9, 0.9), 1: (0.8, 0.84), 2: (0.9,)}
    results = [
        TrialResult(Trial(index, own[index], n), "done", value)
        for index, row in values.items()
        for n, value in enumerate(row)
    ]
    observed = Observations.collect(MASTER, results, Metric.TOP1)
    noise = RepeatNoise.estimate([observed.trials], [observed.values], MASTER)
    assert noise.freedom == (0, 2, 1, 0, 0, 0)  # the stem comes first
    assert noise.squares == pytest.approx((0, 0, 2 * 0.02**2, 0, 0, 0))
    _, quiet, loud, unrepeated, *_ = noise.variances(1e-4)
    pooled = (2 * 0.02**2 + 1e-4) / 4
    assert quiet == pytest.approx(4 * pooled / 6)
    assert loud == pytest.approx((2 * 0.02**2 + 4 * pooled) / 5)
    assert unrepeated == pytest.approx(pooled)


def test_leave_one_out_shows_whether_trials_predict_one_another():
    good = AccuracyModel.fit(MASTER, synthetic_results(0.02, 30), MASTER_TOP1).leave_one_out()
    assert good.spearman > 0.8
    assert good.rmse < 0.01
    rng = np.random.default_rng(0)
    noise = [TrialResult(r.trial, "done", 0.9 + rng.normal(0, 0.01)) for r in synthetic_results(0)]
    bad = AccuracyModel.fit(MASTER, noise, MASTER_TOP1)
    assert bad.leave_one_out().spearman < 0.4
    assert any("trials do not show whether" in sentence for sentence in bad.warnings())


def test_warnings_name_a_choice_of_block_that_is_within_noise():
    clear = AccuracyModel.fit(MASTER, synthetic_results(1e-3, 60), MASTER_TOP1)
    assert not any("super-block 1 " in s for s in clear.warnings())  # XX is 0.02 better there
    noisy = AccuracyModel.fit(MASTER, synthetic_results(0.5, 20), MASTER_TOP1)
    assert any("is better in super-block 1 (predicted difference" in s for s in noisy.warnings())


def test_pseudo_gradients_equal_the_true_ones():
    model = AccuracyModel.fit(MASTER, synthetic_results(1e-3, 100), MASTER_TOP1)
    summary = json.loads(json.dumps(model.to_json(), allow_nan=False))
    rows = {(row["super_block"], row["block"]): row for row in summary["pseudo_gradients"]}
    assert len(rows) == 4 * len(BLOCKS)
    for index, own in enumerate(MASTER.super_blocks):
        row = rows[index, "BL3r0.25"]
        swapped = SuperBlock("BL", own.depth, own.width, own.stride, 3, 0.25)
        gain, error = true_gain(index, swapped), MASTER_ERROR
        assert row["g0"]["mean"] == pytest.approx(error * gain, abs=1e-3)
        assert row["g1"]["mean"] == pytest.approx(error * (0.1 + 0.02 * index), abs=2e-3)
        assert row["g2"]["mean"] == pytest.approx(error * 0.2, abs=2e-3)
        assert row["g0"]["std"] >= 0


# The literal formula of the paper


def test_the_paper_formula_is_least_squares_for_each_super_block_and_block():
    own = MASTER.super_blocks[2]
    rows = [(1, 64), (5, 96), (3, 192), (2, 160)]
    values = (0.88, 0.93, 0.95, 0.9)
    results = [
        TrialResult(Trial(2, SuperBlock("BL", d, c, 2, 3, 0.25)), "done", a)
        for (d, c), a in zip(rows, values, strict=True)
    ]
    single = SuperBlock("XX", own.depth + 1, own.width, 2)
    results.append(TrialResult(Trial(2, single), "done", MASTER_TOP1 - 0.01))
    model = AccuracyModel.fit(MASTER, results, MASTER_TOP1, form="paper")

    changes = np.array([(d - own.depth, c - own.width) for d, c in rows], float)
    # By the normal equations, 2 x 2.
    g = np.linalg.solve(changes.T @ changes, changes.T @ (np.array(values) - MASTER_TOP1))
    new = SuperBlock("BL", 4, 128, 2, 3, 0.25)
    expected = g[0] * (4 - own.depth) + g[1] * (128 - own.width)
    assert model.stage_gain(2, [24, 32], [new]) == pytest.approx(np.full((2, 1), expected))
    # Under-determined: the solution of least norm has no slope on a width that never changed.
    wider = SuperBlock("XX", own.depth + 2, own.width + 64, 2)
    assert model.stage_gain(2, [32], [wider])[0, 0] == pytest.approx(-0.02)
    # By the letter, a block without trials has no effect, and a change of type alone has none.
    untried = SuperBlock("DW", 5, 192, 2, 3, 6)
    assert model.stage_gain(2, [32], [untried])[0, 0] == 0
    assert math.isnan(model.predict(MASTER).std)
    assert model.leave_one_out() is None
    assert model.warnings() == ["1 pseudo-gradients rest on fewer than 3 trials each"]
    json.dumps(model.to_json(), allow_nan=False)


# Invalid and failed results


def test_failed_and_not_finite_results_are_left_out_and_reported():
    results = synthetic_results(0.04)
    trial = Trial(0, SuperBlock("XX", 2, 24), 9)
    unusable = [
        TrialResult(trial, "failed", reason="out of memory"),
        TrialResult(trial, "done", math.nan, 0.3),
        TrialResult(trial, "done", None, 0.3),
    ]
    model = AccuracyModel.fit(MASTER, [*unusable, *results], MASTER_TOP1)
    assert model.excluded == tuple(unusable)
    assert model.num_trials == len(results)
    assert model.warnings()[0] == f"3 of {len(results) + 3} trials failed and are left out"
    without = AccuracyModel.fit(MASTER, results, MASTER_TOP1)
    assert model.predict(samples(1)[0]) == without.predict(samples(1)[0])


@pytest.mark.parametrize("form", ["bayes", "paper"])
def test_a_block_whose_trials_all_failed_is_named(form):
    bl, dw = SuperBlock("BL", 1, 24, 1, 3, 0.5), SuperBlock("DW", 1, 24, 1, 3, 3)
    failing = [
        TrialResult(Trial(0, bl, 7), "failed", reason="the loss became nan"),
        TrialResult(Trial(0, dw, 7), "failed", reason="the loss became nan"),
        TrialResult(Trial(0, MASTER.super_blocks[0], 7), "failed", reason="the loss became nan"),
    ]
    results = [r for r in synthetic_results(0.04) if r.trial.super_block.block != bl.block]
    model = AccuracyModel.fit(MASTER, [*failing, *results], MASTER_TOP1, form=form)
    assert model.failed == {(0, bl.block)}  # the other two have trials that did not fail
    warning = "every trial of BL3r0.5 in super-block 1 failed, so this block is not selected there"
    assert warning in model.warnings()
    with pytest.raises(GenetsError, match="the first failed: the loss became nan"):
        AccuracyModel.fit(MASTER, failing, MASTER_TOP1, form=form)


def test_invalid_arguments_are_refused_in_one_sentence():
    results = synthetic_results(0.04, 2)
    with pytest.raises(GenetsError, match="no finished trial with a finite top-1 among 0 results"):
        AccuracyModel.fit(MASTER, [], 0.9)
    with pytest.raises(GenetsError, match="unknown metric 'top5'; did you mean top1"):
        AccuracyModel.fit(MASTER, results, 0.9, metric="top5")
    with pytest.raises(GenetsError, match="unknown regression 'papper'; did you mean paper"):
        AccuracyModel.fit(MASTER, results, 0.9, form="papper")
    with pytest.raises(GenetsError, match="master_score must be a top-1 of at least 0, not nan"):
        AccuracyModel.fit(MASTER, results, math.nan)
    foreign = TrialResult(Trial(5, MASTER.super_blocks[0]), "done", 0.9)
    with pytest.raises(GenetsError, match=r"index of a trial must be from -1 .* to 4 .* not 5"):
        AccuracyModel.fit(MASTER, [foreign], 0.9)
    short = Structure.parse("Conv3x16s2 XX3x24 XX3x24 Conv1x128 @32")
    with pytest.raises(GenetsError, match="the MasterNet's 4 super-blocks, not 2"):
        AccuracyModel.fit(MASTER, results, 0.9).predict(short)
