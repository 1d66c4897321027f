"""Scores: their numbers by metric, and their form in JSON files of every version."""

from __future__ import annotations

import json

import pytest

from genets.core.errors import GenetsError
from genets.training import Metric, Score


def test_a_score_by_metric() -> None:
    score = Score(0.75, 1.5, 40)
    assert (score["top1"], score[Metric.CROSS_ENTROPY]) == (0.75, 1.5)
    whole = Score(0.75, 1.5, 40, 0.7, 36.0)
    assert whole[Metric.BALANCED_ACCURACY] == 0.7
    assert whole.by_metric() == {"top1": 0.75, "cross_entropy": 1.5, "balanced_accuracy": 0.7}
    assert [whole.images_of(metric) for metric in Metric] == [40, 40, 36.0]
    with pytest.raises(GenetsError, match="unknown metric 'top-1'; did you mean top1"):
        score["top-1"]


@pytest.mark.parametrize(
    "score", [Score(0.75, 1.5, 40), Score(0.75, 1.5), Score(0.75, 1.5, 40, 0.7, 36.5)]
)
def test_a_score_is_read_back_from_json(score: Score) -> None:
    assert Score.from_json(json.loads(json.dumps(score.to_json()))) == score
    assert ("images" in score.to_json()) == (score.images is not None)


@pytest.mark.parametrize(
    "change",
    [
        {"top1": 1.5},
        {"top1": "NaN"},
        {"cross_entropy": -1},
        {"cross_entropy": "inf"},
        {"images": -1},
        {"balanced_accuracy": 1.01},
        {"balanced_accuracy": "NaN"},
        {"balanced_images": -1},
        {"balanced_images": "inf"},
    ],
)
def test_a_score_that_is_not_possible_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="is not possible"):
        Score.from_json({"top1": 0.5, "cross_entropy": 1.5} | change)


@pytest.mark.parametrize("metric", Metric)
def test_a_better_score_has_a_higher_value(metric: Metric) -> None:
    better, worse = Score(0.9, 0.1, 9, 0.7), Score(0.8, 0.2, 9, 0.6)
    assert metric.oriented(better[metric]) > metric.oriented(worse[metric])
    assert metric.oriented(metric.oriented(0.3)) == 0.3


def test_a_score_of_an_older_version_has_no_balanced_accuracy() -> None:
    score = Score.from_json({"top1": 0.5, "cross_entropy": 1.5, "images": 10})
    assert (score.balanced_accuracy, score.is_unbalanced) == (None, False)
    with pytest.raises(
        GenetsError, match="a stored score has no balanced accuracy, which older versions of gen"
    ):
        score["balanced_accuracy"]


def test_numbers_of_images_come_from_another_score_of_the_same_split() -> None:
    whole, part = Score(0.5, 1.5, 40, 0.4, 30.0), Score(0.6, 1.0, balanced_accuracy=0.5)
    assert part.with_images_of(whole) == Score(0.6, 1.0, 40, 0.5, 30.0)
    assert part.with_images_of(None) == part
    assert whole.with_images_of(Score(0.1, 2.0, 7)) == whole
