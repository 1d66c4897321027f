"""The accuracy model by default: a Bayesian linear model with nested effects.

For super-block i and block T (type, kernel, ratio), with A the value of a trial:

    A - A_control(i) = g0 + g1 log(d / d_i) + g2 log(c / c_i)

where g0, g1, g2 are sums of effects shared at several levels (`features`), each normal around
zero, so that little data means little departure from what is shared. A_control(i) is an effect
too, the super-block's level: all its trials tell of it, its control trials most. The slope on
multiply-adds has a prior mean above zero. The sizes of the effects and of the noise are set by
their probability given all trials. This replaces the fit of section 4.2, which has no intercept
and no control; the prediction is a sum over super-blocks as there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr
from threadpoolctl import threadpool_limits

from genets.nas.accuracy.features import EVERYWHERE, SCALE_GROUPS, FeatureMap
from genets.nas.accuracy.gaussian import (
    Floats,
    LinearModel,
    Posterior,
    fit_scales,
    posterior,
    with_scales,
)
from genets.nas.accuracy.observations import Observations, RepeatNoise
from genets.nas.study.records import Trial
from genets.structure import Block, Structure, SuperBlock

# Prior standard deviations of the effects, by scale group, in spreads of the trials' values;
# and how far (one standard deviation of the log) the data may move them.
EFFECT_STD = {"block": 0.5, "place": 0.5, "slope": 0.5, "local slope": 0.25}
LOG_STD = 1.0

# The gain in top-1, or loss in cross-entropy, from e times the multiply-adds, as a share of the
# MasterNet's error. Paper, Table 7: RegNetY-400MF to 800MF 0.13, MobileNetV2-0.5 to 1.0 0.2,
# EfficientNet-B0 to B1 0.18, ResNet-50 to 152 0.08.
TREND_MEAN = 0.15
TREND_STD = 0.15


@dataclass(frozen=True, slots=True)
class LeaveOneOut:
    """How well each trial's value is predicted from all others (closed form).

    Levels and the scales of prior and noise are those fitted to all trials.
    rmse: in the metric's unit. spearman: rank correlation of predicted and observed change
    over all trials but controls, each less its super-block's level; None below 3 values.
    residual, std: (trials,), observed less predicted, and the std of that.
    """

    rmse: float
    spearman: float | None
    residual: Floats
    std: Floats


@dataclass(frozen=True, eq=False)
class BayesEffects:
    """The fitted effects: features times posterior."""

    map: FeatureMap
    observations: Observations
    model: LinearModel
    posterior: Posterior

    @classmethod
    def fit(
        cls,
        master: Structure,
        observations: Observations,
        master_value: float,
        error: float,
        trend: tuple[float, float] = (TREND_MEAN, TREND_STD),
    ) -> BayesEffects:
        """master_value: of which more is better; error: the MasterNet's, above 0.

        trend: mean and standard deviation of the slope on log multiply-adds, in errors.
        """
        blocks = {t.super_block.block for t in observations.trials}
        feature_map = FeatureMap(master, blocks, whole=bool(observations.whole))
        start, freedom = _prior(feature_map, observations, master_value, error, trend)
        # Repeats tell the noise: the more, the less the fit may move it.
        noise_log_std = max(0.25, 1 / np.sqrt(1 + freedom))
        log_scale_std = np.array([LOG_STD] * len(SCALE_GROUPS) + [noise_log_std])
        # One thread: the same numbers on any machine, and faster at these sizes.
        with threadpool_limits(limits=1, user_api="blas"):
            log_scales = fit_scales(start, feature_map.groups, log_scale_std)
            model = with_scales(start, feature_map.groups, log_scales)
            fitted = posterior(model)
        return cls(feature_map, observations, model, fitted)

    def stage(
        self, index: int, input_widths: Sequence[int], super_blocks: Sequence[SuperBlock]
    ) -> Floats:
        """(input widths, super-blocks): change of value against the MasterNet's own."""
        slope = self.posterior.mean[self.map.columns["trend", EVERYWHERE, EVERYWHERE]]
        local: Floats = self.map.local(index, super_blocks) @ self.posterior.mean
        changes: Floats = local + slope * self.map.trend(index, input_widths, super_blocks)
        return changes

    def std(self, structure: Structure) -> float:
        return self.std_of(self.map.structure(structure))

    def std_of(self, row: Floats) -> float:
        """Standard deviation of the sum of effects, each times its number in `row`."""
        return math.sqrt(max(0.0, float(row @ self.posterior.covariance @ row)))

    def leave_one_out(self) -> LeaveOneOut:
        count, master = len(self.observations.trials), self.map.master
        residual = self.posterior.left_out_residual[:count]  # of trials, not of whole structures
        changed = np.array([not t.is_control(master) for t in self.observations.trials], bool)
        level_columns = [n for c, n in self.map.columns.items() if c[0] == "level"]
        level = self.model.features[:count, level_columns] @ self.posterior.mean[level_columns]
        observed = (self.model.target[:count] - level)[changed]
        predicted = observed - residual[changed]
        rank = None
        if min(len(np.unique(observed)), len(np.unique(predicted))) >= 3:
            rank = float(spearmanr(observed, predicted).statistic)
        rmse = float(np.sqrt(np.mean(residual**2)))
        std = np.sqrt(self.posterior.left_out_variance[:count])
        return LeaveOneOut(rmse, rank, residual, std)

    def gradients(self) -> list[dict[str, object]]:
        """For each super-block and tried block g0, g1, g2 with standard deviations.

        g1 and g2 are mean slopes from the MasterNet's depth and width to twice that, trend
        included; super-blocks are counted from 0. Stem and head, where they were tried, too.
        """
        master = self.map.master
        rows: list[dict[str, object]] = []
        for index in master.indices:
            end = master.stage(index).type == "Conv"
            blocks = (master.stage(index).block,) if end else self.map.blocks
            for block in blocks:
                if end and not self.trials_of(index, block):
                    continue
                effects = self.gradient_rows(index, block)
                rows.append(
                    {
                        "super_block": index,
                        "block": str(block),
                        "trials": self.trials_of(index, block),
                        **{
                            name: {
                                "mean": float(row @ self.posterior.mean),
                                "std": self.std_of(row),
                            }
                            for name, row in effects.items()
                        },
                    }
                )
        return rows

    def gradient_rows(self, index: int, block: Block) -> dict[str, Floats]:
        """(columns,) each: what g0, g1 and g2 are sums of; of stem and head g2 alone."""
        own = self.map.master.stage(index)
        base, deeper, wider = (
            self._change(
                index,
                SuperBlock(block.type, depth, width, own.stride, block.kernel, block.ratio),
            )
            for depth, width in (
                (own.depth, own.width),
                (2 * own.depth, own.width),
                (own.depth, 2 * own.width),
            )
        )
        slope = {"g2": (wider - base) / np.log(2)}
        if own.type == "Conv":
            return slope
        return {"g0": base, "g1": (deeper - base) / np.log(2)} | slope

    def _change(self, index: int, super_block: SuperBlock) -> Floats:
        """(columns,): the super-block alone, with the width that comes in in the MasterNet."""
        row: Floats = self.map.local(index, [super_block])[0]
        width = self.map.master.input_width(index)
        trend = self.map.trend(index, [width], [super_block])[0, 0]
        row[self.map.columns["trend", EVERYWHERE, EVERYWHERE]] = trend
        return row

    def trials_of(self, index: int, block: Block) -> int:
        """How many trials tried this block at this stage."""
        return sum(
            t.index == index and t.super_block.block == block for t in self.observations.trials
        )

    def warnings(self) -> list[str]:
        """Where the trials do not support a choice. Super-blocks are counted from 1 here."""
        master, trials = self.map.master, self.observations.trials
        found = []
        for index in master.indices:
            own = [trial for trial in trials if trial.index == index]
            name, perturbed = master.stage_name(index), [t for t in own if not t.is_control(master)]
            if own and len(perturbed) == len(own):
                found.append(f"{name} has no control trial; its zero is an estimate")
            if own or master.stage(index).type != "Conv":
                blocks = len({trial.super_block.block for trial in own})
                found += _too_few(name, blocks, perturbed)
        rank = self.leave_one_out().spearman
        if rank is not None and rank < 0.2:
            found.append(f"trials hardly predict one another: leave-one-out Spearman {rank:.2f}")
        return found


