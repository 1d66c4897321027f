"""Which trials a search runs: controls, and perturbations of each super-block."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain, repeat
from typing import Literal, TypeVar

import numpy as np

from genets.nas.design import Place, exchanged
from genets.nas.trial import Trial
from genets.structure import SpaceAround, SuperBlock

T = TypeVar("T")
Sampling = Literal["design", "balanced", "random"]

GROUP_SIZE = 4  # trials fine-tuned together: what a kill can cost at most


def plan_trials(
    around: SpaceAround, trials: int, controls: int, *, seed: int, sampling: Sampling = "design"
) -> tuple[Trial, ...]:
    """`trials` perturbations of every super-block and `controls` repeats of its control trial.

    sampling: `balanced`: blocks take turns, so that each of them gets as many trials as any
        other, to one; so do depths and widths, in random pairs (a Latin hypercube). `design`:
        the same, with the pairs of block, depth and width chosen so that the trials tell the
        most, see `design`. `random`: each drawn from all that may stand there (paper, section 5).
    A super-block that the space leaves as it is gets no trials. The plan is determined by the
    arguments.
    """
    places: list[Place] = []
    fixed: list[Place] = []
    for index in changeable(around):
        rng = np.random.default_rng([seed, index])
        drawn = _random if sampling == "random" else _balanced
        places += [(index, super_block) for super_block in drawn(around, index, trials, rng)]
        fixed += [(index, around.master.super_blocks[index])] * controls
    if sampling == "design":
        places = exchanged(around, places, fixed)
    repeats: Counter[Place] = Counter()
    planned = []
    for index, super_block in sorted((*fixed, *places), key=lambda place: place[0]):
        planned.append(Trial(index, super_block, repeats[index, super_block]))
        repeats[index, super_block] += 1
    return tuple(planned)


def changeable(around: SpaceAround) -> list[int]:
    """The super-blocks (from 0) in whose place the space allows something else."""
    return [index for index in range(len(around.blocks)) if len(around.choices(index)) > 1]


def _random(
    around: SpaceAround, index: int, count: int, rng: np.random.Generator
) -> list[SuperBlock]:
    own = around.master.super_blocks[index]
    others = [choice for choice in around.choices(index) if choice != own]
    return [others[n] for n in rng.integers(len(others), size=count)]


def _balanced(
    around: SpaceAround, index: int, count: int, rng: np.random.Generator
) -> list[SuperBlock]:
    stride = around.master.super_blocks[index].stride
    values = zip(
        _evenly(around.blocks[index], count, rng),
        _evenly(around.depths[index], count, rng),
        _evenly(around.widths[index], count, rng),
        strict=True,
    )
    return [
        SuperBlock(block.type, depth, width, stride, block.kernel, block.ratio)
        for block, depth, width in values
    ]


def _evenly(values: Sequence[T], count: int, rng: np.random.Generator) -> list[T]:
    """`count` of `values` in random order, each as often as any other, to one."""
    rounds = chain.from_iterable(
        (values[i] for i in rng.permutation(len(values))) for _ in repeat(None)
    )
    drawn = [next(rounds) for _ in range(count)]
    return [drawn[i] for i in rng.permutation(count)]


def group_trials(trials: Sequence[Trial], size: int = GROUP_SIZE) -> list[tuple[Trial, ...]]:
    """Groups of trials of one super-block; early super-blocks, which take longest, come first."""
    groups = []
    for index in sorted({trial.index for trial in trials}):
        own = [trial for trial in trials if trial.index == index]
        groups += [tuple(own[k : k + size]) for k in range(0, len(own), size)]
    return groups
