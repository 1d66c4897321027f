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
from genets.training.evaluation import evaluate_images
from genets.training.predictions import PairedDifference, Predictions, share_interval

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


@pytest.mark.parametrize(
    ("counts", "top1", "low", "high"),
    [
        # Airway hyper-responsiveness (Bentur et al. 2009) and complete response (Cavo et al. 2012),
        # in Fagerland, Lydersen, Laake: Statistical Analysis of Contingency Tables, chapter 8.
        ((1, 1, 7, 12), -0.286, -0.507, -0.026),
        ((59, 6, 16, 80), -0.0621, -0.1186, -0.0046),
        # Altman, Machin, Bryant, Gardner: Statistics with Confidence, table 6.2.
        ((14, 5, 0, 22), 0.122, 0.011, 0.226),
    ],
)
def test_published_intervals_of_paired_differences(
    counts: tuple[int, int, int, int], top1: float, low: float, high: float
) -> None:
    difference = PairedDifference.of_counts(*counts)
    digits = 1e-3 if top1 != -0.0621 else 1e-4
    for value, published in (
        (difference.top1, top1),
        (difference.low, low),
        (difference.high, high),
    ):
        assert value == pytest.approx(published, abs=0.5 * digits)
    both, first, second, neither = counts
    swapped = PairedDifference.of_counts(both, second, first, neither)
    assert (swapped.low, swapped.high) == pytest.approx((-difference.high, -difference.low))


@pytest.mark.parametrize(
    "counts", [(20, 0, 0, 0), (0, 20, 0, 0), (0, 0, 20, 0), (0, 0, 0, 20), (19, 1, 0, 0),
               (10, 0, 0, 10), (1, 0, 0, 1)],
)  # fmt: skip
def test_an_interval_at_the_limits_has_a_width_and_stays_possible(
    counts: tuple[int, int, int, int],
) -> None:
    difference = PairedDifference.of_counts(*counts)
    assert -1 <= difference.low <= difference.top1 <= difference.high <= 1
    assert difference.half_width > 0.01
    assert PairedDifference.from_json(difference.to_json()) == difference


def test_the_interval_covers_the_true_difference_of_close_networks() -> None:
    """The normal approximation has no width where no image tells the networks apart."""
    shares, true = [0.96, 0.01, 0.005, 0.025], 0.005
    samples = np.random.default_rng(0).multinomial(150, shares, 1000)
    rows, times = np.unique(samples, axis=0, return_counts=True)
    covered, covered_by_normal = [], []
    for both, first, second, neither in rows.tolist():
        interval = PairedDifference.of_counts(both, first, second, neither)
        covered.append(interval.low <= true <= interval.high)
        error = np.sqrt(first + second - (first - second) ** 2 / 150) / 150
        covered_by_normal.append(abs(interval.top1 - true) <= 1.96 * error)
    assert np.average(covered, weights=times) >= 0.95
    assert np.average(covered_by_normal, weights=times) < 0.92


@pytest.mark.parametrize(
    ("count", "images", "low", "high"),
    [
        # Newcombe 1998, Statistics in Medicine 17, 857-872, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (29, 29, 0.8830, 1.0),
    ],
)
def test_published_intervals_of_a_share(count: int, images: int, low: float, high: float) -> None:
    assert share_interval(count, images) == pytest.approx((low, high), abs=5e-5)


def test_an_older_record_of_a_difference_is_symmetric() -> None:
    old = {"top1": -0.02, "half_width": 0.01, "images": 200}
    difference = PairedDifference.from_json(old)
    assert (difference.low, difference.high) == pytest.approx((-0.03, -0.01))
    assert old.items() <= {**difference.to_json(), "half_width": 0.01}.items()


def test_equal_predictions_differ_by_nothing_and_other_images_are_not_compared() -> None:
    first = predicted(0.8)
    same = PairedDifference.between(first, first)
    assert same is not None
    assert (same.top1, same.images) == (0.0, 500)
    assert -0.02 < same.low < -0.002
    assert same.high == pytest.approx(-same.low)
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
