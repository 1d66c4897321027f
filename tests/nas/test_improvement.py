"""Expected improvement, against closed forms of the maximum of normal variables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm
from test_feedback import MASTER, SPACE, fit, sample, trained, trials

from genets.nas.accuracy.bayes import BayesEffects
from genets.nas.selection.improvement import choose_candidates
from genets.structure import Structure

pytestmark = pytest.mark.usefixtures("one_blas_thread")


class KnownEffects:
    """Structures with a given joint distribution."""

    def __init__(self, structures: Sequence[Structure], mean: Any, covariance: Any) -> None:
        self.order = [*structures]
        self.mean, self.covariance = np.array(mean, float), np.array(covariance, float)

    def joint(self, structures: Sequence[Structure]) -> tuple[Any, Any]:
        rows = [self.order.index(structure) for structure in structures]
        return self.mean[rows], self.covariance[np.ix_(rows, rows)]


def choose(effects: KnownEffects, count: int, trained_ones: Sequence[Structure] = ()) -> list[int]:
    known: Any = effects
    chosen = choose_candidates(known, effects.order, count, trained_ones)
    return [effects.order.index(structure) for structure in chosen]


def test_the_first_choice_is_the_best_predicted_and_the_second_is_not_its_twin() -> None:
    structures = sample(3)
    covariance = [[1.0, 0.999, 0.0], [0.999, 1.0, 0.0], [0.0, 0.0, 1.0]]
    effects = KnownEffects(structures, [0.1, 0.09, 0.0], covariance)
    assert choose(effects, 1) == [0]
    # E max of two normal variables with the same mean and variance 1 - correlation (Clark 1961).
    twin, other = (0.1 + math.sqrt((1 - r) / math.pi) for r in (0.999, 0.0))
    assert other - twin > 0.1  # the difference of the means
    assert choose(effects, 2) == [0, 2]
    assert choose(effects, 9) == [0, 2, 1]


def test_the_choice_is_the_same_for_eigenvectors_of_another_sign(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Libraries of linear algebra differ in these signs."""
    vectors = np.random.default_rng(1).normal(size=(12, 12))
    effects = KnownEffects(sample(12), np.linspace(0, 0.1, 12), vectors @ vectors.T / 12)
    chosen, eigh = choose(effects, 6), np.linalg.eigh

    def flipped(matrix: Any) -> tuple[Any, Any]:
        variances, directions = eigh(matrix)
        return variances, directions * np.where(np.arange(len(matrix)) % 2, 1.0, -1.0)

    monkeypatch.setattr(np.linalg, "eigh", flipped)
    assert choose(effects, 6) == chosen


def test_a_singular_covariance_is_no_error() -> None:
    """Trained structures without noise are certain; rounding makes eigenvalues negative."""
    structures = sample(4)
    vectors = np.random.default_rng(0).normal(size=(4, 2)) * [[0], [1], [1], [0.5]]
    covariance = vectors @ vectors.T - 1e-8 * np.eye(4)
    with pytest.raises(np.linalg.LinAlgError):
        np.linalg.cholesky(covariance + 1e-9 * np.eye(4))
    chosen = choose(KnownEffects(structures, [0.1, 0.0, 0.0, 0.0], covariance), 3, structures[:1])
    assert sorted(chosen) == [1, 2, 3]


@pytest.mark.parametrize(("std", "expected"), [(0.3, 2), (0.05, 1)])
def test_beside_a_trained_structure_the_expected_improvement_decides(
    std: float, expected: int
) -> None:
    structures = sample(3)
    means, stds = [0.2, 0.15, 0.1], [0.0, 0.1, std]
    effects = KnownEffects(structures, means, np.diag(np.square(stds)))

    def improvement(mean: float, deviation: float) -> float:
        z = (mean - means[0]) / deviation
        return float((mean - means[0]) * norm.cdf(z) + deviation * norm.pdf(z))

    exact = [improvement(*pair) for pair in zip(means[1:], stds[1:], strict=True)]
    assert 1 + int(np.argmax(exact)) == expected
    assert choose(effects, 1, structures[:1]) == [expected]
    assert 0 not in choose(effects, 3, structures[:1])


def test_nothing_is_chosen_where_all_are_trained_and_each_structure_counts_once() -> None:
    structures = sample(2)
    effects = KnownEffects(structures, [0.0, 0.0], np.eye(2))
    assert choose(effects, 2, structures) == []
    known: Any = effects
    assert len(choose_candidates(known, [*structures, *structures], 4)) == 2


def test_the_best_prediction_is_chosen_where_no_draw_improves() -> None:
    """All expected improvements are then exactly 0."""
    structures = sample(4)
    effects = KnownEffects(structures, [1.0, 0.0, 0.2, 0.5], np.diag([0.0, 1e-4, 1e-4, 1e-4]))
    assert choose(effects, 3, structures[:1]) == [3, 2, 1]


def fitted() -> BayesEffects:
    effects = fit(trials(), trained(sample(4))).effects
    assert isinstance(effects, BayesEffects)
    return effects


def test_the_joint_distribution_agrees_with_single_predictions() -> None:
    effects, structures = fitted(), sample(6, seed=5)
    mean, covariance = effects.joint(structures)
    assert np.linalg.eigvalsh(covariance).min() > -1e-12
    for structure, fall, variance in zip(structures, mean, np.diag(covariance), strict=True):
        expected = effects.log_errors.gain(float(fall), math.sqrt(variance))
        assert effects.predict(structure).gain == pytest.approx(expected)
    own, _ = effects.joint([MASTER])
    assert own[0] == 0.0


def test_draws_of_the_effects_have_their_distribution() -> None:
    effects, rng = fitted(), np.random.default_rng(0)
    stages = SPACE.choices(1)[::7]
    drawn = effects.draw_stage_gains(2000, rng)(1, [MASTER.input_width(1)], stages)[:, 0]
    rows = [effects.feature_map.structure_row(MASTER.with_stage(1, stage)) for stage in stages]
    trend = [
        effects.feature_map.trend(2, [stage.width], [MASTER.stage(2)])[0, 0] for stage in stages
    ]
    slope = effects.feature_map.columns[("trend", "", "")]
    for column, row, next_stage in zip(drawn.T, rows, trend, strict=True):
        row[slope] -= next_stage  # the next stage reads more channels; that is not stage 1
        mean, std = row @ effects.posterior.mean, effects.row_std(row)
        assert column.mean() == pytest.approx(mean, abs=4 * std / math.sqrt(2000) + 1e-12)
        assert column.std() == pytest.approx(std, rel=0.1, abs=1e-9)
