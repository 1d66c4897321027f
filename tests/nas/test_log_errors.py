"""The log of the error: finite and monotone for all scores, and intervals within the range."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from test_feedback import MASTER, fit, sample, trained, trials

from genets.core.errors import GenetsError
from genets.nas.accuracy.bayes import BayesEffects
from genets.nas.accuracy.model import AccuracyModel, Prediction
from genets.nas.accuracy.observations import LogErrors, PredictedFall
from genets.nas.accuracy.round_trials import RoundTrials, fit_rounds
from genets.nas.study.records import TrialResult
from genets.training.score import Metric, Score

SPLITS = (10, 50, 360, None)
RANGES = {metric: (0.0, 1.0) if metric.is_share else (-math.inf, 0.0) for metric in Metric}

pytestmark = pytest.mark.usefixtures("one_blas_thread")


@pytest.mark.parametrize("images", [10, 50, 360])
def test_half_an_image_is_added_to_the_error(images: int) -> None:
    wrong = np.arange(images + 1)
    right_of_master = images - images // 3
    found = LogErrors(Metric.TOP1, right_of_master / images, images).target(1 - wrong / images)
    shares = (wrong + 0.5) / (images + 1)
    own = (images // 3 + 0.5) / (images + 1)
    assert found == pytest.approx(np.log(own / shares), abs=1e-12)
    assert found[0] - found[1] == pytest.approx(math.log(3))


@pytest.mark.parametrize("images", SPLITS)
@pytest.mark.parametrize("master_value", [0.0, 0.5, 1.0])
def test_every_score_has_a_finite_log_that_rises_with_it(
    images: int | None, master_value: float
) -> None:
    errors = LogErrors(Metric.TOP1, master_value, images)
    scores = np.linspace(0, 1, (images or 500) + 1)
    logs = errors.target(scores)
    assert np.isfinite(logs).all()
    assert (np.diff(logs) > 0).all()
    assert errors.target(np.array([master_value])) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("score", [0.0, 0.3, 0.9, 1.0])
def test_the_log_does_not_jump_between_splits(score: float) -> None:
    """Between splits of n and n + 1 images, the log of a score moves by less than 1 / n."""
    for images in range(5, 400):
        few, more = (LogErrors(Metric.TOP1, 0.5, n) for n in (images, images + 1))
        step = abs(float(few.target(np.array(score)) - more.target(np.array(score))))
        assert step < 1 / images + 1e-9


@pytest.mark.parametrize("metric", Metric)
@pytest.mark.parametrize("images", SPLITS)
@given(share=st.floats(0, 1), fall=st.floats(-1e4, 1e4), std=st.floats(0, 50))
def test_no_prediction_leaves_the_possible_range(
    metric: Metric, images: int | None, share: float, fall: float, std: float
) -> None:
    master_value = share if metric.is_share else -4 * share
    predicted = PredictedFall(fall, std, LogErrors(metric, master_value, images))
    prediction = Prediction(*predicted.gain, master_value, predicted)
    lowest, highest = RANGES[metric]
    low, high = prediction.interval()
    assert lowest - 1e-12 <= low <= prediction.value <= high <= highest + 1e-12
    assert prediction.interval(0.5)[0] >= low
    assert all(math.isfinite(number) for number in (low, high, *predicted.gain))


@pytest.mark.parametrize("images", SPLITS)
def test_gains_are_the_inverse_of_targets(images: int | None) -> None:
    errors = LogErrors(Metric.TOP1, 0.8, images)
    scores = np.linspace(0.0, 0.99, 40)
    assert 0.8 + errors.gains(errors.target(scores)) == pytest.approx(scores, abs=1e-12)


def bayes(model: AccuracyModel) -> BayesEffects:
    assert isinstance(model.effects, BayesEffects)
    return model.effects


@pytest.mark.parametrize(("deviations", "share"), [(1.0, 0.6827), (1.96, 0.95)])
def test_an_interval_holds_its_share_of_draws_and_equally_many_on_each_side(
    deviations: float, share: float
) -> None:
    """Effects are drawn from their distribution; each draw has one value."""
    model, count = fit(trials()), 20_000
    effects = bayes(model)
    assert effects.misfit >= 0
    drawn = np.random.default_rng(0).multivariate_normal(
        effects.posterior.mean, effects.posterior.covariance, count, method="eigh"
    )
    changed = [MASTER.with_stage(t.index, t.super_block) for t in effects.observations.trials]
    for structure in dict.fromkeys(s for s in changed[::5] if s != MASTER):
        falls = drawn @ effects.feature_map.structure_row(structure)
        values = model.master_value + effects.log_errors.gains(falls)
        low, high = model.predict(structure).interval(deviations)
        tolerance = 4 * math.sqrt(share * (1 - share) / count)
        assert np.mean((low <= values) & (values <= high)) == pytest.approx(share, abs=tolerance)
        assert np.mean(values < low) == pytest.approx((1 - share) / 2, abs=tolerance)
        assert np.mean(values > high) == pytest.approx((1 - share) / 2, abs=tolerance)


def test_an_interval_of_a_structure_with_several_changes_has_the_quantiles_of_its_error() -> None:
    """The misfit is included, so the joint distribution gives the quantiles."""
    model = fit(trials(), trained(sample(4)))
    effects = bayes(model)
    for structure in sample(5, seed=9):
        mean, covariance = effects.joint([structure])
        ends = norm.ppf([0.025, 0.975], mean[0], math.sqrt(covariance[0, 0]))
        errors = effects.log_errors.master_error * np.exp(-ends)
        assert model.predict(structure).interval() == pytest.approx(1 - errors, abs=1e-4)


def test_intervals_near_the_limit_are_within_it() -> None:
    """To first order, the intervals of these structures would end above 100 %."""
    model = fit(noisy_trials(0.97))
    predictions = [model.predict(structure) for structure in sample(40, seed=3)]
    assert any(prediction.value + 1.96 * prediction.std > 1 for prediction in predictions)
    for prediction in predictions:
        low, high = prediction.interval()
        assert 0 <= low < prediction.value < high <= 1
        assert high - prediction.value < prediction.value - low


def test_the_order_goes_on_where_the_gain_has_reached_its_limit() -> None:
    """A MasterNet without an error: no structure can be better, but trials still rank them."""
    model = AccuracyModel.fit(MASTER, trials(), 1.0, images=50)
    effects = bayes(model)
    structures = sorted(sample(40, seed=3), key=lambda s: float(effects.joint([s])[0][0]))
    predictions = [model.predict(structure) for structure in structures]
    better = [prediction for prediction in predictions if prediction.order > 0]
    assert len(better) > 5
    assert {prediction.mean for prediction in better} == {0.0}
    orders = [prediction.order for prediction in predictions]
    assert orders == sorted(orders)
    assert len({*orders}) == len({*structures})


def noisy_trials(top1: float) -> list[TrialResult]:
    """Trials whose errors are a fifth to five times that of a score."""
    rng = np.random.default_rng(0)
    return [
        TrialResult(r.trial, "done", 1 - min(1.0, (1 - top1) * 5 ** rng.uniform(-1, 1)), 1.0)
        for r in trials()
    ]


@pytest.mark.parametrize("images", [10, 50, 360])
@pytest.mark.parametrize("score", [0.0, 1.0])
def test_trials_without_any_error_or_without_any_hit_can_be_fitted(
    images: int, score: float
) -> None:
    """Every second trial has all images right, or none; the others have half of them."""
    results = [
        TrialResult(r.trial, "done", score if number % 2 else 0.5, 1.0)
        for number, r in enumerate(trials())
    ]
    for master_score in (score, 0.5):
        model = AccuracyModel.fit(MASTER, results, master_score, images=images)
        left_out = model.leave_one_out()
        assert left_out is not None
        assert math.isfinite(left_out.rmse)
        assert ((left_out.low >= -1e-12) & (left_out.high <= 1 + 1e-12)).all()
        assert (left_out.low <= left_out.high).all()
        for structure in sample(5):
            prediction = model.predict(structure)
            low, high = prediction.interval()
            assert -1e-12 <= low <= prediction.value <= high <= 1 + 1e-12


def test_a_search_gives_the_number_of_images_to_its_model() -> None:
    settings: Any = SimpleNamespace(metric=Metric.TOP1, regression="bayes", from_scratch=True)
    for images in (50, 360, None):
        trained = RoundTrials(MASTER, Score(0.9, 0.3, images), tuple(trials()))
        model = fit_rounds(settings, [trained], [])
        assert bayes(model).log_errors.images == images


def test_half_an_image_of_balanced_accuracy_is_one_of_the_images_that_count() -> None:
    """Classes of 100 and 5 images are as informative as 19 images in classes of equal size."""
    settings: Any = SimpleNamespace(
        metric=Metric.BALANCED_ACCURACY, regression="bayes", from_scratch=True
    )
    results = tuple(replace(r, balanced_accuracy=r.top1) for r in trials())
    counted = 4 / (1 / 100 + 1 / 5)
    trained = RoundTrials(MASTER, Score(0.9, 0.3, 105, 0.8, counted), results)
    model = fit_rounds(settings, [trained], [])
    assert bayes(model).log_errors.master_error == pytest.approx(0.2 + 0.5 / counted)
    assert bayes(model).log_errors.target(np.array([1.0])) == pytest.approx(
        math.log((0.2 + 0.5 / counted) / (0.5 / counted))
    )


def test_trials_of_an_older_version_cannot_be_fitted_to_balanced_accuracy() -> None:
    results = trials()
    results[0] = replace(results[0], balanced_accuracy=0.8)
    sentence = f"{len(results) - 1} of {len(results)} trials and candidates have no balanced acc"
    with pytest.raises(GenetsError, match=f"{sentence}.*; begin another study for this metric"):
        AccuracyModel.fit(MASTER, results, 0.9, metric="balanced_accuracy")


def test_an_interval_of_the_literal_formula_is_not_known() -> None:
    model = AccuracyModel.fit(MASTER, trials(), 0.9, form="paper")
    assert all(math.isnan(end) for end in model.predict(MASTER).interval())


def test_drawn_gains_have_one_axis_more_than_gains() -> None:
    effects = bayes(fit(trials()))
    drawn = effects.draw_stage_gains(7, np.random.default_rng(0))
    options: Any = [MASTER.stage(1), MASTER.stage(2)]
    widths = [16, 24, 32]
    assert drawn.effects.shape == (7, len(effects.feature_map))
    assert drawn(1, widths, options).shape == (7, *effects.stage_gain(1, widths, options).shape)
    for number in range(7):
        row = drawn.effects[number]
        expected = [
            [row @ effects.feature_map.stage_rows(1, [option])[0]
             + row[effects.feature_map.columns[("trend", "", "")]]
             * effects.feature_map.trend(1, [width], [option])[0, 0]
             for option in options]
            for width in widths
        ]  # fmt: skip
        assert drawn(1, widths, options)[number] == pytest.approx(np.array(expected))
