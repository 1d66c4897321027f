"""The default regression: a Bayesian linear model with nested effects, in the log of the error.

The error e of a network is 1 - top-1, or the cross-entropy. For super-block i and block T (type,
kernel, ratio), with e the error of a trial:

    log(e_control(i) / e) = g0 + g1 log(d / d_i) + g2 log(c / c_i)

g0, g1 and g2 are sums of effects that are shared at several levels (see `features`). Each effect is
normal around zero, so a super-block with few trials stays close to what all super-blocks share.
e_control(i) is an effect too, the reset cost: all trials of the super-block inform it, and its
control trials inform it most. The prior mean of the slope on multiply-adds is above zero. The
scales of effects and noise are those that make all observations most probable. This replaces the
fit of section 4.2, which has no intercept, no control and no logarithm. In the log of the error,
changes of several super-blocks add up better (docs/public_tables.md).

A change of two super-blocks can be better or worse than the sum of both changes. This misfit is a
Gaussian process whose covariance is a sum of products over all pairs of super-blocks, as in an
analysis of variance (Durrande et al. 2013). It is zero for a structure that changes one
super-block. Trials of an earlier round and trained candidates inform it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import block_diag
from scipy.stats import spearmanr
from threadpoolctl import threadpool_limits

from genets.core.errors import counted
from genets.nas.accuracy.features import (
    ALL,
    CANDIDATE_OFFSET,
    RESET_COST,
    SCALE_GROUPS,
    TREND,
    FeatureMap,
    earlier_round,
)
from genets.nas.accuracy.gaussian import (
    Floats,
    LinearModel,
    Posterior,
    compute_posterior,
    fit_scales,
    scale_variances,
)
from genets.nas.accuracy.observations import (
    LogErrors,
    Observations,
    PredictedFall,
    RepeatNoise,
)
from genets.structure import Block, Structure, SuperBlock

# Prior standard deviations of the effects, by scale group, as multiples of the spread of the
# trials' values; and how far (one standard deviation of the log) the observations may scale them.
EFFECT_STD = {"block": 0.5, "local block": 0.5, "slope": 0.5, "local slope": 0.25}
LOG_STD = 1.0

MIN_SPREAD = 0.1  # of the log of the error; counts as two more trials

# Prior of the trend: by how much e times the multiply-adds lower the log of the error. Paper,
# Table 7: RegNetY-400MF to 800MF 0.13, MobileNetV2-0.5 to 1.0 0.2, EfficientNet-B0 to B1 0.18,
# ResNet-50 to 152 0.08.
TREND_MEAN = 0.15
TREND_STD = 0.15

# Prior standard deviation of the misfit of two super-blocks, as a multiple of the spread of the
# trials' values, for two changes whose effects have a prior deviation of one spread.
MISFIT = 0.4

MIN_SPEARMAN = 0.2  # of leave-one-out; below it the trials hardly predict one another


StageGain = Callable[[int, Sequence[int], Sequence[SuperBlock]], Floats]


@dataclass(frozen=True, eq=False)
class DrawnStageGains:
    """`BayesEffects.stage_gain` for effects that are drawn from their distribution.

    Attributes:
        feature_map: the columns of the effects.
        effects: (draws, columns).
    """

    feature_map: FeatureMap
    effects: Floats

    def __call__(
        self, index: int, input_widths: Sequence[int], super_blocks: Sequence[SuperBlock]
    ) -> Floats:
        """(draws, input widths, super-blocks): falls of the log of the error, misfit left out."""
        slope = self.effects[:, self.feature_map.columns[TREND]]
        local: Floats = self.effects @ self.feature_map.stage_rows(index, super_blocks).T
        trend = self.feature_map.trend(index, input_widths, super_blocks)
        gains: Floats = local[:, None] + slope[:, None, None] * trend
        return gains


@dataclass(frozen=True, slots=True)
class LeaveOneOut:
    """How well the value of each trial is predicted from all other observations (closed form).

    The reset costs, and the scales of priors and noise, are those fitted to all trials.

    Attributes:
        rmse: in the metric's unit.
        spearman: rank correlation of predicted and observed logs of the error over all trials
            except controls, with the reset cost of the super-block subtracted; None for fewer than
            3 distinct values.
        residual: (trials,), observed minus predicted value.
        std: (trials,), the standard deviation of `residual`, to first order.
        low, high: (trials,), the predicted value at one standard deviation of the log of the error
            to either side; within the possible range. They include the noise of the trial.
    """

    rmse: float
    spearman: float | None
    residual: Floats
    std: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True, eq=False)
class BayesEffects:
    """The fitted effects.

    Attributes:
        feature_map: the columns of the design matrix.
        log_errors: converts values of the metric to logs of the error.
        model: design matrix, target and priors, with the fitted scales. The trials come first,
            then those of earlier rounds, then the candidates.
        rows: (observations, stages, columns), the effects of each stage of each observation.
        misfit: the fitted standard deviation of the misfit, see `_unit_misfit`.
        posterior: the distribution of the effects.
    """

    feature_map: FeatureMap
    observations: Observations
    log_errors: LogErrors
    model: LinearModel
    rows: Floats
    misfit: float
    posterior: Posterior

    @classmethod
    def fit(
        cls, master: Structure, observations: Observations, log_errors: LogErrors
    ) -> BayesEffects:
        """Fit the scales, then the effects.

        Args:
            master: the MasterNet.
            observations: what the effects are fitted to.
            log_errors: converts values of the metric to logs of the error.
        """
        feature_map = FeatureMap(
            master,
            observations.blocks(),
            candidates=bool(observations.candidates),
            earlier_rounds=len(observations.earlier),
        )
        start, rows, spread, freedom = _prior(feature_map, observations, log_errors)
        # Repeats measure the noise: the more repeats there are, the less the fit may scale it.
        noise_log_std = max(0.25, 1 / np.sqrt(1 + freedom))
        log_scale_std = np.array([LOG_STD] * (len(SCALE_GROUPS) + 1) + [noise_log_std])
        # One thread: the same numbers on any machine, and faster at these sizes.
        with threadpool_limits(limits=1, user_api="blas"):
            log_scales = fit_scales(start, feature_map.groups, log_scale_std)
            model = scale_variances(start, feature_map.groups, log_scales)
            posterior = compute_posterior(model)
        misfit = MISFIT * spread * math.exp(log_scales[-2])
        return cls(feature_map, observations, log_errors, model, rows, misfit, posterior)

    def stage_gain(
        self, index: int, input_widths: Sequence[int], super_blocks: Sequence[SuperBlock]
    ) -> Floats:
        """(input widths, super-blocks): predicted fall of the log of the error, misfit left out."""
        mean = DrawnStageGains(self.feature_map, self.posterior.mean[None])
        return np.asarray(mean(index, input_widths, super_blocks)[0])

    def draw_stage_gains(self, count: int, rng: np.random.Generator) -> DrawnStageGains:
        """Draw `count` times all effects from their distribution.

        Draws from the prior are corrected by the observations (Matheron's rule, Wilson et al.
        2020), which needs no factor of the covariance.
        """
        model, size = self.model, len(self.model.target)
        effects = rng.normal(
            model.prior_mean, np.sqrt(model.prior_variance), (count, len(model.prior_mean))
        )
        jitter = 1e-9 * model.prior_variance.max() * np.eye(size)
        misfit = np.linalg.cholesky(model.misfit + jitter)
        noise = rng.normal(0.0, np.sqrt(model.noise_variance), (count, size))
        noise += rng.normal(size=(count, size)) @ misfit.T
        missing = model.target - effects @ model.features.T - noise
        effects += (missing @ self.posterior.precision @ model.features) * model.prior_variance
        return DrawnStageGains(self.feature_map, effects)

    def predict(self, structure: Structure) -> tuple[float, float]:
        """Median and standard deviation of the gain of a structure, in the metric's unit."""
        return self.predict_fall(structure).gain

    def predict_fall(self, structure: Structure) -> PredictedFall:
        """The distribution of the log of the error of a structure."""
        mean, covariance = self.joint([structure])
        std = math.sqrt(max(0.0, float(covariance[0, 0])))
        return PredictedFall(float(mean[0]), std, self.log_errors)

    def additive_gains(self, structures: Sequence[Structure]) -> Floats:
        """(structures,): the sums of `stage_gain` over all stages."""
        rows = np.array([self.feature_map.structure_row(s) for s in structures])
        return np.asarray(rows @ self.posterior.mean)

    def joint(self, structures: Sequence[Structure]) -> tuple[Floats, Floats]:
        """The distribution of the fall of the log of the error over the MasterNet's.

        Returns:
            The means, (structures,), and the covariance, (structures, structures).
        """
        model = self.model
        rows = np.array([self.feature_map.rows_by_stage(s) for s in structures])
        sums = rows.sum(axis=1)
        weighted = sums * model.prior_variance
        cross = weighted @ model.features.T + self._misfit(rows, self.rows)
        mean: Floats = sums @ model.prior_mean + cross @ self.posterior.weights
        prior = weighted @ sums.T + self._misfit(rows, rows)
        covariance = prior - cross @ self.posterior.precision @ cross.T
        return mean, (covariance + covariance.T) / 2

    def _misfit(self, rows: Floats, others: Floats) -> Floats:
        return self.misfit**2 * _unit_misfit(self.feature_map, rows, others)

    def row_std(self, row: Floats) -> float:
        """Standard deviation of the sum of all effects, each times its number in `row`."""
        return math.sqrt(max(0.0, float(row @ self.posterior.covariance @ row)))

    def leave_one_out(self) -> LeaveOneOut | None:
        """None where the model is fitted to candidates alone."""
        if not self.observations.trials:
            return None
        count, master = len(self.observations.trials), self.feature_map.master
        residual = self.posterior.left_out_residual[:count]  # trials only, no candidates
        trials = self.observations.trials
        perturbed = np.array([not t.is_control(master) for t in trials], bool)
        columns = [
            n
            for c, n in self.feature_map.columns.items()
            if c.effect == RESET_COST and c.block == ALL
        ]
        reset_cost = self.model.features[:count, columns] @ self.posterior.mean[columns]
        observed = (self.model.target[:count] - reset_cost)[perturbed]
        predicted = observed - residual[perturbed]
        spearman = None
        if min(len(np.unique(observed)), len(np.unique(predicted))) >= 3:
            spearman = float(spearmanr(observed, predicted).statistic)
        std = np.sqrt(self.posterior.left_out_variance[:count])
        falls = self.model.target[:count] - residual  # as predicted
        ends = [falls, falls - std, falls + std]
        value, low, high = (
            self.log_errors.master_value + self.log_errors.gains(end) for end in ends
        )
        residual = self.observations.values - value
        std *= self.log_errors.master_error * np.exp(-falls)
        rmse = float(np.sqrt(np.mean(residual**2)))
        return LeaveOneOut(rmse, spearman, residual, std, low, high)

    def gradients(self) -> list[dict[str, object]]:
        """Pseudo-gradients g0, g1, g2 of each super-block and tried block, with deviations.

        They are in the metric's unit, to first order at the MasterNet. g1 and g2 are mean slopes
        from the MasterNet's depth and width to twice that, trend included. Super-blocks are counted
        from 0. Stem and head are listed where they were tried.
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
                    mean, error = float(row @ self.posterior.mean), self.log_errors.master_error
                    gradient[name] = {"mean": error * mean, "std": error * self.row_std(row)}
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
        left_out = self.leave_one_out()
        spearman = left_out.spearman if left_out else None
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
        count = f"{counted(trials, 'trial')} for {counted(blocks, 'block')}"
    return [f"{name} has {count}: its predictions rest mostly on the other super-blocks"]


def _prior(
    feature_map: FeatureMap, observations: Observations, log_errors: LogErrors
) -> tuple[LinearModel, Floats, float, int]:
    """The model before its scales are fitted, and more for `BayesEffects`.

    Returns:
        The model; the effects by stage of all observations; their spread; the degrees of freedom
        of all repeats.
    """
    master, trials = feature_map.master, observations.trials
    targets = [
        log_errors.target(values)
        for values in (
            observations.values,
            *(each.values for each in observations.earlier),
            observations.candidate_values,
        )
    ]
    indices = master.indices
    stages = np.array([indices.index(trial.index) for trial in trials], int)
    spread = _spread(targets[0], stages)
    if not trials:  # the candidates are a sample of the space
        spread = _spread(targets[-1], np.zeros(len(targets[-1]), int))
    rounds = [trials, *(each.trials for each in observations.earlier)]
    repeats = RepeatNoise.estimate(rounds, targets, master)
    stage_noise = repeats.variances(0.1 * spread**2) + (1e-4 * spread) ** 2
    stds = np.array([EFFECT_STD[name] for name in SCALE_GROUPS] + [0.0]) * spread
    variance = feature_map.base_variance * stds[feature_map.groups] ** 2
    mean = np.zeros(len(feature_map))
    widest = 4 * np.abs(np.concatenate(targets)).max() ** 2 + spread**2
    for column, number in feature_map.columns.items():
        # Wide: trials of any super-block may lose a lot, and candidates have another recipe.
        if column.effect in (RESET_COST, CANDIDATE_OFFSET.effect):
            variance[number] = widest
        elif column == TREND:
            mean[number], variance[number] = TREND_MEAN, TREND_STD**2
    rows, features, noise = [], [], []
    for trial, stage in zip(trials, stages, strict=True):
        rows.append(feature_map.rows_by_stage(trial.structure(master)))
        features.append(rows[-1].sum(axis=0) + feature_map.reset_row(trial.index))
        noise.append(stage_noise[stage])
    for round_number, each in enumerate(observations.earlier):
        for trial in each.trials:
            rows.append(feature_map.rows_by_stage(trial.structure(each.master)))
            scope = earlier_round(round_number)
            features.append(rows[-1].sum(axis=0) + feature_map.reset_row(trial.index, scope))
            noise.append(stage_noise[indices.index(trial.index)])
    for structure in observations.candidates:
        rows.append(feature_map.rows_by_stage(structure))
        features.append(rows[-1].sum(axis=0))
        features[-1][feature_map.columns[CANDIDATE_OFFSET]] = 1.0
        noise.append(float(stage_noise.mean()))
    by_stage = np.array(rows)
    # Trials of the MasterNet change one super-block, and have no misfit.
    others = by_stage[len(trials) :]
    inner = (MISFIT * spread) ** 2 * _unit_misfit(feature_map, others, others)
    model = LinearModel(
        np.array(features),
        np.concatenate(targets),
        mean,
        variance,
        np.array(noise),
        np.asarray(block_diag(np.zeros((len(trials), len(trials))), inner)),
    )
    return model, by_stage, spread, sum(repeats.freedom)


def _unit_misfit(feature_map: FeatureMap, rows: Floats, others: Floats) -> Floats:
    """(rows, others): the prior covariance of the misfit of structures, of unit scale.

    It is the sum of k_i k_j over all pairs of stages i < j, where k_i is the prior covariance of
    the effects that the two structures change at stage i, for trials of unit spread.

    Args:
        feature_map: the columns of `rows`.
        rows: (rows, stages, columns), the effects by stage of some structures.
        others: (others, stages, columns), the effects by stage of other structures.
    """
    stds = np.array([EFFECT_STD[name] for name in SCALE_GROUPS] + [0.0])
    stds = stds[feature_map.groups] * np.sqrt(feature_map.base_variance)
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
