"""Choices that the trials do not support, and how many more trials would.

The effects are normal, so what more trials would leave of a difference's variance is known before
they are run (pre-posterior analysis; Raiffa and Schlaifer 1961). With m and s the difference's mean
and standard deviation now and s' the latter afterwards, the mean will be

    m' ~ N(m, s^2 - s'^2).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.stats import norm
from threadpoolctl import threadpool_limits

from genets.nas.accuracy.bayes import BayesEffects
from genets.nas.accuracy.gaussian import Floats
from genets.nas.study.records import Trial
from genets.structure import Block

CLEAR = 2.0  # standard deviations that a difference must have to be told from noise
LIKELY = 0.5  # the chance that it will be, with which trials are said to settle it
MAX_MORE_TRIALS = 50  # trials for each super-block; more are not counted

Plan = Callable[[int], Sequence[Trial]]  # what so many more trials for each super-block would be


@dataclass(frozen=True, eq=False)
class UndecidedChoice:
    """Two blocks of which the trials do not tell which is better at a super-block.

    index: of the super-block, from 0. mean, std: of the gain of `best` over `other` at the
    MasterNet's depth and width, in `unit`. row: (columns,), the effects it is of.
    """

    index: int
    best: Block
    other: Block
    mean: float
    std: float
    unit: str
    row: Floats

    def __str__(self) -> str:
        return (
            f"{self.best} against {self.other} in super-block {self.index + 1} is within noise "
            f"({self.mean:.2g} ± {self.std:.2g} {self.unit})"
        )


def undecided_choices(effects: BayesEffects, unit: str) -> list[UndecidedChoice]:
    """The two best of the tried blocks of each super-block, where noise may hide which is."""
    found = []
    for index in range(len(effects.map.master.super_blocks)):
        tried = [block for block in effects.map.blocks if effects.trials_of(index, block)]
        rows = {block: effects.gradient_rows(index, block)["g0"] for block in tried}
        gains = {block: float(row @ effects.posterior.mean) for block, row in rows.items()}
        ranked = sorted(tried, key=lambda block: (-gains[block], block))
        if len(ranked) < 2:
            continue
        best, other = ranked[:2]
        row = rows[best] - rows[other]
        mean, std = gains[best] - gains[other], effects.std_of(row)
        if mean < CLEAR * std:
            found.append(UndecidedChoice(index, best, other, mean, std, unit, row))
    return found


def std_after(effects: BayesEffects, row: Floats, trials: Sequence[Trial]) -> float:
    """The standard deviation of a sum of effects, were these trials run as well.

    It does not depend on their outcome; the noise of a super-block's trials is taken to stay as it
    is, and of one without any to be the largest.
    """
    if not trials:
        return effects.std_of(row)
    observed = effects.observations.trials
    variances = effects.model.noise_variance[: len(observed)]  # then come whole structures
    noise = dict.fromkeys((t.index for t in trials), float(variances.max()))
    for trial, variance in zip(observed, variances, strict=True):
        noise[trial.index] = float(variance)
    features = np.array([effects.map.trial(t.index, t.super_block) for t in trials])
    shared = features @ effects.posterior.covariance
    spread = shared @ features.T + np.diag([noise[t.index] for t in trials])
    told = shared @ row
    return math.sqrt(
        max(0.0, effects.std_of(row) ** 2 - float(told @ np.linalg.solve(spread, told)))
    )


def chance_to_settle(call: UndecidedChoice, std_left: float) -> float:
    """That the difference will be clear, either way, once its deviation is `std_left`."""
    move = math.sqrt(max(0.0, call.std**2 - std_left**2))
    if move == 0.0:
        return 0.0  # nothing told, and it is not clear now
    sides = (call.mean, -call.mean)
    return float(sum(norm.cdf((side - CLEAR * std_left) / move) for side in sides))


def trials_to_settle(
    effects: BayesEffects, calls: Sequence[UndecidedChoice], plan: Plan, step: int
) -> list[int | None]:
    """For each call the least number of more trials for each super-block that likely settles it.

    step: in which numbers go up, to give each block as many. None: more than MAX_MORE_TRIALS.
    """
    counts = range(step, max(MAX_MORE_TRIALS, step) + 1, step)
    planned = cache(plan)

    def needed(call: UndecidedChoice) -> int | None:
        def settled(more: int) -> bool:  # the more trials, the likelier: bisection finds the least
            left = std_after(effects, call.row, planned(more))
            return chance_to_settle(call, left) >= LIKELY

        first = bisect_left(counts, True, key=settled)
        return counts[first] if first < len(counts) else None

    # One thread: faster at these sizes, and the same numbers on any machine.
    with threadpool_limits(limits=1, user_api="blas"):
        return [needed(call) for call in calls]
