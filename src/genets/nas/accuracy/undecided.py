"""Choices of a block that the trials leave open, and how many more trials would decide them.

The effects are normal, so the variance of a difference after more trials is known before these
trials are run (pre-posterior analysis; Raiffa and Schlaifer 1961). Let m and s be the mean and the
standard deviation of the difference now, and s' its standard deviation afterwards. Then its mean
afterwards will be

    m' ~ N(m, s^2 - s'^2).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.special import ndtr
from threadpoolctl import threadpool_limits

from genets.nas.accuracy.bayes import BayesEffects
from genets.nas.accuracy.gaussian import Floats
from genets.nas.accuracy.observations import LogErrors
from genets.nas.study.records import Trial
from genets.structure import Block

CLEAR_STDS = 2.0  # a difference of at least so many standard deviations is clear of the noise
MIN_PROBABILITY = 0.5  # that the difference becomes clear, for a number of trials to be enough
MAX_MORE_TRIALS = 50  # per super-block; larger numbers are not considered

Plan = Callable[[int], Sequence[Trial]]  # plans a number of further trials for each super-block


@dataclass(frozen=True, eq=False)
class UndecidedChoice:
    """Two blocks of one super-block whose difference is within noise.

    Attributes:
        index: of the super-block, from 0.
        best: the block with the higher predicted gain.
        other: the block with the second-highest predicted gain.
        mean: difference of the two gains, at the MasterNet's depth and width, in the log of the
            error.
        std: standard deviation of the difference.
        row: (columns,), the difference as a sum of effects.
        log_errors: converts both to the metric's unit.
    """

    index: int
    best: Block
    other: Block
    mean: float
    std: float
    row: Floats
    log_errors: LogErrors

    def __str__(self) -> str:
        error, unit = self.log_errors.master_error, self.log_errors.metric.unit
        return (
            f"the trials do not show whether {self.best} or {self.other} is better in super-block "
            f"{self.index + 1} (predicted difference {error * self.mean:.2g} ± "
            f"{error * self.std:.2g} {unit})"
        )


def undecided_choices(effects: BayesEffects) -> list[UndecidedChoice]:
    """Compare the two best of the tried blocks of each super-block; list those within noise."""
    choices = []
    for index in range(len(effects.feature_map.master.super_blocks)):
        tried = [
            block for block in effects.feature_map.blocks if effects.count_trials(index, block)
        ]
        rows = {block: effects.gradient_rows(index, block)["g0"] for block in tried}
        gains = {block: float(row @ effects.posterior.mean) for block, row in rows.items()}
        ranked = sorted(tried, key=lambda block: (-gains[block], block))
        if len(ranked) < 2:
            continue
        best, other = ranked[:2]
        row = rows[best] - rows[other]
        mean, std = gains[best] - gains[other], effects.row_std(row)
        if mean < CLEAR_STDS * std:
            choice = UndecidedChoice(index, best, other, mean, std, row, effects.log_errors)
            choices.append(choice)
    return choices


def std_after_trials(effects: BayesEffects, row: Floats, trials: Sequence[Trial]) -> float:
    """The standard deviation of a sum of effects after further trials.

    It does not depend on the results of these trials, whose misfit is left out. Each super-block
    is assumed to keep its noise; a super-block without any trial is assumed to have the largest
    noise of all.
    """
    if not trials:
        return effects.row_std(row)
    observed = effects.observations.trials
    variances = effects.model.noise_variance[: len(observed)]  # candidates come after the trials
    noise = dict.fromkeys((t.index for t in trials), float(variances.max()))
    for trial, variance in zip(observed, variances, strict=True):
        noise[trial.index] = float(variance)
    features = np.array([effects.feature_map.trial_row(t.index, t.super_block) for t in trials])
    shared = features @ effects.posterior.covariance
    covariance = shared @ features.T + np.diag([noise[t.index] for t in trials])
    with_row = shared @ row
    reduction = float(with_row @ np.linalg.solve(covariance, with_row))
    return math.sqrt(max(0.0, effects.row_std(row) ** 2 - reduction))


def chance_to_settle(choice: UndecidedChoice, std_left: float) -> float:
    """The probability that the difference is clear, either way, once its deviation is std_left."""
    move = math.sqrt(max(0.0, choice.std**2 - std_left**2))
    if move == 0.0:
        return 0.0  # the trials change nothing, and the difference is not clear now
    sides = (choice.mean, -choice.mean)
    return float(sum(ndtr((side - CLEAR_STDS * std_left) / move) for side in sides))


def trials_to_settle(
    effects: BayesEffects, choices: Sequence[UndecidedChoice], plan: Plan, step: int
) -> list[int | None]:
    """How many more trials per super-block are likely to decide each choice.

    Args:
        effects: the fit to the trials so far.
        choices: the choices to decide.
        plan: plans a number of further trials for each super-block.
        step: the numbers considered are multiples of it, so that each block gets equally many.

    Returns:
        The smallest sufficient number for each choice; None for more than MAX_MORE_TRIALS.
    """
    counts = range(step, max(MAX_MORE_TRIALS, step) + 1, step)
    planned = cache(plan)

    def smallest_count(choice: UndecidedChoice) -> int | None:
        def is_enough(count: int) -> bool:
            left = std_after_trials(effects, choice.row, planned(count))
            return chance_to_settle(choice, left) >= MIN_PROBABILITY

        # The chance grows with the number of trials, so bisection finds the smallest one.
        position = bisect_left(counts, True, key=is_enough)
        return counts[position] if position < len(counts) else None

    # One thread: faster at these sizes, and the same numbers on any machine.
    with threadpool_limits(limits=1, user_api="blas"):
        return [smallest_count(choice) for choice in choices]
