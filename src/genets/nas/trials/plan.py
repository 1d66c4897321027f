"""Which trials a search runs: controls, and perturbations of each super-block."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain, islice, pairwise, repeat
from typing import Literal, TypeVar

import numpy as np

from genets.nas.study.records import Trial
from genets.nas.trials.d_optimal import Place, exchanged
from genets.structure import SearchSpace, SuperBlock

T = TypeVar("T")
Sampling = Literal["design", "balanced", "random"]

GROUP_SIZE = 4  # trials fine-tuned together: what a kill can cost at most


def plan_trials(
    around: SearchSpace,
    trials: int,
    controls: int,
    *,
    seed: int,
    sampling: Sampling = "design",
    grown_from: Sequence[int] = (),
) -> tuple[Trial, ...]:
    """`trials` perturbations of each stage and `controls` repeats of its control trial.

    sampling: `balanced`: blocks take turns, so that each of them gets as many trials as any
        other, to one; so do depths and widths, in random pairs (a Latin hypercube). `design`:
        the same, with the pairs of block, depth and width chosen so that the trials tell the
        most, see `design`. `random`: each drawn from all that may stand there (paper, section 5).
    grown_from: the smaller numbers of trials, ascending, that were planned before. The trials of
        those plans stay, and those added are chosen beside them.
    A stage that the space leaves as it is, by default stem and head, gets no trials. The plan is
    determined by the arguments.
    """
    assert list(grown_from) == sorted({*grown_from} - {trials}), grown_from
    own = around.master.stage
    fixed = [(index, own(index)) for index in changeable_stages(around) for _ in range(controls)]
    places: list[Place] = []
    for before, count in pairwise((0, *grown_from, trials)):
        entropy = [seed, before] if before else [seed]
        added = _added(around, places, count - before, entropy, sampling)
        places += exchanged(around, added, [*fixed, *places]) if sampling == "design" else added
    return _with_repeats((*fixed, *places))


def plan_more_trials(
    around: SearchSpace, done: Sequence[Trial], count: int, *, seed: int, sampling: Sampling
) -> tuple[Trial, ...]:
    """About what `count` more trials for each super-block would be, beside those done.

    Without the exchange of a `design`, which takes longer and would tell a little more.
    """
    own = around.master.stage
    places = [(t.index, t.super_block) for t in done if t.super_block != own(t.index)]
    return _with_repeats(_added(around, places, count, [seed, len(done)], sampling))


def _with_repeats(places: Iterable[Place]) -> tuple[Trial, ...]:
    repeats: Counter[Place] = Counter()
    planned = []
    for index, super_block in sorted(places, key=lambda place: place[0]):
        planned.append(Trial(index, super_block, repeats[index, super_block]))
        repeats[index, super_block] += 1
    return tuple(planned)


def _added(
    around: SearchSpace, places: Sequence[Place], count: int, entropy: list[int], sampling: Sampling
) -> list[Place]:
    """`count` more for each super-block, beside those that are planned already."""
    added: list[Place] = []
    for index in changeable_stages(around):
        rng = np.random.default_rng([*entropy, index % 2**32])  # the stem's index is below 0
        if sampling == "random":
            drawn = _random(around, index, count, rng)
        else:
            there = [super_block for place, super_block in places if place == index]
            drawn = _balanced(around, index, count, rng, there)
        added += [(index, super_block) for super_block in drawn]
    return added


def changeable_stages(around: SearchSpace) -> list[int]:
    """The stages (by index) in whose place the space allows something else."""
    return [index for index in around.master.indices if len(around.choices(index)) > 1]


def _random(
    around: SearchSpace, index: int, count: int, rng: np.random.Generator
) -> list[SuperBlock]:
    own = around.master.stage(index)
    others = [choice for choice in around.choices(index) if choice != own]
    return [others[n] for n in rng.integers(len(others), size=count)]


def _balanced(
    around: SearchSpace,
    index: int,
    count: int,
    rng: np.random.Generator,
    before: Sequence[SuperBlock],
) -> list[SuperBlock]:
    """before: those that are planned already; what they have less of is drawn first."""
    own = around.master.stage(index)
    widths = around.widths[index]
    if own.type == "Conv":  # nothing else changes there: its own width would be a control
        widths = tuple(width for width in widths if width != own.width)
    values = zip(
        _evenly(around.blocks[index], count, rng, [s.block for s in before]),
        _evenly(around.depths[index], count, rng, [s.depth for s in before]),
        _evenly(widths, count, rng, [s.width for s in before]),
        strict=True,
    )
    return [
        SuperBlock(block.type, depth, width, own.stride, block.kernel, block.ratio)
        for block, depth, width in values
    ]


def _evenly(values: Sequence[T], count: int, rng: np.random.Generator, before: list[T]) -> list[T]:
    """`count` of `values` in random order; with those before each as often as any other, to one."""
    most = max(map(before.count, values))
    rare = [value for value in values if before.count(value) < most]
    first = (rare[i] for i in rng.permutation(len(rare))) if rare else ()
    rounds = chain.from_iterable(
        (values[i] for i in rng.permutation(len(values))) for _ in repeat(None)
    )
    drawn = list(islice(chain(first, rounds), count))
    return [drawn[i] for i in rng.permutation(count)]


def group_trials(trials: Sequence[Trial], size: int = GROUP_SIZE) -> list[tuple[Trial, ...]]:
    """Groups of trials of one stage; early stages, which take longest, come first."""
    groups = []
    for index in sorted({trial.index for trial in trials}):
        own = [trial for trial in trials if trial.index == index]
        groups += [tuple(own[k : k + size]) for k in range(0, len(own), size)]
    return groups
