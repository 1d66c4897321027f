"""Which trials a search runs: controls, and perturbations balanced over blocks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, repeat
from typing import TypeVar

import numpy as np

from genets.nas.trial import Trial
from genets.structure import SpaceAround, SuperBlock

T = TypeVar("T")

GROUP_SIZE = 4  # trials fine-tuned together: what a kill can cost at most


def plan_trials(around: SpaceAround, trials: int, controls: int, *, seed: int) -> tuple[Trial, ...]:
    """`trials` perturbations of every super-block and `controls` repeats of its control trial.

    Blocks take turns, so that each of them gets as many trials as any other, to one. Depths
    and widths are stratified: over the trials of a super-block their values come up as
    evenly as their number allows, in random pairs (a Latin hypercube), where the paper draws
    them at random (section 5). The plan is determined by the arguments.
    """
    planned = (
        _plan_super_block(around, index, trials, controls, np.random.default_rng([seed, index]))
        for index in range(len(around.master.super_blocks))
    )
    return tuple(chain.from_iterable(planned))


def _plan_super_block(
    around: SpaceAround, index: int, trials: int, controls: int, rng: np.random.Generator
) -> list[Trial]:
    own = around.master.super_blocks[index]
    planned = [Trial(index, own, count) for count in range(controls)]
    blocks = _evenly(around.blocks[index], trials, rng)
    depths = _evenly(around.depths[index], trials, rng)
    widths = _evenly(around.widths[index], trials, rng)
    repeats: dict[SuperBlock, int] = {own: controls}
    for block, depth, width in zip(blocks, depths, widths, strict=True):
        super_block = SuperBlock(block.type, depth, width, own.stride, block.kernel, block.ratio)
        count = repeats.get(super_block, 0)
        planned.append(Trial(index, super_block, count))
        repeats[super_block] = count + 1
    return planned


def _evenly(values: Sequence[T], count: int, rng: np.random.Generator) -> list[T]:
    """`count` of `values` in random order, each as often as any other, to one."""
    rounds = chain.from_iterable(
        (values[i] for i in rng.permutation(len(values))) for _ in repeat(None)
    )
    drawn = [next(rounds) for _ in range(count)]
    return [drawn[i] for i in rng.permutation(count)]


def group_trials(trials: Sequence[Trial]) -> list[tuple[Trial, ...]]:
    """Groups of trials of one super-block; early super-blocks, which take longest, come first."""
    groups = []
    for index in sorted({trial.index for trial in trials}):
        own = [trial for trial in trials if trial.index == index]
        groups += [tuple(own[k : k + GROUP_SIZE]) for k in range(0, len(own), GROUP_SIZE)]
    return groups
