"""Plans the trials of a search: controls, and perturbations of each stage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain, islice, pairwise, repeat
from typing import Literal, TypeVar

import numpy as np

from genets.nas.study.records import Trial
from genets.nas.trials.d_optimal import StageOption, exchange_options
from genets.structure import SearchSpace, SuperBlock

T = TypeVar("T")
Sampling = Literal["design", "balanced", "random"]

GROUP_SIZE = 4  # trials that are fine-tuned together; a kill loses at most one such group
# A group has at most this part of the trials that are left. By `benchmarks/worker_model.py`, 1 is
# slower for 64 workers and more, and 2 for 24 workers and fewer.
PARTS_PER_WORKER = 1.25


def plan_trials(
    space: SearchSpace,
    trials: int,
    controls: int,
    *,
    seed: int,
    sampling: Sampling = "design",
    grown_from: Sequence[int] = (),
) -> tuple[Trial, ...]:
    """Plan the trials of each stage that the space can change; the arguments determine the plan.

    A stage that the space leaves unchanged, by default stem and head, gets no trials.

    Args:
        space: the search space around the MasterNet.
        trials: the number of perturbations of each stage.
        controls: the number of repeats of each stage's control trial.
        seed: of the random choices.
        sampling: `balanced`: all blocks get equally many trials, or one more; the same holds for
            depths and for widths, which are paired at random (a Latin hypercube). `design`:
            balanced too, but block, depth and width are paired such that the trials are most
            informative (see `d_optimal`). `random`: each perturbation is drawn from all others of
            the stage (paper, section 5).
        grown_from: smaller numbers of trials that were planned before, ascending. The trials of
            these plans stay, and the added trials are chosen with regard to them.
    """
    assert list(grown_from) == sorted({*grown_from} - {trials}), grown_from
    master_stage = space.master.stage
    fixed = [
        (index, master_stage(index)) for index in changeable_stages(space) for _ in range(controls)
    ]
    planned: list[StageOption] = []
    for before, count in pairwise((0, *grown_from, trials)):
        entropy = [seed, before] if before else [seed]
        added = _added(space, planned, count - before, entropy, sampling)
        if sampling == "design":
            added = exchange_options(space, added, [*fixed, *planned])
        planned += added
    return _with_repeats((*fixed, *planned))


def plan_more_trials(
    space: SearchSpace, done: Sequence[Trial], count: int, *, seed: int, sampling: Sampling
) -> tuple[Trial, ...]:
    """Plan approximately the next `count` trials of each stage, after the trials in `done`.

    The exchange of a `design` is left out: it takes longer, and makes the trials only a little more
    informative.
    """
    master_stage = space.master.stage
    options = [(t.index, t.super_block) for t in done if t.super_block != master_stage(t.index)]
    return _with_repeats(_added(space, options, count, [seed, len(done)], sampling))


def _with_repeats(options: Iterable[StageOption]) -> tuple[Trial, ...]:
    """Trials, sorted by stage; equal trials get different repeat numbers."""
    repeats: Counter[StageOption] = Counter()
    trials = []
    for index, super_block in sorted(options, key=lambda option: option[0]):
        trials.append(Trial(index, super_block, repeats[index, super_block]))
        repeats[index, super_block] += 1
    return tuple(trials)


def _added(
    space: SearchSpace,
    planned: Sequence[StageOption],
    count: int,
    entropy: list[int],
    sampling: Sampling,
) -> list[StageOption]:
    """`count` further perturbations of each stage."""
    added: list[StageOption] = []
    for index in changeable_stages(space):
        rng = np.random.default_rng([*entropy, index % 2**32])  # the stem's index is below 0
        if sampling == "random":
            others = [o for o in space.choices(index) if o != space.master.stage(index)]
            drawn = [others[n] for n in rng.integers(len(others), size=count)]
        else:
            before = [super_block for stage, super_block in planned if stage == index]
            drawn = _balanced(space, index, count, rng, before)
        added += [(index, super_block) for super_block in drawn]
    return added


def changeable_stages(space: SearchSpace) -> list[int]:
    """The indices of the stages that the space can change."""
    return [index for index in space.master.indices if len(space.choices(index)) > 1]


def _balanced(
    space: SearchSpace,
    index: int,
    count: int,
    rng: np.random.Generator,
    before: Sequence[SuperBlock],
) -> list[SuperBlock]:
    """Draw super-blocks such that blocks, depths and widths are balanced together with `before`."""
    own = space.master.stage(index)
    blocks, depths, widths = space.blocks[index], space.depths[index], space.widths[index]
    # Where only one property can change, the own super-block would be a control trial.
    if len(blocks) == len(depths) == 1:
        widths = tuple(width for width in widths if width != own.width)
    elif len(widths) == len(depths) == 1:
        blocks = tuple(block for block in blocks if block != own.block)
    elif len(blocks) == len(widths) == 1:
        depths = tuple(depth for depth in depths if depth != own.depth)
    options = zip(
        _evenly(blocks, count, rng, [s.block for s in before]),
        _evenly(depths, count, rng, [s.depth for s in before]),
        _evenly(widths, count, rng, [s.width for s in before]),
        strict=True,
    )
    return [
        SuperBlock(block.type, depth, width, own.stride, block.kernel, block.ratio)
        for block, depth, width in options
    ]


def _evenly(values: Sequence[T], count: int, rng: np.random.Generator, before: list[T]) -> list[T]:
    """Draw `count` values in random order; the counts of all values differ by one at most.

    The values in `before` are counted too, so the rarest of them are drawn first.
    """
    highest = max(map(before.count, values))
    rare = [value for value in values if before.count(value) < highest]
    first = (rare[i] for i in rng.permutation(len(rare))) if rare else ()
    cycles = chain.from_iterable(
        (values[i] for i in rng.permutation(len(values))) for _ in repeat(None)
    )
    drawn = list(islice(chain(first, cycles), count))
    return [drawn[i] for i in rng.permutation(count)]


def group_trials(
    trials: Sequence[Trial], size: int = GROUP_SIZE, workers: int = 1
) -> list[tuple[Trial, ...]]:
    """Group trials of one stage; the slow early stages come first.

    Towards the end, and where there are few trials for so many workers, groups are smaller, so that
    no worker waits long for the last group (guided self-scheduling, Polychronopoulos and Kuck
    1987). A trial gives the same numbers in every group.

    Args:
        trials: The trials.
        size: The largest number of trials in a group.
        workers: The number of workers that share the groups.
    """
    groups, left = [], len(trials)
    parts = PARTS_PER_WORKER * workers if workers > 1 else 1
    for index in sorted({trial.index for trial in trials}):
        same_stage = [trial for trial in trials if trial.index == index]
        while same_stage:
            count = min(size, max(1, int(left / parts)), len(same_stage))
            groups.append(tuple(same_stage[:count]))
            del same_stage[:count]
            left -= count
    return groups
