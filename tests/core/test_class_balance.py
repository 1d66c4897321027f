"""Unbalanced classes: the arithmetic against scikit-learn, and against random draws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score
from sklearn.utils.class_weight import compute_class_weight

from genets.core.class_balance import (
    balance_advice,
    balanced_accuracy,
    balanced_images,
    balanced_weights,
    is_unbalanced,
)

COUNTS = st.lists(st.integers(0, 40), min_size=1, max_size=7).filter(any)


@given(COUNTS, st.integers(0, 2**32 - 1))
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.filterwarnings("ignore:A single label was found")
def test_balanced_accuracy_is_scikit_learns(counts: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    taken = np.where(rng.random(len(labels)) < 0.6, labels, rng.integers(0, len(counts)))
    right = np.bincount(labels[taken == labels], minlength=len(counts))
    found = balanced_accuracy(right.tolist(), counts)
    assert found == pytest.approx(balanced_accuracy_score(labels, taken))


@given(COUNTS)
def test_weights_are_scikit_learns_and_their_mean_over_the_images_is_1(counts: list[int]) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    weights = np.array(balanced_weights(counts))
    present = np.unique(labels)
    assert weights[present] == pytest.approx(
        compute_class_weight("balanced", classes=present, y=labels)
    )
    assert weights[np.array(counts) == 0].tolist() == [0.0] * counts.count(0)
    assert weights[labels].mean() == pytest.approx(1)


@pytest.mark.parametrize("counts", [[40, 40, 40], [200, 20, 5], [60, 0, 30]])
def test_a_share_of_so_many_images_is_as_uncertain_as_the_mean_of_shares(
    counts: list[int],
) -> None:
    rng, p = np.random.default_rng(0), 0.8
    right = rng.binomial(counts, p, (100_000, len(counts)))
    present = np.array(counts) > 0
    means = (right[:, present] / np.array(counts)[present]).mean(axis=1)
    assert p * (1 - p) / balanced_images(counts) == pytest.approx(means.var(), rel=0.02)


def test_classes_of_equal_size_have_as_many_images_as_there_are() -> None:
    assert balanced_images([7, 7, 0, 7]) == pytest.approx(21)
    assert not is_unbalanced(balanced_images([20, 21, 22]), 63)
    assert is_unbalanced(balanced_images([20, 40]), 60)


def test_only_very_different_sizes_are_described() -> None:
    names = ("ant", "bee", "cat")
    assert balance_advice({0: 50, 1: 10, 2: 12}, names, "--cure") == ""
    assert balance_advice({}, names, "--cure") == ""
    assert balance_advice({0: 12, 1: 51, 2: 10}, names, "") == ""
    assert balance_advice({0: 12, 1: 51, 2: 10}, names, "--cure") == (
        "class bee has 51 training images, and class cat has 10; to let all classes count the "
        "same, give --cure"
    )