def _too_few(name: str, blocks: int, perturbed: Sequence[Trial]) -> list[str]:
    """Three trials of each block would tell its g0, g1 and g2; half of that is little."""
    if perturbed and len(perturbed) >= 1.5 * blocks:
        return []
    number = "1 trial" if len(perturbed) == 1 else f"{len(perturbed)} trials"
    count = f"{number} for {blocks} block{'s' * (blocks != 1)}" if perturbed else "no trial"
    return [f"{name} has {count}: what is predicted there rests mostly on the other super-blocks"]


def _prior(
    feature_map: FeatureMap,
    observations: Observations,
    master_value: float,
    error: float,
    trend: tuple[float, float],
) -> tuple[LinearModel, int]:
    """The model before its scales are fitted, and the degrees of freedom of all repeats."""
    trials = observations.trials
    target = observations.values - master_value
    whole = observations.whole_values - master_value
    indices = feature_map.master.indices
    place = np.array([indices.index(trial.index) for trial in trials])
    spread = _spread(target, place, error)
    repeats = RepeatNoise.of(observations, feature_map.master)
    noise = repeats.variances(0.1 * spread**2) + (1e-4 * spread) ** 2
    stds = np.array([EFFECT_STD[name] for name in SCALE_GROUPS] + [0.0]) * spread
    variance = feature_map.base_variance * stds[feature_map.groups] ** 2
    mean = np.zeros(len(feature_map))
    for column, number in feature_map.columns.items():
        if column[0] == "level":  # wide: trials of any super-block may lose a lot
            variance[number] = 4 * np.abs(target).max() ** 2 + spread**2
        elif column[0] == "whole":  # as wide: another recipe, and a teacher
            variance[number] = 4 * np.abs(whole).max() ** 2 + spread**2
        elif column[0] == "trend":
            mean[number], variance[number] = trend[0] * error, (trend[1] * error) ** 2
    features = np.array([feature_map.trial(t.index, t.super_block) for t in trials])
    noises = noise[place]
    if observations.whole:
        of_whole = _whole_noise(feature_map, observations.whole, noise, float(noises.mean()))
        features = np.vstack((features, [feature_map.whole(s) for s in observations.whole]))
        target = np.concatenate((target, whole))
        noises = np.concatenate((noises, of_whole))
    model = LinearModel(features, target, mean, variance, noises)
    return model, sum(repeats.freedom)


def _whole_noise(
    feature_map: FeatureMap, structures: Sequence[Structure], noise: Floats, least: float
) -> Floats:
    """(structures,): what trials of each changed stage have, summed: the form is wrong in all of
    these places at once. Of one that changes nothing `least`, that of a mean trial.
    """
    own = feature_map.master.stages
    sums = [noise[[a != b for a, b in zip(s.stages, own, strict=True)]].sum()
            for s in structures]  # fmt: skip
    return np.asarray(np.maximum(sums, least))


def _spread(target: Floats, place: Floats, error: float) -> float:
    """Standard deviation within super-blocks; a tenth of the error counts as two more trials."""
    squares, freedom = 2 * (0.1 * error) ** 2, 2
    for index in np.unique(place):
        values = target[place == index]
        squares += float(((values - values.mean()) ** 2).sum())
        freedom += len(values) - 1
    return float(np.sqrt(squares / freedom))
