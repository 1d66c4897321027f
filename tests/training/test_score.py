"""Scores: their numbers by metric, and their form in JSON files of every version."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from genets.core.errors import GenetsError
from genets.data import load_data
from genets.data.split import JoinedSplit
from genets.training import Metric, Score, evaluate
from genets.training.score import join_scores


def test_a_score_by_metric() -> None:
    score = Score(0.75, 1.5, 40)
    assert (score["top1"], score[Metric.CROSS_ENTROPY]) == (0.75, 1.5)
    whole = Score(0.75, 1.5, 40, 0.7, 36.0)
    assert whole[Metric.BALANCED_ACCURACY] == 0.7
    assert whole.by_metric() == {"top1": 0.75, "cross_entropy": 1.5, "balanced_accuracy": 0.7}
    assert [whole.images_of(metric) for metric in Metric] == [40, 40, 36.0]
    with pytest.raises(GenetsError, match="unknown metric 'top-1'; did you mean top1"):
        score["top-1"]


def test_a_score_from_the_sums_of_each_class() -> None:
    score = Score.from_classes([3.0, 1.0, 0.0], [3.0, 0.0, 0.0], 1.5)
    assert score == Score(0.75, 1.5, 4, balanced_accuracy=0.5, balanced_images=3.0)
    assert score.by_class == ((3.0, 3.0), (1.0, 0.0), (0.0, 0.0))


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


def test_joint_scores_equal_the_score_of_all_images_together() -> None:
    torch.manual_seed(0)
    data = load_data("digits", 8)
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 10))
    # Classes of unequal size, of which some are missing in a split.
    splits = [data.validation, replace(data.test, labels=data.test.labels.clamp(max=6))]
    joint = join_scores([evaluate(net, split, channels_last=False) for split in splits])
    together = evaluate(net, JoinedSplit(splits), channels_last=False)
    assert joint.by_metric() == pytest.approx(together.by_metric())
    assert joint.balanced_images == pytest.approx(together.balanced_images)
    assert (joint.images, joint.by_class) == (together.images, together.by_class)


def test_joint_scores_without_the_sums_of_classes_have_no_balanced_accuracy() -> None:
    joint = join_scores([Score(0.5, 1.0, 30, 0.5, 30.0), Score(1.0, 2.0, 10, 1.0, 10.0)])
    assert joint == Score(0.625, 1.25, 40)
    with pytest.raises(GenetsError, match="no balanced accuracy"):
        joint["balanced_accuracy"]


def test_the_sums_of_classes_are_not_stored() -> None:
    score = Score(0.5, 1.0, 4, 0.5, 4.0, by_class=((2, 1), (2, 1)))
    assert Score.from_json(score.to_json()) == score
    assert not Score.from_json(score.to_json()).by_class
