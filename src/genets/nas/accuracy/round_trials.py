"""The trials of the rounds of a search, and the accuracy model that is fitted to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from genets.nas.accuracy.model import AccuracyModel
from genets.nas.settings.settings import SearchSettings
from genets.nas.study.records import TrainedCandidate, TrialResult
from genets.structure import Structure
from genets.training.score import Score


@dataclass(frozen=True, eq=False)
class RoundTrials:
    """The trials of a round.

    Attributes:
        master: the structure around which the trials are taken.
        score: its score on the validation split; None before its training ends. The MasterNet of
            a later round was trained as a candidate, and has the score of that training.
        results: the results of the trials that have ended.
    """

    master: Structure
    score: Score | None
    results: tuple[TrialResult, ...]


def fit_rounds(
    settings: SearchSettings,
    rounds: Sequence[RoundTrials],
    candidates: Sequence[TrainedCandidate],
) -> AccuracyModel:
    """Fit the accuracy model of the last of some rounds.

    Args:
        settings: the settings of the search.
        rounds: the rounds, in order; the MasterNet of the last one has a score.
        candidates: structures that were trained as candidates.

    Raises:
        GenetsError: no trial of the last round has a finite score.
    """
    *earlier, last = rounds
    first, metric = rounds[0].score, settings.metric
    assert last.score is not None
    return AccuracyModel.fit(
        last.master,
        last.results,
        last.score[metric],
        metric=metric,
        form=settings.regression,
        candidates=candidates,
        earlier=[(each.master, each.results) for each in earlier],
        images=None if first is None else first.images_of(metric),
        inherited=not settings.from_scratch,
    )
