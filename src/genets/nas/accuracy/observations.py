"""Trial results as the numbers that the accuracy model is fitted to."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from genets.core.errors import GenetsError
from genets.nas.accuracy.gaussian import Floats
from genets.nas.study.records import TrainedCandidate, Trial, TrialResult
from genets.structure import Block, Structure
from genets.training.score import NOT_RECORDED, Metric, metric_score

MIN_ERROR = 1e-3  # the smallest cross-entropy; the smallest error where no images are counted


@dataclass(frozen=True)
class LogErrors:
    """Converts values of a metric to the log of the error, relative to the MasterNet.

    The error is 1 - top-1 plus half an image, because the log of no error is not defined: for n
    images of which w are wrong, (w + 0.5) / n. (The usual divisor n + 1 changes no ratio.) Where
    the number of images is not known, the error is at least MIN_ERROR instead. So is the
    cross-entropy, in nats, which is an error itself.

    The error is 1 - balanced accuracy plus half an image, too. Balanced accuracy is a mean of
    shares of classes, so one image of a small class counts more than one of a large class. Half
    an image is 0.5 / n with the n of `balanced_images`: n images in classes of equal size give a
    share with the same binomial noise. With classes of equal size, n is the number of images.

    Attributes:
        metric: the metric.
        master_value: the MasterNet's metric, oriented so that higher is better.
        images: the number of images that values are scored on, see `Score.images_of`; None where
            it is not known.
    """

    metric: Metric
    master_value: float
    images: float | None = None

    @property
    def _bounds(self) -> tuple[float, float]:
        """The lowest and the highest possible value."""
        return (0.0, 1.0) if self.metric.is_share else (-math.inf, 0.0)

    @property
    def master_error(self) -> float:
        return float(self._error(np.asarray(self.master_value)))

    def _error(self, values: Floats) -> Floats:
        error = self._bounds[1] - values
        if self.metric.is_share and self.images:
            return np.asarray(error + 0.5 / self.images)
        return np.maximum(error, MIN_ERROR)

    def target(self, values: Floats) -> Floats:
        """(values,): the log of the MasterNet's error over the error of each value."""
        return np.asarray(np.log(self.master_error / self._error(np.asarray(values))))

    def gains(self, falls: Floats) -> Floats:
        """Falls of the log of the error as gains, in the metric's unit.

        No gain leads to a value outside the possible range.
        """
        low, high = self._bounds
        # exp overflows above 709. Every such error is the largest possible one.
        errors = self.master_error * np.exp(np.minimum(-falls, 700.0))
        return np.clip(
            self.master_error - errors, low - self.master_value, high - self.master_value
        )

    def gain(self, mean: float, std: float) -> tuple[float, float]:
        """The gain of a fall of the log of the error, and its deviation to first order."""
        gain = float(self.gains(np.asarray(mean)))
        return gain, self.master_error * math.exp(min(-mean, 700.0)) * std


@dataclass(frozen=True, slots=True)
class PredictedFall:
    """The fall of the log of the error below that of the MasterNet, which is normal.

    Attributes:
        mean: its mean.
        std: its standard deviation.
        log_errors: converts it to the metric's unit.
    """

    mean: float
    std: float
    log_errors: LogErrors

    @property
    def gain(self) -> tuple[float, float]:
        """The median of the gain, and its deviation to first order, in the metric's unit."""
        return self.log_errors.gain(self.mean, self.std)

    def interval(self, deviations: float) -> tuple[float, float]:
        """The gains at so many standard deviations below and above the mean.

        The gain rises with the fall, so its quantiles are the gains at the quantiles of the fall.
        """
        half = deviations * self.std
        low, high = self.log_errors.gains(np.array([self.mean - half, self.mean + half]))
        return float(low), float(high)


@dataclass(frozen=True, eq=False)
class EarlierTrials:
    """The trials of an earlier round, around another MasterNet.

    Attributes:
        master: the MasterNet of that round.
        trials: the trials with a finite score.
        values: (trials,), as in `Observations`.
        excluded: the results that failed or have no finite score.
    """

    master: Structure
    trials: tuple[Trial, ...]
    values: Floats
    excluded: tuple[TrialResult, ...]


