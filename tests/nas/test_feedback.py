"""Trained candidates in the accuracy model, beside trials."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from small_networks import THREE

from genets.nas.accuracy.bayes import BayesEffects
from genets.nas.accuracy.model import AccuracyModel
from genets.nas.study.records import TrainedCandidate, Trial, TrialResult
from genets.structure import Block, DesignSpace

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
    """Candidates that agree with the trials but for an offset of any size change little."""
    model = fit(trials())
    for offset in (0.05, -0.2):
        candidates = trained(sample(6), offset, lambda s: model.predict(s).mean)
        informed = fit(trials(), candidates)
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


def test_noise_of_a_candidate_is_the_sum_over_the_super_blocks_that_it_changes():
    far = next(s for s in sample(50) if all(
        a != b for a, b in zip(s.super_blocks, MASTER.super_blocks, strict=True)))  # fmt: skip
    effects = fit(trials(), trained([MASTER, far])).effects
    assert isinstance(effects, BayesEffects)
    noise, count = effects.model.noise_variance, len(trials())
    indices = [t.index for t in effects.observations.trials]
    by_super_block = [noise[indices.index(index)] for index in range(3)]
    by_structure = dict(zip(effects.observations.candidates, noise[count:], strict=True))
    assert by_structure[far] == pytest.approx(sum(by_super_block))
    assert by_structure[MASTER] == pytest.approx(np.mean(by_super_block))


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
