from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest

from genets.nas.accuracy.features import FeatureMap
from genets.nas.study.records import Trial
from genets.nas.trials.d_optimal import NOISE_STD, Information, prior_variance
from genets.nas.trials.plan import Sampling, group_trials, plan_trials
from genets.structure import Block, DesignSpace, SearchSpace, Structure, SuperBlock, zoo

MASTER = zoo["master_small"]


@pytest.fixture
def around() -> SearchSpace:
    return DesignSpace(resolutions=()).around(MASTER)


def test_every_super_block_gets_its_trials_and_controls(around: SearchSpace) -> None:
    planned = plan_trials(around, 24, 3, seed=1)
    assert Counter(trial.index for trial in planned) == dict.fromkeys(range(4), 27)
    for index, own in enumerate(MASTER.super_blocks):
        controls = [t for t in planned if t.index == index and t.repeat < 3][:3]
        assert [t.super_block for t in controls] == [own] * 3
        assert all(t.is_control(MASTER) for t in controls)


def test_keys_are_distinct_and_inside_the_space(around: SearchSpace) -> None:
    planned = plan_trials(around, 60, 4, seed=0)
    assert len(set(planned)) == len(planned)
    for trial in planned:
        assert trial.super_block in around.choices(trial.index)


@pytest.mark.parametrize("trials", [12, 25, 30])
def test_blocks_depths_and_widths_are_balanced(around: SearchSpace, trials: int) -> None:
    planned = plan_trials(around, trials, 0, seed=3)
    for index in range(4):
        own = [t.super_block for t in planned if t.index == index]
        for values, drawn in (
            (around.blocks[index], [s.block for s in own]),
            (around.depths[index], [s.depth for s in own]),
            (around.widths[index], [s.width for s in own]),
        ):
            counts = Counter(drawn)
            assert max(counts.values()) - min(counts[value] for value in values) <= 1


def test_determined_by_the_seed(around: SearchSpace) -> None:
    assert plan_trials(around, 9, 1, seed=5) == plan_trials(around, 9, 1, seed=5)
    assert plan_trials(around, 9, 1, seed=5) != plan_trials(around, 9, 1, seed=6)


def information(around: SearchSpace, planned: Sequence[Trial]) -> float:
    """Log determinant of what is known of the effects after these trials, by its definition."""
    features = FeatureMap(around.master, (block for own in around.blocks.values() for block in own))
    rows = np.array([features.trial(t.index, t.super_block) for t in planned]) / NOISE_STD
    information = np.diag(1 / prior_variance(features)) + rows.T @ rows
    return float(np.linalg.slogdet(information)[1])


@pytest.mark.parametrize("seed", range(3))
def test_a_design_tells_more_than_balance_and_that_more_than_chance(
    around: SearchSpace, seed: int
) -> None:
    design, balanced, random = (
        information(around, plan_trials(around, 14, 2, seed=seed, sampling=sampling))
        for sampling in ("design", "balanced", "random")
    )
    assert design > balanced + 1
    assert balanced > random + 1


def test_a_design_is_nearly_the_best_by_brute_force() -> None:
    """Three blocks, depths and widths: every way to pair them, at both super-blocks."""
    master = Structure.parse("Conv3x8s2 XX3x16*2 XX3x16s2*2 Conv1x16 @16")
    blocks = (Block("XX"), Block("BL", 3, 0.5), Block("DW", 3, 3))
    around = DesignSpace(blocks, (0.5, 1.5), 8, 1, resolutions=()).around(master)
    controls = [Trial(index, own) for index, own in enumerate(master.super_blocks)]
    ways = [
        [
            [
                Trial(index, SuperBlock(b.type, d, w, index + 1, 3, b.ratio), 1)
                for b, d, w in zip(blocks, depths, widths, strict=True)
            ]
            for depths in permutations(around.depths[index])
            for widths in permutations(around.widths[index])
        ]
        for index in range(2)
    ]
    every = sorted(information(around, [*controls, *a, *b]) for a, b in product(*ways))
    assert len(every) == 36 * 36
    for seed in range(4):
        found = information(around, plan_trials(around, 3, 1, seed=seed, sampling="design"))
        assert every[-130] <= found <= every[-1] + 1e-9  # among the best tenth


def test_a_swap_is_judged_by_the_determinant_itself(around: SearchSpace) -> None:
    planned = plan_trials(around, 6, 1, seed=2, sampling="balanced")
    places = [(trial.index, trial.super_block) for trial in planned]
    features = FeatureMap(MASTER, (block for own in around.blocks.values() for block in own))
    judge = Information(features, places)
    first, second = places[1], places[2]
    swapped = (
        (0, replace(first[1], depth=second[1].depth)),
        (0, replace(second[1], depth=first[1].depth)),
    )
    before = information(around, planned)
    after = information(
        around, [*planned[:1], Trial(*swapped[0]), Trial(*swapped[1]), *planned[3:]]
    )
    assert judge.swap((first, second), swapped) == (after > before)
    assert -np.linalg.slogdet(judge.covariance)[1] == pytest.approx(max(before, after))


def test_random_sampling_never_tries_the_masters_own(around: SearchSpace) -> None:
    planned = plan_trials(around, 300, 0, seed=0, sampling="random")
    assert not any(trial.is_control(MASTER) for trial in planned)
    assert len(set(planned)) == len(planned)
    assert {trial.super_block for trial in planned} <= {
        choice for index in range(4) for choice in around.choices(index)
    }


@pytest.mark.parametrize("sampling", ["design", "balanced", "random"])
def test_what_the_space_leaves_as_it_is_gets_no_trials(sampling: Sampling) -> None:
    master = Structure.parse("Conv3x8s2 XX3x8s2 DW3x16r3 Conv1x16 @8")
    around = DesignSpace((Block("XX"),), (1, 1), 8, 0, resolutions=()).around(master)
    planned = plan_trials(around, 3, 2, seed=0, sampling=sampling)
    assert {trial.index for trial in planned} == {1}
    assert len(planned) == 5


def test_separate_trials_are_groups_of_one(around: SearchSpace) -> None:
    planned = plan_trials(around, 3, 2, seed=0)
    assert [len(group) for group in group_trials(planned, 1)] == [1] * len(planned)
    assert {trial for group in group_trials(planned) for trial in group} == set(planned)
