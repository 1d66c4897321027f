"""Predictions for single images, and a difference that is paired over images."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

from genets.data import load_data
from genets.nas.study.class_counts import ClassCounts
from genets.training import evaluate
from genets.training.loop import evaluate_images
from genets.training.predictions import PairedDifference, Predictions

RANDOM = np.random.default_rng(0)
LABELS = RANDOM.integers(0, 3, 500)


def predicted(right: float) -> Predictions:
    wrong = RANDOM.random(500) > right
    return Predictions(LABELS, (LABELS + wrong) % 3)


def test_the_difference_and_its_interval_are_those_of_a_bootstrap() -> None:
    first, second = predicted(0.8), predicted(0.7)
    difference = PairedDifference.between(first, second)
    assert difference is not None
    each = first.right.astype(float) - second.right
    assert difference.top1 == pytest.approx(first.right.mean() - second.right.mean())
    means = [each[RANDOM.integers(0, 500, 500)].mean() for _ in range(4000)]
    low, high = np.quantile(means, [0.025, 0.975])
    assert 2 * difference.half_width == pytest.approx(high - low, rel=0.1)
    assert PairedDifference.from_json(difference.to_json()) == difference


def test_equal_predictions_differ_by_nothing_and_other_images_are_not_compared() -> None:
    first = predicted(0.8)
    assert PairedDifference.between(first, first) == PairedDifference(0.0, 0.0, 500)
    other = Predictions(LABELS[::-1], first.classes)
    assert PairedDifference.between(first, other) is None
    one = Predictions(LABELS[:1], LABELS[:1])
    assert PairedDifference.between(one, one) is None


def test_counts_by_class_are_stored_without_loss() -> None:
    first, second = predicted(0.8), predicted(0.7)
    counts = ClassCounts.count(["cat", "dog", "屋顶"], first, second)
    for table, one in ((counts.master, first), (counts.winner, second)):
        expected = [[np.sum((i == LABELS) & (one.classes == j)) for j in range(3)]
                    for i in range(3)]  # fmt: skip
        np.testing.assert_array_equal(table, expected)
    again = ClassCounts.from_json(json.loads(json.dumps(counts.to_json())))
    np.testing.assert_array_equal(again.winner, counts.winner)
    assert (again.class_names, again.difference) == (counts.class_names, counts.difference)


def test_images_are_scored_as_evaluate_scores_them() -> None:
    data = load_data("digits", 8)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 10))
    score, predictions = evaluate_images(network, data.test)
    assert score == evaluate(network, data.test)
    assert len(predictions.labels) == score.images
    assert predictions.right.mean() == pytest.approx(score.top1)
