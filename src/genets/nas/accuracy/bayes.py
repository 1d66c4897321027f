"""The default regression: a Bayesian linear model with nested effects.

For super-block i and block T (type, kernel, ratio), with A the value of a trial:

    A - A_control(i) = g0 + g1 log(d / d_i) + g2 log(c / c_i)

g0, g1 and g2 are sums of effects that are shared at several levels (see `features`). Each effect is
normal around zero, so a super-block with few trials stays close to what all super-blocks share.
A_control(i) is an effect too, the reset cost: all trials of the super-block inform it, and its
control trials inform it most. The prior mean of the slope on multiply-adds is above zero. The
scales of effects and noise are those that make all observations most probable. This replaces the
fit of section 4.2, which has no intercept and no control; the prediction is a sum over
super-blocks, as in the paper.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr
from threadpoolctl import threadpool_limits

from genets.nas.accuracy.features import (
    CANDIDATE_OFFSET,
    RESET_COST,
    SCALE_GROUPS,
    TREND,
    FeatureMap,
)
from genets.nas.accuracy.gaussian import (
    Floats,
    LinearModel,
    Posterior,
    compute_posterior,
    fit_scales,
    scale_variances,
)
from genets.nas.accuracy.observations import Observations, RepeatNoise
from genets.structure import Block, Structure, SuperBlock

# Prior standard deviations of the effects, by scale group, as multiples of the spread of the
# trials' values; and how far (one standard deviation of the log) the observations may scale them.
EFFECT_STD = {"block": 0.5, "local block": 0.5, "slope": 0.5, "local slope": 0.25}
LOG_STD = 1.0

# Prior of the trend: the gain from e times the multiply-adds, as a share of the MasterNet's error.
# Paper, Table 7: RegNetY-400MF to 800MF 0.13, MobileNetV2-0.5 to 1.0 0.2, EfficientNet-B0 to B1
# 0.18, ResNet-50 to 152 0.08.
TREND_MEAN = 0.15
TREND_STD = 0.15

MIN_SPEARMAN = 0.2  # of leave-one-out; below it the trials hardly predict one another


@dataclass(frozen=True, slots=True)
class LeaveOneOut:
    """How well the value of each trial is predicted from all other observations (closed form).

    The reset costs, and the scales of priors and noise, are those fitted to all trials.

    Attributes:
        rmse: in the metric's unit.
        spearman: rank correlation of predicted and observed gains over all trials except controls,
            with the reset cost of the super-block subtracted; None for fewer than 3 distinct
            values.
        residual: (trials,), observed minus predicted value.
        std: (trials,), the standard deviation of `residual`.
    """

    rmse: float
    spearman: float | None
    residual: Floats
    std: Floats


@dataclass(frozen=True, eq=False)
class BayesEffects:
    """The fitted effects.

    Attributes:
        feature_map: the columns of the design matrix.
        observations: the trials and trained candidates of the fit.
        model: design matrix, target and priors, with the fitted scales. The trials come first,
            then the candidates.
        posterior: the distribution of the effects.
    """

    feature_map: FeatureMap
    observations: Observations
    model: LinearModel
    posterior: Posterior

    @classmethod
    def fit(
        cls, master: Structure, observations: Observations, master_value: float, error: float
    ) -> BayesEffects:
        """Fit the scales, then the effects.

        Args:
            master: the MasterNet.
            observations: what the effects are fitted to.
            master_value: the MasterNet's metric, oriented so that higher is better.
            error: the MasterNet's error, above 0: 1 - top-1, or the cross-entropy in nats.
        """
        blocks = {t.super_block.block for t in observations.trials}
        feature_map = FeatureMap(master, blocks, candidates=bool(observations.candidates))
        start, freedom = _prior(feature_map, observations, master_value, error)
        # Repeats measure the noise: the more repeats there are, the less the fit may scale it.
        noise_log_std = max(0.25, 1 / np.sqrt(1 + freedom))
        log_scale_std = np.array([LOG_STD] * len(SCALE_GROUPS) + [noise_log_std])
        # One thread: the same numbers on any machine, and faster at these sizes.
        with threadpool_limits(limits=1, user_api="blas"):
            log_scales = fit_scales(start, feature_map.groups, log_scale_std)
            model = scale_variances(start, feature_map.groups, log_scales)
            posterior = compute_posterior(model)
        return cls(feature_map, observations, model, posterior)

    def stage_gain(
        self, index: int, input_widths: Sequence[int], super_blocks: Sequence[SuperBlock]
    ) -> Floats:
        """(input widths, super-blocks): predicted gain over the MasterNet's own stage."""
        slope = self.posterior.mean[self.feature_map.columns[TREND]]
        local: Floats = self.feature_map.stage_rows(index, super_blocks) @ self.posterior.mean
        gain: Floats = local + slope * self.feature_map.trend(index, input_widths, super_blocks)
        return gain

    def std(self, structure: Structure) -> float:
        """Standard deviation of the predicted gain of a structure."""
        return self.row_std(self.feature_map.structure_row(structure))

    def row_std(self, row: Floats) -> float:
        """Standard deviation of the sum of all effects, each times its number in `row`."""
        return math.sqrt(max(0.0, float(row @ self.posterior.covariance @ row)))

    def leave_one_out(self) -> LeaveOneOut:
        count, master = len(self.observations.trials), self.feature_map.master
        residual = self.posterior.left_out_residual[:count]  # trials only, no candidates
        perturbed = np.array([not t.is_control(master) for t in self.observations.trials], bool)
        columns = [n for c, n in self.feature_map.columns.items() if c.effect == RESET_COST]
        reset_cost = self.model.features[:count, columns] @ self.posterior.mean[columns]
        observed = (self.model.target[:count] - reset_cost)[perturbed]
        predicted = observed - residual[perturbed]
        spearman = None
        if min(len(np.unique(observed)), len(np.unique(predicted))) >= 3:
            spearman = float(spearmanr(observed, predicted).statistic)
        rmse = float(np.sqrt(np.mean(residual**2)))
        std = np.sqrt(self.posterior.left_out_variance[:count])
        return LeaveOneOut(rmse, spearman, residual, std)

    def gradients(self) -> list[dict[str, object]]:
        """Pseudo-gradients g0, g1, g2 of each super-block and tried block, with deviations.

        g1 and g2 are mean slopes from the MasterNet's depth and width to twice that, trend
        included. Super-blocks are counted from 0. Stem and head are listed where they were tried.
        """
        gradients: list[dict[str, object]] = []
        for index in self.feature_map.master.indices:
            own = self.feature_map.master.stage(index)
            blocks = (own.block,) if own.type == "Conv" else self.feature_map.blocks
            for block in blocks:
                trials = self.count_trials(index, block)
                if own.type == "Conv" and not trials:
                    continue
                gradient: dict[str, object] = {"super_block": index, "block": str(block)}
                gradient["trials"] = trials
                for name, row in self.gradient_rows(index, block).items():
                    mean = float(row @ self.posterior.mean)
                    gradient[name] = {"mean": mean, "std": self.row_std(row)}
                gradients.append(gradient)
        return gradients

    def gradient_rows(self, index: int, block: Block) -> dict[str, Floats]:
        """The sums of effects that are g0, g1 and g2, each (columns,); stem and head have only g2.

        The input width is the MasterNet's.
        """
        master, own = self.feature_map.master, self.feature_map.master.stage(index)
        shapes = ((own.depth, own.width), (2 * own.depth, own.width), (own.depth, 2 * own.width))
        super_blocks = [
            SuperBlock(block.type, depth, width, own.stride, block.kernel, block.ratio)
            for depth, width in shapes
        ]
        rows = self.feature_map.stage_rows(index, super_blocks)
        trend = self.feature_map.trend(index, [master.input_width(index)], super_blocks)
        rows[:, self.feature_map.columns[TREND]] = trend[0]
        base, deeper, wider = rows
        g2 = {"g2": (wider - base) / np.log(2)}
        if own.type == "Conv":
            return g2
        return {"g0": base, "g1": (deeper - base) / np.log(2)} | g2

    def count_trials(self, index: int, block: Block) -> int:
        """The number of trials of a block at a stage."""
        return sum(
            t.index == index and t.super_block.block == block for t in self.observations.trials
        )

    def warnings(self) -> list[str]:
        """Where the trials are too few or do not agree. Super-blocks are counted from 1 here."""
        master, warnings = self.feature_map.master, []
        for index in master.indices:
            trials = [trial for trial in self.observations.trials if trial.index == index]
            name = master.stage_name(index)
            perturbed = [trial for trial in trials if not trial.is_control(master)]
            if trials and len(perturbed) == len(trials):
                warnings.append(f"{name} has no control trial, so its baseline is only an estimate")
            if trials or master.stage(index).type != "Conv":
                blocks = len({trial.super_block.block for trial in trials})
                warnings += _few_trials_warning(name, blocks, len(perturbed))
        spearman = self.leave_one_out().spearman
        if spearman is not None and spearman < MIN_SPEARMAN:
            warnings.append(
                f"trials hardly predict one another: leave-one-out Spearman {spearman:.2f}"
            )
        return warnings