@dataclass(frozen=True, eq=False)
class Observations:
    """The trials and trained candidates of a search, with their values.

    Attributes:
        trials: the trials with a finite score, in the order of their keys.
        values: (trials,), top-1 or balanced accuracy from 0 to 1, or minus the cross-entropy in
            nats.
        excluded: the results that failed or have no finite score.
        candidates: structures that were trained as candidates, in the order of their notations. A
            structure that was trained for several numbers of epochs is there once for each.
        candidate_epochs: (candidates,), the epochs of each training.
        candidate_values: (candidates,), in the same unit as `values`.
        earlier: the trials of earlier rounds.
    """

    trials: tuple[Trial, ...]
    values: Floats
    excluded: tuple[TrialResult, ...]
    candidates: tuple[Structure, ...]
    candidate_epochs: tuple[int, ...]
    candidate_values: Floats
    earlier: tuple[EarlierTrials, ...] = ()

    @classmethod
    def collect(
        cls,
        master: Structure,
        results: Sequence[TrialResult],
        metric: Metric,
        candidates: Sequence[TrainedCandidate] = (),
        earlier: Sequence[tuple[Structure, Sequence[TrialResult]]] = (),
    ) -> Observations:
        """Sort results into those that have a value and those that are excluded.

        Args:
            master: the MasterNet of all trials.
            results: the results of trials, in any order.
            metric: the metric that becomes the value.
            candidates: trained candidates. Only candidates at the MasterNet's resolution are used,
                because trials say nothing about other resolutions.
            earlier: the MasterNet and the results of each earlier round.

        Raises:
            GenetsError: no result has a finite score, a trial is of another MasterNet, or an older
                genets recorded a result without the metric.
        """
        _check_indices(master, results)
        _check_recorded([*results, *candidates], metric)
        trials, values = _collect_trials(results, metric)
        value_by_candidate = {
            (candidate.structure, candidate.epochs): metric_value(candidate, metric)
            for candidate in sorted(candidates, key=lambda each: (str(each.structure), each.epochs))
            if _usable(candidate, metric) and candidate.structure.resolution == master.resolution
        }
        if not trials and not value_by_candidate:
            reason = next((f" (the first failed: {r.reason})" for r in results if r.reason), "")
            raise GenetsError(
                f"there is no finished trial with a finite {metric.label} "
                f"among {len(results)} results{reason}; the accuracy model needs at least one"
            )
        return cls(
            trials,
            values,
            _excluded(results, metric),
            tuple(structure for structure, _ in value_by_candidate),
            tuple(epochs for _, epochs in value_by_candidate),
            np.array(list(value_by_candidate.values())),
            tuple(
                EarlierTrials(own_master, *_collect_trials(own, metric), _excluded(own, metric))
                for own_master, own in earlier
            ),
        )

    def blocks(self) -> set[Block]:
        """The blocks that were tried; of stem and head, too."""
        tried = {trial.super_block.block for trial in self.trials}
        tried |= {trial.super_block.block for each in self.earlier for trial in each.trials}
        return tried | {s.block for structure in self.candidates for s in structure.super_blocks}


def _check_indices(master: Structure, results: Sequence[TrialResult]) -> None:
    indices = master.indices
    for result in results:
        if result.trial.index not in indices:
            raise GenetsError(
                f"index of a trial must be from {indices[0]} (the stem) to {indices[-1]} (the "
                f"head), as the MasterNet has {len(master.super_blocks)} super-blocks, "
                f"not {result.trial.index}"
            )


def _check_recorded(results: Sequence[TrialResult | TrainedCandidate], metric: Metric) -> None:
    if metric is not Metric.BALANCED_ACCURACY:  # the only one that older versions lacked
        return
    lacking = sum(r.status == "done" and metric_score(r, metric) is None for r in results)
    if lacking:
        raise GenetsError(
            f"{lacking} of {len(results)} trials and candidates have no {metric.label}, "
            f"{NOT_RECORDED}; begin another study for this metric"
        )


def _collect_trials(
    results: Sequence[TrialResult], metric: Metric
) -> tuple[tuple[Trial, ...], Floats]:
    """The trials with a finite score, and their values."""
    # Sorted, so that the fit does not depend on the order in which trials ended.
    usable = sorted((r.trial, metric_value(r, metric)) for r in results if _usable(r, metric))
    return tuple(trial for trial, _ in usable), np.array([value for _, value in usable])


def _excluded(results: Sequence[TrialResult], metric: Metric) -> tuple[TrialResult, ...]:
    return tuple(result for result in results if not _usable(result, metric))


def metric_value(result: TrialResult | TrainedCandidate, metric: Metric) -> float:
    """The metric of a result, oriented so that higher is better; NaN where there is no score."""
    score = metric_score(result, metric)
    return math.nan if score is None else metric.oriented(score)


def _usable(result: TrialResult | TrainedCandidate, metric: Metric) -> bool:
    return result.status == "done" and math.isfinite(metric_value(result, metric))


@dataclass(frozen=True)
class RepeatNoise:
    """How far the values of repeated trials scatter around their mean, stage by stage.

    Attributes:
        squares: (stages,), the sum of squared differences from the mean of the repeats.
        freedom: (stages,), the degrees of freedom of that sum.
    """

    squares: tuple[float, ...]
    freedom: tuple[int, ...]

    @classmethod
    def estimate(
        cls, rounds: Sequence[Sequence[Trial]], values: Sequence[Floats], master: Structure
    ) -> RepeatNoise:
        """Collect the repeats of each trial of each stage, within each round.

        Args:
            rounds: the trials of each round.
            values: (trials,) for each round; further arrays are ignored.
            master: a MasterNet of these rounds.
        """
        repeats = defaultdict(list)
        for number, trials in enumerate(rounds):
            for trial, value in zip(trials, values[number], strict=True):
                repeats[trial.index, trial.super_block, number].append(value)
        squares, freedom = [0.0] * len(master.stages), [0] * len(master.stages)
        for (index, *_), repeated in repeats.items():
            stage = master.indices.index(index)
            squares[stage] += float(((np.array(repeated) - np.mean(repeated)) ** 2).sum())
            freedom[stage] += len(repeated) - 1
        return cls(tuple(squares), tuple(freedom))

    def variances(self, prior_variance: float) -> Floats:
        """(stages,): the noise variance of each stage, shrunk towards the pooled variance.

        The pooled variance counts as 4 repeats of each stage; `prior_variance` counts as one
        repeat in the pool.
        """
        pooled = (sum(self.squares) + prior_variance) / (sum(self.freedom) + 1)
        squares, freedom = np.array(self.squares), np.array(self.freedom)
        variances: Floats = (squares + 4 * pooled) / (freedom + 4)
        return variances
