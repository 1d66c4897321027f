"""Structures that were trained from scratch, beside trials, in the accuracy model."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from genets.nas.accuracy.bayes import BayesEffects
from genets.nas.accuracy.model import AccuracyModel
from genets.nas.study.records import TrainedCandidate, Trial, TrialResult
from genets.structure import Block, DesignSpace, Structure

MASTER = Structure.parse("Conv3x16s2 XX3x24 XX3x32s2*2 DW3x64s2r3*2 Conv1x128 @32")
SPACE = DesignSpace(blocks=(Block("XX"), Block("DW", ratio=3)), resolutions=()).around(MASTER)
MASTER_TOP1 = 0.8
LEVEL = 0.07  # of the confirmed: another recipe


@pytest.fixture(autouse=True)
def _one_thread():
    with threadpool_limits(limits=1, user_api="blas"):
        yield


def change(structure):
    """Wider is better everywhere, and DW in place of XX costs."""
    return sum(
        0.02 * math.log(s.width / own.width) - 0.02 * (s.type == "DW") + 0.02 * (own.type == "DW")
        for s, own in zip(structure.super_blocks, MASTER.super_blocks, strict=True)
    )


def trials(noise=0.01, per_place=6, seed=0):
    rng = np.random.default_rng(seed)
    found = []
    for index, own in enumerate(MASTER.super_blocks):
        choices = SPACE.choices(index)
        picked = [choices[n] for n in rng.permutation(len(choices))[:per_place]]
        for trial in [
            Trial(index, own, 0),
            Trial(index, own, 1),
            *(Trial(index, s) for s in picked),
        ]:
            value = MASTER_TOP1 - 0.03 + change(trial.structure(MASTER)) + rng.normal(0, noise)
            found.append(TrialResult(trial, "done", value, 1.0))
    return found


def structures(count, seed=1):
    rng = np.random.default_rng(seed)
    return [SPACE.sample(rng) for _ in range(count)]


def confirmed(found, level=LEVEL, worth=change):
    return [TrainedCandidate(s, "done", 9, MASTER_TOP1 + level + worth(s), 1.0) for s in found]


def fitted(results, known=()):
    return AccuracyModel.fit(MASTER, results, MASTER_TOP1, confirmed=known)


def test_without_any_the_model_is_that_of_the_trials():
    alone, none = fitted(trials()), fitted(trials(), [])
    for structure in structures(5):
        assert alone.predict(structure) == none.predict(structure)


def test_what_all_of_them_share_is_no_effect_of_a_structure():
    """They follow the trials but for their level, however large: little changes."""
    model = fitted(trials())
    for level in (0.05, -0.2):
        told = fitted(trials(), confirmed(structures(6), level, lambda s: model.predict(s).mean))
        for structure in structures(20, seed=5):
            before, after = model.predict(structure), told.predict(structure)
            assert after.mean == pytest.approx(before.mean, abs=0.5 * before.std)
            assert after.std < 1.05 * before.std


def test_with_enough_of_them_they_correct_trials_that_mislead():
    """Trials know nothing of what happens far from the MasterNet: there, DW is better."""

    def truth(structure):
        return 0.03 * sum(s.type == "DW" for s in structure.super_blocks) - 0.03

    held_out = structures(40, seed=9)
    expected = np.array([truth(s) for s in held_out])

    def correlation(model):
        return np.corrcoef([model.predict(s).mean for s in held_out], expected)[0, 1]

    before = correlation(fitted(trials()))
    after = correlation(fitted(trials(), confirmed(structures(30), worth=truth)))
    assert before < 0 < 0.5 < after


def test_they_make_a_prediction_of_their_own_kind_surer():
    found = structures(12)
    alone, told = fitted(trials()), fitted(trials(), confirmed(found))
    assert sum(told.predict(s).std for s in found) < sum(alone.predict(s).std for s in found)
    left_out = told.leave_one_out()
    assert left_out is not None
    assert len(left_out.residual) == len(left_out.std) == told.trials == len(trials())


def test_noise_is_that_of_trials_in_every_place_that_changes():
    far = next(s for s in structures(50) if all(
        a != b for a, b in zip(s.super_blocks, MASTER.super_blocks, strict=True)))  # fmt: skip
    known = confirmed(sorted([MASTER, far], key=str))
    effects = fitted(trials(), known).effects
    assert isinstance(effects, BayesEffects)
    noise, count = effects.model.noise_variance, len(trials())
    places = [t.index for t in effects.observations.trials]
    by_place = [noise[places.index(index)] for index in range(3)]
    by_structure = dict(zip(effects.observations.whole, noise[count:], strict=True))
    assert by_structure[far] == pytest.approx(sum(by_place))
    assert by_structure[MASTER] == pytest.approx(np.mean(by_place))


def test_failed_ones_and_other_resolutions_are_left_out():
    one = confirmed(structures(1))[0]
    others = [
        replace(one, status="failed", top1=None, reason="nan"),
        replace(one, structure=one.structure.with_resolution(64)),
    ]
    assert fitted(trials(), others).predict(MASTER) == fitted(trials()).predict(MASTER)


def test_neither_their_order_nor_the_literal_formula_minds_them():
    known = confirmed(structures(5))
    there, back = fitted(trials(), known), fitted(trials(), known[::-1])
    paper = [
        AccuracyModel.fit(MASTER, trials(), MASTER_TOP1, form="paper", confirmed=given)
        for given in ((), known)
    ]
    for structure in structures(5, seed=3):
        assert there.predict(structure) == back.predict(structure)
        assert paper[0].predict(structure).mean == paper[1].predict(structure).mean