def _few_trials_warning(name: str, blocks: int, trials: int) -> list[str]:
    """Three trials of each block would determine its g0, g1 and g2; less than half is too few."""
    if trials and trials >= 1.5 * blocks:
        return []
    count = "no trial"
    if trials:
        count = f"{trials} trial{'s' * (trials != 1)} for {blocks} block{'s' * (blocks != 1)}"
    return [f"{name} has {count}: its predictions rest mostly on the other super-blocks"]


def _prior(
    feature_map: FeatureMap, observations: Observations, master_value: float, error: float
) -> tuple[LinearModel, int]:
    """The model before its scales are fitted, and the degrees of freedom of all repeats."""
    trials = observations.trials
    target = observations.values - master_value
    candidate_target = observations.candidate_values - master_value
    indices = feature_map.master.indices
    stages = np.array([indices.index(trial.index) for trial in trials])
    spread = _spread(target, stages, error)
    repeats = RepeatNoise.estimate(observations, feature_map.master)
    stage_noise = repeats.variances(0.1 * spread**2) + (1e-4 * spread) ** 2
    stds = np.array([EFFECT_STD[name] for name in SCALE_GROUPS] + [0.0]) * spread
    variance = feature_map.base_variance * stds[feature_map.groups] ** 2
    mean = np.zeros(len(feature_map))
    for column, number in feature_map.columns.items():
        if column.effect == RESET_COST:  # wide: trials of any super-block may lose a lot
            variance[number] = 4 * np.abs(target).max() ** 2 + spread**2
        elif column == CANDIDATE_OFFSET:  # as wide: another recipe, and a teacher
            variance[number] = 4 * np.abs(candidate_target).max() ** 2 + spread**2
        elif column == TREND:
            mean[number], variance[number] = TREND_MEAN * error, (TREND_STD * error) ** 2
    features = np.array([feature_map.trial_row(t.index, t.super_block) for t in trials])
    noise = stage_noise[stages]
    if candidates := observations.candidates:
        candidate_noise = _candidate_noise(
            feature_map.master, candidates, stage_noise, float(noise.mean())
        )
        features = np.vstack((features, [feature_map.candidate_row(s) for s in candidates]))
        target = np.concatenate((target, candidate_target))
        noise = np.concatenate((noise, candidate_noise))
    return LinearModel(features, target, mean, variance, noise), sum(repeats.freedom)


def _candidate_noise(
    master: Structure, candidates: Sequence[Structure], stage_noise: Floats, mean_noise: float
) -> Floats:
    """(candidates,): the sum of the noise variances of all stages that a candidate changes.

    The linear form is wrong in all of these stages at once. A candidate has at least the noise of
    a mean trial, even if it changes nothing.
    """
    sums = [
        stage_noise[[a != b for a, b in zip(s.stages, master.stages, strict=True)]].sum()
        for s in candidates
    ]
    return np.asarray(np.maximum(sums, mean_noise))


def _spread(target: Floats, stages: Floats, error: float) -> float:
    """Standard deviation within stages; a tenth of the error counts as two more trials."""
    squares, freedom = 2 * (0.1 * error) ** 2, 2
    for stage in np.unique(stages):
        values = target[stages == stage]
        squares += float(((values - values.mean()) ** 2).sum())
        freedom += len(values) - 1
    return float(np.sqrt(squares / freedom))
