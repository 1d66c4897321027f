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
from genets.structure import Structure
from genets.training.score import Metric, score_value


@dataclass(frozen=True, eq=False)
class Observations:
    """Trials in the order of their keys, with their values (higher is better).

    values: (trials,), top-1 from 0 to 1, or minus the cross-entropy in nats.
    excluded: results that failed or are not finite.
    whole, whole_values: structures that were trained from scratch, in the order of their
        notations, and their values.
    """

    trials: tuple[Trial, ...]
    values: Floats
    excluded: tuple[TrialResult, ...]
    whole: tuple[Structure, ...]
    whole_values: Floats

    @classmethod
    def collect(
        cls,
        master: Structure,
        results: Sequence[TrialResult],
        metric: Metric,
        confirmed: Sequence[TrainedCandidate] = (),
    ) -> Observations:
        """confirmed: of them those at the MasterNet's resolution, of which its trials tell.

        Raises GenetsError where no trial has a value, or one is of another MasterNet.
        """
        indices = master.indices
        for result in results:
            if result.trial.index not in indices:
                raise GenetsError(
                    f"index of a trial must be from {indices[0]} (the stem) to {indices[-1]} (the "
                    f"head), as the MasterNet has {len(master.super_blocks)} super-blocks, "
                    f"not {result.trial.index}"
                )
        # Sorted, so that the fit does not depend on the order in which trials ended.
        usable = sorted(
            ((r.trial, metric_value(r, metric)) for r in results if _usable(r, metric)),
        )
        if not usable:
            reason = next((f" (the first failed: {r.reason})" for r in results if r.reason), "")
            raise GenetsError(
                f"there is no finished trial with a finite {metric.label} "
                f"among {len(results)} results{reason}; the accuracy model needs at least one"
            )
        excluded = tuple(result for result in results if not _usable(result, metric))
        whole = {
            one.structure: metric_value(one, metric)
            for one in sorted(confirmed, key=lambda one: str(one.structure))
            if _usable(one, metric) and one.structure.resolution == master.resolution
        }
        return cls(
            tuple(trial for trial, _ in usable),
            np.array([value for _, value in usable]),
            excluded,
            tuple(whole),
            np.array(list(whole.values())),
        )


def metric_value(result: TrialResult | TrainedCandidate, metric: Metric) -> float:
    score = score_value(result, metric)
    return math.nan if score is None else metric.oriented(score)


def _usable(result: TrialResult | TrainedCandidate, metric: Metric) -> bool:
    return result.status == "done" and math.isfinite(metric_value(result, metric))


@dataclass(frozen=True)
class RepeatNoise:
    """Sums of squares and degrees of freedom of repeats around their mean, stage by stage."""

    squares: tuple[float, ...]
    freedom: tuple[int, ...]

    @classmethod
    def of(cls, observations: Observations, master: Structure) -> RepeatNoise:
        repeats = defaultdict(list)
        for trial, value in zip(observations.trials, observations.values, strict=True):
            repeats[trial.index, trial.super_block].append(value)
        squares, freedom = [0.0] * len(master.stages), [0] * len(master.stages)
        for (index, _), values in repeats.items():
            place = master.indices.index(index)
            squares[place] += float(((np.array(values) - np.mean(values)) ** 2).sum())
            freedom[place] += len(values) - 1
        return cls(tuple(squares), tuple(freedom))

    def variances(self, prior_variance: float) -> Floats:
        """(stages,): each stage's own, shrunk towards the pooled one where few.

        The pooled variance counts as 4 repeats of each stage, `prior_variance` as one
        in the pool.
        """
        pooled = (sum(self.squares) + prior_variance) / (sum(self.freedom) + 1)
        own, count = np.array(self.squares), np.array(self.freedom)
        variances: Floats = (own + 4 * pooled) / (count + 4)
        return variances
