"""The prior of the accuracy model: effects, noise and misfit before any scale is fitted.

The units are multiples of the spread of the trials' values, so the prior does not depend on how
hard a data set is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from genets.nas.accuracy.features import (
    ALL,
    CANDIDATE_OFFSET,
    RESET_COST,
    TREND,
    FeatureMap,
    candidate_offset,
    earlier_round,
)
from genets.nas.accuracy.gaussian import Floats, LinearModel
from genets.nas.accuracy.observations import LogErrors, Observations, RepeatNoise
from genets.nas.study.records import Trial
from genets.structure import Structure

MIN_SPREAD = 0.1  # of the log of the error; counts as two more trials

# Prior of the trend: by how much e times the multiply-adds lower the log of the error. Paper,
# Table 7: RegNetY-400MF to 800MF 0.13, MobileNetV2-0.5 to 1.0 0.2, EfficientNet-B0 to B1 0.18,
# ResNet-50 to 152 0.08.
TREND_MEAN = 0.15
TREND_STD = 0.15

# Prior standard deviation of the misfit of two super-blocks, as a multiple of the spread of the
# trials' values, for two changes whose effects have a prior deviation of one spread.
MISFIT = 0.4


@dataclass(frozen=True, eq=False)
class Prior:
    """The model before its scales are fitted.

    Attributes:
        model: effects, observations and noise.
        rows: (observations, stages, columns), the effects by stage.
        spread: the standard deviation of the values of trials within a super-block.
        freedom: the degrees of freedom of all repeats.
    """

    model: LinearModel
    rows: Floats
    spread: float
    freedom: int

    @classmethod
    def make(
        cls, feature_map: FeatureMap, observations: Observations, log_errors: LogErrors
    ) -> Prior:
        master, trials = feature_map.master, observations.trials
        targets = [
            log_errors.target(values)
            for values in (
                observations.values,
                *(each.values for each in observations.earlier),
                observations.candidate_values,
            )
        ]
        stages = np.array([master.indices.index(trial.index) for trial in trials], int)
        spread = _spread(targets[0], stages)
        if not trials:  # the candidates are a sample of the space
            spread = _spread(targets[-1], np.zeros(len(targets[-1]), int))
        rounds = [trials, *(each.trials for each in observations.earlier)]
        repeats = RepeatNoise.estimate(rounds, targets, master)
        stage_noise = repeats.variances(0.1 * spread**2) + (1e-4 * spread) ** 2
        widest = 4 * np.abs(np.concatenate(targets)).max() ** 2 + spread**2
        mean, variance = _effects(feature_map, spread, widest)
        rows, features, noise = _observed(feature_map, observations, stage_noise)
        # 0 for a trial of the MasterNet, unless its width changes the next stage's shortcut.
        misfit = (MISFIT * spread) ** 2 * unit_misfit(feature_map, rows, rows)
        model = LinearModel(
            features,
            np.concatenate(targets),
            mean,
            variance,
            noise,
            misfit,
        )
        return cls(model, rows, spread, sum(repeats.freedom))


def _effects(feature_map: FeatureMap, spread: float, widest: float) -> tuple[Floats, Floats]:
    """The prior means and variances of the effects, both (columns,).

    widest: a variance that hardly restricts an effect.
    """
    variance = feature_map.effect_variance(spread)
    mean = np.zeros(len(feature_map))
    for column, number in feature_map.columns.items():
        # Wide: trials of any super-block may lose a lot, and candidates have another recipe.
        if column.effect in (RESET_COST, CANDIDATE_OFFSET):
            variance[number] = widest
        elif column == TREND:
            mean[number], variance[number] = TREND_MEAN, TREND_STD**2
    return mean, variance


def _observed(
    feature_map: FeatureMap, observations: Observations, stage_noise: Floats
) -> tuple[Floats, Floats, Floats]:
    """The effects of all observations.

    Args:
        feature_map: the columns.
        observations: trials, trials of earlier rounds, and candidates.
        stage_noise: (stages,), the variance of a trial.

    Returns:
        The effects by stage, (observations, stages, columns); their sums with the effects of the
        trainings, (observations, columns); the variance of the noise, (observations,).
    """
    indices = feature_map.master.indices
    rounds: list[tuple[Structure, tuple[Trial, ...], str]] = [
        (feature_map.master, observations.trials, ALL)
    ]
    rounds += [
        (each.master, each.trials, earlier_round(number))
        for number, each in enumerate(observations.earlier)
    ]
    rows, features, noise = [], [], []
    for master, trials, scope in rounds:
        for trial in trials:
            rows.append(feature_map.rows_by_stage(trial.structure(master)))
            features.append(rows[-1].sum(axis=0) + feature_map.reset_row(trial.index, scope))
            noise.append(stage_noise[indices.index(trial.index)])
    for structure, epochs in zip(
        observations.candidates, observations.candidate_epochs, strict=True
    ):
        rows.append(feature_map.rows_by_stage(structure))
        features.append(rows[-1].sum(axis=0))
        features[-1][feature_map.columns[candidate_offset(epochs)]] = 1.0
        noise.append(float(stage_noise.mean()))
    return np.array(rows), np.array(features), np.array(noise)


def unit_misfit(feature_map: FeatureMap, rows: Floats, others: Floats) -> Floats:
    """(rows, others): the prior covariance of the misfit of structures, of unit scale.

    It is the sum of k_i k_j over all pairs of stages i < j, where k_i is the prior covariance of
    the effects that the two structures change at stage i, for trials of unit spread.

    Args:
        feature_map: the columns of `rows`.
        rows: (rows, stages, columns), the effects by stage of some structures.
        others: (others, stages, columns), the effects by stage of other structures.
    """
    stds = np.sqrt(feature_map.effect_variance())
    used = stds > 0
    first, second = ((each[:, :, used] * stds[used]).swapaxes(0, 1) for each in (rows, others))
    by_stage = first @ second.swapaxes(1, 2)  # (stages, rows, others)
    pairs: Floats = (by_stage.sum(axis=0) ** 2 - (by_stage**2).sum(axis=0)) / 2
    return pairs


def _spread(target: Floats, stages: Floats) -> float:
    """Standard deviation within stages; MIN_SPREAD counts as two more trials."""
    squares, freedom = 2 * MIN_SPREAD**2, 2
    for stage in np.unique(stages):
        values = target[stages == stage]
        squares += float(((values - values.mean()) ** 2).sum())
        freedom += len(values) - 1
    return float(np.sqrt(squares / freedom))
