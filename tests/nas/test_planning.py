"""Planned trials: their number, balance and information, against brute force."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest
from small_networks import TINY, assert_balanced

from genets.nas.accuracy.features import FeatureMap
from genets.nas.study.records import Trial
from genets.nas.trials.d_optimal import NOISE_STD, Information, prior_variance
from genets.nas.trials.plan import Sampling, group_trials, plan_trials
from genets.structure import Block, DesignSpace, SearchSpace, Structure, SuperBlock, zoo

MASTER = zoo["master_small"]


@pytest.fixture
def space() -> SearchSpace:
    return DesignSpace(resolutions=()).around(MASTER)


def test_every_super_block_gets_its_trials_and_controls(space: SearchSpace) -> None:
    planned = plan_trials(space, 24, 3, seed=1)
    assert Counter(trial.index for trial in planned) == dict.fromkeys(range(4), 27)
    for index, own in enumerate(MASTER.super_blocks):
        controls = [t for t in planned if t.index == index and t.repeat < 3][:3]
        assert [t.super_block for t in controls] == [own] * 3
        assert all(t.is_control(MASTER) for t in controls)


def test_trials_are_distinct_and_inside_the_space(space: SearchSpace) -> None:
    planned = plan_trials(space, 60, 4, seed=0)
    assert len(set(planned)) == len(planned)
    for trial in planned:
        assert trial.super_block in space.choices(trial.index)


@pytest.mark.parametrize("trials", [12, 25, 30])
def test_blocks_depths_and_widths_are_balanced(space: SearchSpace, trials: int) -> None:
    planned = plan_trials(space, trials, 0, seed=3)
    assert_balanced(planned, space)


def test_the_seed_determines_the_plan(space: SearchSpace) -> None:
    assert plan_trials(space, 9, 1, seed=5) == plan_trials(space, 9, 1, seed=5)
    assert plan_trials(space, 9, 1, seed=5) != plan_trials(space, 9, 1, seed=6)


def log_information(space: SearchSpace, planned: Sequence[Trial]) -> float:
    """Log determinant of the inverse covariance of the effects after these trials."""
    blocks = (block for blocks in space.blocks.values() for block in blocks)
    feature_map = FeatureMap(space.master, blocks)
    rows = np.array([feature_map.trial_row(t.index, t.super_block) for t in planned]) / NOISE_STD
    inverse = np.diag(1 / prior_variance(feature_map)) + rows.T @ rows
    return float(np.linalg.slogdet(inverse)[1])


@pytest.mark.parametrize("seed", range(3))
def test_a_design_has_more_information_than_a_balanced_and_a_random_plan(
    space: SearchSpace, seed: int
) -> None:
    design, balanced, random = (
        log_information(space, plan_trials(space, 14, 2, seed=seed, sampling=sampling))
        for sampling in ("design", "balanced", "random")
    )
    assert design > balanced + 1
    assert balanced > random + 1


def test_a_design_is_among_the_best_tenth_of_all_plans() -> None:
    """Every pairing of three blocks, depths and widths, at two super-blocks."""
    master = Structure.parse("Conv3x8s2 XX3x16*2 XX3x16s2*2 Conv1x16 @16")
    blocks = (Block("XX"), Block("BL", 3, 0.5), Block("DW", 3, 3))
    space = DesignSpace(blocks, (0.5, 1.5), 8, 1, resolutions=()).around(master)
    controls = [Trial(index, own) for index, own in enumerate(master.super_blocks)]
    pairings = [
        [
            [
                Trial(index, SuperBlock(b.type, d, w, index + 1, 3, b.ratio), 1)
                for b, d, w in zip(blocks, depths, widths, strict=True)
            ]
            for depths in permutations(space.depths[index])
            for widths in permutations(space.widths[index])
        ]
        for index in range(2)
    ]
    every = sorted(log_information(space, [*controls, *a, *b]) for a, b in product(*pairings))
    assert len(every) == 36 * 36
    for seed in range(4):
        planned = log_information(space, plan_trials(space, 3, 1, seed=seed, sampling="design"))
        assert every[-130] <= planned <= every[-1] + 1e-9


def test_a_swap_is_made_if_it_increases_the_determinant(space: SearchSpace) -> None:
    planned = plan_trials(space, 6, 1, seed=2, sampling="balanced")
    options = [(trial.index, trial.super_block) for trial in planned]
    blocks = (block for blocks in space.blocks.values() for block in blocks)
    information = Information(FeatureMap(MASTER, blocks), options)
    first, second = options[1], options[2]
    swapped = (
        (0, replace(first[1], depth=second[1].depth)),
        (0, replace(second[1], depth=first[1].depth)),
    )
    before = log_information(space, planned)
    after = log_information(
        space, [*planned[:1], Trial(*swapped[0]), Trial(*swapped[1]), *planned[3:]]
    )
    assert information.swap((first, second), swapped) == (after > before)
    assert -np.linalg.slogdet(information.covariance)[1] == pytest.approx(max(before, after))


def test_random_sampling_never_draws_the_masternets_own_super_block(space: SearchSpace) -> None:
    planned = plan_trials(space, 300, 0, seed=0, sampling="random")
    assert not any(trial.is_control(MASTER) for trial in planned)
    assert len(set(planned)) == len(planned)
    assert {trial.super_block for trial in planned} <= {
        choice for index in range(4) for choice in space.choices(index)
    }


@pytest.mark.parametrize("sampling", ["design", "balanced", "random"])
def test_a_stage_that_the_space_leaves_unchanged_gets_no_trials(sampling: Sampling) -> None:
    space = DesignSpace((Block("XX"),), (1, 1), 8, 0, resolutions=()).around(TINY)
    planned = plan_trials(space, 3, 2, seed=0, sampling=sampling)
    assert {trial.index for trial in planned} == {1}
    assert len(planned) == 5


def test_separate_trials_are_groups_of_one(space: SearchSpace) -> None:
    planned = plan_trials(space, 3, 2, seed=0)
    assert [len(group) for group in group_trials(planned, 1)] == [1] * len(planned)
    assert {trial for group in group_trials(planned) for trial in group} == set(planned)


@pytest.mark.parametrize("workers", [2, 5, 24, 1000])
def test_groups_are_smaller_towards_the_end(workers: int, space: SearchSpace) -> None:
    """A group has at most a part of the trials that are left, smaller than a worker's share."""
    planned = plan_trials(space, 24, 3, seed=1)
    groups = group_trials(planned, workers=workers)
    assert [trial for group in groups for trial in group] == [
        trial for group in group_trials(planned) for trial in group
    ]
    left = len(planned)
    for group in groups:
        assert len({trial.index for trial in group}) == 1
        assert len(group) <= min(4, max(1, left / (1.25 * workers)))
        left -= len(group)
    assert len(groups) <= len(group_trials(planned)) + 4 * workers
