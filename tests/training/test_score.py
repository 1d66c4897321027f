"""Scores: their numbers by metric, and their form in JSON files of every version."""

from __future__ import annotations

import json

import pytest

from genets.core.errors import GenetsError
from genets.training import Metric, Score


def test_a_score_by_metric() -> None:
    score = Score(0.75, 1.5, 40)
    assert (score["top1"], score[Metric.CROSS_ENTROPY]) == (0.75, 1.5)
    assert score.by_metric() == {"top1": 0.75, "cross_entropy": 1.5}
    with pytest.raises(GenetsError, match="unknown metric 'top-1'; did you mean top1"):
        score["top-1"]


@pytest.mark.parametrize("score", [Score(0.75, 1.5, 40), Score(0.75, 1.5)])
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
    ],
)
def test_a_score_that_is_not_possible_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="is not possible"):
        Score.from_json({"top1": 0.5, "cross_entropy": 1.5} | change)


@pytest.mark.parametrize("metric", Metric)
def test_a_better_score_has_a_higher_value(metric: Metric) -> None:
    better, worse = Score(0.9, 0.1), Score(0.8, 0.2)
    assert metric.oriented(better[metric]) > metric.oriented(worse[metric])
    assert metric.oriented(metric.oriented(0.3)) == 0.3
