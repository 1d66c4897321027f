"""Trained candidates in the accuracy model, beside trials."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import spearmanr
from small_networks import THREE

from genets.nas.accuracy.bayes import BayesEffects
from genets.nas.accuracy.features import EFFECT_STD
from genets.nas.accuracy.model import AccuracyModel
from genets.nas.accuracy.prior import unit_misfit
from genets.nas.study.records import TrainedCandidate, Trial, TrialResult
from genets.structure import Block, DesignSpace, Structure

MASTER = THREE
SPACE = DesignSpace(blocks=(Block("XX"), Block("DW", ratio=3)), resolutions=()).around(MASTER)
MASTER_TOP1 = 0.8
OFFSET = 0.07  # of candidates, which have another recipe than the MasterNet

pytestmark = pytest.mark.usefixtures("one_blas_thread")


def true_gain(structure):
    """Wider is better everywhere, and DW is worse than XX."""
    return sum(
        0.02 * math.log(s.width / own.width) - 0.02 * (s.type == "DW") + 0.02 * (own.type == "DW")
        for s, own in zip(structure.super_blocks, MASTER.super_blocks, strict=True)
    )


def trials(noise=0.01, per_super_block=6, seed=0):
    rng = np.random.default_rng(seed)
    results = []
    for index, own in enumerate(MASTER.super_blocks):
        choices = SPACE.choices(index)
        drawn = [choices[n] for n in rng.permutation(len(choices))[:per_super_block]]
        for trial in [
            Trial(index, own, 0),
            Trial(index, own, 1),
            *(Trial(index, s) for s in drawn),
        ]:
            value = MASTER_TOP1 - 0.03 + true_gain(trial.structure(MASTER)) + rng.normal(0, noise)
            results.append(TrialResult(trial, "done", value, 1.0))
    return results


def sample(count, seed=1):
    rng = np.random.default_rng(seed)
    return [SPACE.sample(rng) for _ in range(count)]


def trained(structures, offset=OFFSET, gain=true_gain):
    return [TrainedCandidate(s, "done", 9, MASTER_TOP1 + offset + gain(s), 1.0) for s in structures]


def fit(results, candidates=()):
    return AccuracyModel.fit(MASTER, results, MASTER_TOP1, candidates=candidates)


def test_an_empty_list_of_candidates_changes_nothing():
    alone, empty = fit(trials()), fit(trials(), [])
    for structure in sample(5):
        assert alone.predict(structure) == empty.predict(structure)


def test_the_offset_of_all_candidates_is_no_effect_of_a_structure():
    """Candidates that agree with the trials but for a factor of their errors change little."""
    model = fit(trials())
    for factor in (0.75, 2.0):

        def gain(structure, factor=factor):
            return 1 - factor * (1 - model.predict(structure).value) - MASTER_TOP1

        informed = fit(trials(), trained(sample(6), 0.0, gain))
        for structure in sample(20, seed=5):
            before, after = model.predict(structure), informed.predict(structure)
            assert after.mean == pytest.approx(before.mean, abs=0.5 * before.std)
            assert after.std < 1.05 * before.std


def test_many_candidates_correct_misleading_trials():
    """Trials stay near the MasterNet, where DW is worse; the candidates have more DW, and gain."""

    def truth(structure):
        return 0.03 * sum(s.type == "DW" for s in structure.super_blocks) - 0.03

    held_out = sample(40, seed=9)
    expected = np.array([truth(s) for s in held_out])

    def correlation(model):
        return np.corrcoef([model.predict(s).mean for s in held_out], expected)[0, 1]

    before = correlation(fit(trials()))
    after = correlation(fit(trials(), trained(sample(30), gain=truth)))
    assert before < 0 < 0.5 < after


def test_candidates_reduce_the_deviation_of_predictions_for_structures_like_them():
    structures = sample(12)
    alone, informed = fit(trials()), fit(trials(), trained(structures))
    assert sum(informed.predict(s).std for s in structures) < sum(
        alone.predict(s).std for s in structures
    )
    left_out = informed.leave_one_out()
    assert left_out is not None
    assert len(left_out.residual) == len(left_out.std) == informed.num_trials == len(trials())


def test_the_misfit_is_a_sum_of_products_over_pairs_of_super_blocks():
    structures = [MASTER, MASTER.with_stage(1, SPACE.choices(1)[-1]), *sample(3)]
    effects = fit(trials(), trained(structures)).effects
    assert isinstance(effects, BayesEffects)
    feature_map = effects.feature_map
    stds = np.array([*EFFECT_STD.values(), 0.0])[feature_map.groups]
    rows = {s: feature_map.rows_by_stage(s) * stds * feature_map.base_variance**0.5
            for s in structures}  # fmt: skip
    order, count = effects.observations.candidates, len(trials())
    for n, first in enumerate(order):
        for m, second in enumerate(order):
            shared = [a @ b for a, b in zip(rows[first], rows[second], strict=True)]
            expected = sum(a * b for a, b in combinations(shared, 2)) * effects.misfit**2
            assert effects.model.misfit[count + n, count + m] == pytest.approx(expected, abs=1e-12)
    assert not effects.model.misfit[:count].any(), "a trial changes one super-block"


def test_a_trial_that_changes_the_next_shortcut_has_a_misfit():
    """Where trials inherit. The fit and the predictions must agree on its covariance."""
    master = Structure.parse("Conv3x16s2 XX3x24s2 XX3x24*2 DW3x24r3*2 Conv1x64 @32")
    space = DesignSpace(blocks=SPACE.space.blocks, resolutions=()).around(master)
    rng = np.random.default_rng(0)
    tried = [
        Trial(index, space.choices(index)[n])
        for index in range(3)
        for n in rng.permutation(len(space.choices(index)))[:8]
    ]
    results = [TrialResult(each, "done", 0.7 + rng.normal(0, 0.02), 1.0) for each in tried]
    structures = [space.sample(rng) for _ in range(12)]
    candidates = [TrainedCandidate(s, "done", 9, 0.75, 1.0) for s in structures[:4]]
    effects = AccuracyModel.fit(
        master, results, MASTER_TOP1, candidates=candidates, inherited=True
    ).effects
    assert isinstance(effects, BayesEffects)
    model, trials = effects.model, effects.observations.trials
    has_misfit = [t.super_block.width != 24 and t.index < 2 for t in trials]
    assert 0 < sum(has_misfit) < len(trials)
    assert model.misfit[: len(trials)].any(axis=1).tolist() == has_misfit
    # Predictions are those of one Gaussian process of all observations and structures.
    rows = [effects.feature_map.rows_by_stage(each) for each in structures]
    rows = np.concatenate([effects.rows, rows])
    sums = np.concatenate([model.features, rows[len(model.target) :].sum(axis=1)])
    misfit = effects.misfit**2 * unit_misfit(effects.feature_map, rows, rows)
    joint = (sums * model.prior_variance) @ sums.T + misfit
    joint[np.diag_indices(len(model.target))] += model.noise_variance
    assert np.linalg.eigvalsh(joint).min() > -1e-9 * joint.max()
    count = len(model.target)
    assert joint[:count, :count] == pytest.approx(model.covariance)
    gain = np.linalg.solve(joint[:count, :count], joint[:count, count:]).T
    mean, covariance = effects.joint(structures)
    assert mean == pytest.approx(sums[count:] @ model.prior_mean + gain @ model.residual)
    expected = joint[count:, count:] - gain @ joint[:count, count:]
    assert covariance == pytest.approx(expected, abs=1e-9)
    assert np.diag(covariance).min() >= 0


def test_trials_of_an_earlier_round_inform_the_model_of_the_next():
    """Around another MasterNet, with other reset costs: the effects are the same."""
    other = sample(1, seed=4)[0]
    around = DesignSpace(blocks=SPACE.space.blocks, resolutions=()).around(MASTER)
    rng = np.random.default_rng(3)
    earlier = [
        TrialResult(trial, "done", 0.5 + true_gain(trial.structure(other)), 1.0)
        for index, own in enumerate(other.super_blocks)
        for trial in [
            Trial(index, own),
            *(Trial(index, around.choices(index)[n]) for n in rng.permutation(30)[:8]),
        ]
    ]
    few = trials(per_super_block=0)
    alone = AccuracyModel.fit(MASTER, few, MASTER_TOP1)
    both = AccuracyModel.fit(MASTER, few, MASTER_TOP1, earlier=[(other, earlier)])
    held_out = sample(40, seed=9)
    truth = [true_gain(s) for s in held_out]

    def correlation(model):
        return spearmanr([model.predict(s).mean for s in held_out], truth).statistic

    assert correlation(both) > max(0.8, correlation(alone))
    assert both.num_trials == len(few)
    assert both.predict(MASTER).mean == 0.0


def test_candidates_alone_have_no_leave_one_out_error():
    model = fit([], trained(sample(8)))
    assert model.leave_one_out() is None
    assert model.to_json()["leave_one_out_rmse"] is None
    assert math.isfinite(model.predict(sample(1, seed=3)[0]).mean)


def test_a_block_that_ended_in_an_earlier_round_is_not_barred():
    index, block = 1, SPACE.choices(1)[-1]
    failed = TrialResult(Trial(index, block, 5), "failed", None, None, reason="out of memory")
    usable = [r for r in trials() if r.trial.super_block.block != block.block]
    bare = AccuracyModel.fit(MASTER, [*usable, failed], MASTER_TOP1)
    assert bare.failed == {(index, block.block)}
    informed = AccuracyModel.fit(
        MASTER, [*usable, failed], MASTER_TOP1, earlier=[(MASTER, trials(seed=2))]
    )
    assert informed.failed == frozenset()


def test_a_block_that_failed_in_an_earlier_round_stays_barred():
    """Unless a trial of a later round ended, or the MasterNet of that round had it."""
    index, tried = 1, SPACE.choices(1)[-1]
    assert tried.block != MASTER.stage(index).block
    failed = TrialResult(Trial(index, tried, 5), "failed", None, None, reason="out of memory")
    usable = [r for r in trials() if r.trial.super_block.block != tried.block]

    def barred(later, around=MASTER):
        earlier = [(around, [*usable, failed])]
        return AccuracyModel.fit(MASTER, later, MASTER_TOP1, earlier=earlier).failed

    assert barred(usable) == {(index, tried.block)}
    assert barred(trials()) == barred(usable, MASTER.with_stage(index, tried)) == frozenset()


def test_failed_candidates_and_other_resolutions_are_left_out():
    candidate = trained(sample(1))[0]
    unusable = [
        replace(candidate, status="failed", top1=None, reason="nan"),
        replace(candidate, structure=candidate.structure.with_resolution(64)),
    ]
    assert fit(trials(), unusable).predict(MASTER) == fit(trials()).predict(MASTER)


def test_the_order_of_candidates_and_the_literal_formula_do_not_matter():
    candidates = trained(sample(5))
    forward, backward = fit(trials(), candidates), fit(trials(), candidates[::-1])
    paper = [
        AccuracyModel.fit(MASTER, trials(), MASTER_TOP1, form="paper", candidates=given)
        for given in ((), candidates)
    ]
    for structure in sample(5, seed=3):
        assert forward.predict(structure) == backward.predict(structure)
        assert paper[0].predict(structure).mean == paper[1].predict(structure).mean
