"""Cross-validation: the runners of all folds of the training images as one runner.

With few validation images, trials and candidates are scored on every training image: in each
fold, they are trained on the images outside the fold, with the fold's own MasterNet, and scored on
the images of the fold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Generic, Protocol, Self, TypeVar

from genets.nas.study.records import TrainedCandidate, TrialResult
from genets.nas.workers.job import Runner
from genets.training.score import Score, join_scores

Item = TypeVar("Item")
Result = TypeVar("Result", TrialResult, TrainedCandidate)


class FoldedJob(Protocol):
    """A job that may be cut into folds."""

    def each_fold(self) -> list[Self]:
        """Give the job of each fold; without cross-validation, the job itself."""


AnyJob = TypeVar("AnyJob", bound=FoldedJob)


def run_in_folds(
    job: AnyJob, make: Callable[[AnyJob], Runner[Item, Result]]
) -> Runner[Item, Result]:
    """Make the runner of a job, which runs every item in each fold.

    Args:
        job: The job.
        make: Makes the runner of one fold, or of a job without folds.
    """
    runners = [make(fold) for fold in job.each_fold()]
    return runners[0] if len(runners) == 1 else FoldsRunner(runners)


class FoldsRunner(Generic[Item, Result]):
    """Runs items in each fold, and joins their scores."""

    def __init__(self, runners: Sequence[Runner[Item, Result]]) -> None:
        self._runners: Sequence[Runner[Item, Result]] = runners

    def run(self, group: Sequence[Item]) -> list[Result]:
        """Run each item in one fold after the other, until it fails.

        Raises:
            DataError: An image cannot be read.
        """
        results: dict[Item, list[Result]] = {item: [] for item in group}
        for runner in self._runners:
            left = [item for item in group if all(r.status == "done" for r in results[item])]
            for item, result in zip(left, runner.run(left) if left else [], strict=True):
                results[item].append(result)
        return [_join(results[item]) for item in group]


def _join(results: Sequence[Result]) -> Result:
    """The result of an item from its results in the folds; of these, only the last may be failed.

    The score is that on the images of all folds together.
    """
    last, seconds = results[-1], sum(result.seconds for result in results)
    if last.status == "failed":
        return replace(last, seconds=seconds)
    score = join_scores([_fold_score(result) for result in results])
    joined = replace(
        last,
        top1=score.top1,
        cross_entropy=score.cross_entropy,
        balanced_accuracy=score.balanced_accuracy,
        by_class=score.by_class,
        seconds=seconds,
    )
    if isinstance(joined, TrainedCandidate):
        return replace(joined, quantised=score.quantised)
    return joined


def _fold_score(result: TrialResult | TrainedCandidate) -> Score:
    assert result.top1 is not None
    assert result.cross_entropy is not None
    images = round(sum(count for count, _ in result.by_class))
    quantised = result.quantised if isinstance(result, TrainedCandidate) else None
    return Score(
        result.top1, result.cross_entropy, images, by_class=result.by_class, quantised=quantised
    )
