"""The default regression: a Bayesian linear model with nested effects, in the log of the error.

The error e of a network is 1 - top-1, or the cross-entropy. For super-block i and block T (type,
kernel, ratio), with e the error of a trial:

    log(e_control(i) / e) = g0 + g1 log(d / d_i) + g2 log(c / c_i)

g0, g1 and g2 are sums of effects that are shared at several levels (see `features`). Each effect is
normal around zero, so a super-block with few trials stays close to the mean of all super-blocks.
e_control(i) is an effect too, the reset cost: all trials of the super-block inform it, and its
control trials inform it most. The prior mean of the slope on multiply-adds is above zero. The
scales of effects and noise are those that make all observations most probable. This replaces the
fit of section 4.2, which has no intercept, no control and no logarithm. In the log of the error,
changes of several super-blocks add up better (docs/public_tables.md).

A change of two super-blocks can be better or worse than the sum of both changes. This misfit is a
Gaussian process whose covariance is a sum of products over all pairs of super-blocks, as in an
analysis of variance (Durrande et al. 2013). It is zero for a structure that changes one
super-block, unless another width changes the shortcut of the next super-block, too (see
`features`). Trials of an earlier round and trained candidates inform it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from genets.core.errors import counted
from genets.nas.accuracy.features import (
    ALL,
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
from genets.nas.accuracy.observations import LogErrors, Observations, PredictedFall
from genets.nas.accuracy.prior import MISFIT, Prior, unit_misfit
from genets.structure import Block, Structure, SuperBlock

# How far (one standard deviation of the log) the observations may scale the effects of the prior.
LOG_STD = 1.0

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
        local: Floats = self.effects @ self.feature_map.stage_rows(index, super_blocks).T
        gains = local[:, None]
        for column, values in self.feature_map.of_pairs(index, input_widths, super_blocks).items():
            effect = self.effects[:, self.feature_map.columns[column]]
            gains = gains + effect[:, None, None] * values
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
        misfit: the fitted standard deviation of the misfit, see `unit_misfit`.
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
        cls,
        master: Structure,
        observations: Observations,
        log_errors: LogErrors,
        *,
        inherited: bool = False,
    ) -> BayesEffects:
        """Fit the scales, then the effects.

        Args:
            master: the MasterNet.
            observations: the results to which the effects are fitted.
            log_errors: converts values of the metric to logs of the error.
            inherited: whether trials inherit weights.
        """
        feature_map = FeatureMap(
            master,
            observations.blocks(),
            candidate_epochs=observations.candidate_epochs,
            earlier_rounds=len(observations.earlier),
            inherited=inherited,
        )
        prior = Prior.make(feature_map, observations, log_errors)
        # Repeats measure the noise: the more repeats there are, the less the fit may scale it.
        noise_log_std = max(0.25, 1 / np.sqrt(1 + prior.freedom))
        log_scale_std = np.array([LOG_STD] * (len(SCALE_GROUPS) + 1) + [noise_log_std])
        # One thread: the same numbers on any machine, and faster at these sizes.
        with threadpool_limits(limits=1, user_api="blas"):
            log_scales = fit_scales(prior.model, feature_map.groups, log_scale_std)
            model = scale_variances(prior.model, feature_map.groups, log_scales)
            posterior = compute_posterior(model)
        misfit = MISFIT * prior.spread * math.exp(log_scales[-2])
        return cls(feature_map, observations, log_errors, model, prior.rows, misfit, posterior)

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

    def predict(self, structure: Structure) -> PredictedFall:
        """The distribution of the log of the error of a structure."""
        mean, covariance = self.joint([structure])
        std = math.sqrt(max(0.0, float(covariance[0, 0])))
        return PredictedFall(float(mean[0]), std, self.log_errors)

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
        return self.misfit**2 * unit_misfit(self.feature_map, rows, others)

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
            from scipy.stats import spearmanr  # half a second, which a worker need not wait for

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
                warnings.append(
                    f"{name} has no control trial, so the baseline of {name} is only an estimate"
                )
            if trials or master.stage(index).type != "Conv":
                blocks = len({trial.super_block.block for trial in trials})
                trained = [structure.stage(index) for structure in self.observations.candidates]
                others = sum(super_block != master.stage(index) for super_block in trained)
                if len(perturbed) + others < 1.5 * blocks or not trials:
                    warnings.append(_few_trials_warning(name, blocks, len(perturbed)))
        left_out = self.leave_one_out()
        spearman = left_out.spearman if left_out else None
        if spearman is not None and spearman < MIN_SPEARMAN:
            warnings.append(
                "the accuracy model predicts the order of the trials poorly, so predicted scores "
                f"are unreliable (leave-one-out rank correlation {spearman:.2f}; 1 is perfect)"
            )
        return warnings


def _few_trials_warning(name: str, blocks: int, trials: int) -> str:
    """Three trials of each block would determine its g0, g1 and g2; less than half is too few."""
    count = f"{counted(trials, 'trial')} for {counted(blocks, 'block')}" if trials else "no trial"
    return (
        f"{name} has {count}, so the predictions for {name} depend mostly on trials of the other "
        "super-blocks"
    )
