"""The linear algebra under the regression, against formulas written another way."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from genets.nas.accuracy.gaussian import (
    LinearModel,
    _log_evidence_with_inverse,
    fit_scales,
    log_evidence,
    posterior,
    with_scales,
)


def random_model(rng, observations=12, columns=7):
    return LinearModel(
        rng.normal(size=(observations, columns)),
        rng.normal(size=observations),
        rng.normal(size=columns),
        rng.uniform(0.1, 2, columns),
        rng.uniform(0.1, 1, observations),
    )


@pytest.mark.parametrize("seed", range(5))
def test_posterior_equals_the_normal_equations_and_the_gaussian_process(seed):
    model = random_model(np.random.default_rng(seed))
    x, precision = model.features, np.diag(1 / model.noise_variance)
    prior = np.diag(1 / model.prior_variance)
    covariance = np.linalg.inv(x.T @ precision @ x + prior)
    mean = covariance @ (x.T @ precision @ model.target + prior @ model.prior_mean)
    found = posterior(model)
    np.testing.assert_allclose(found.mean, mean, atol=1e-10)
    np.testing.assert_allclose(found.covariance, covariance, atol=1e-10)

    # A Gaussian process by conditioning the joint normal of data and a new point.
    new = np.random.default_rng(seed + 100).normal(size=7)
    joint = np.vstack((x, new))
    k = joint @ np.diag(model.prior_variance) @ joint.T
    gain = k[-1, :-1] @ np.linalg.inv(k[:-1, :-1] + np.diag(model.noise_variance))
    expected = new @ model.prior_mean + gain @ (model.target - x @ model.prior_mean)
    assert new @ found.mean == pytest.approx(expected)
    assert new @ found.covariance @ new == pytest.approx(k[-1, -1] - gain @ k[:-1, -1])


def test_leave_one_out_equals_refits():
    model = random_model(np.random.default_rng(3))
    found = posterior(model)
    for n in range(len(model.target)):
        rest = np.arange(len(model.target)) != n
        refit = posterior(
            LinearModel(
                model.features[rest],
                model.target[rest],
                model.prior_mean,
                model.prior_variance,
                model.noise_variance[rest],
            )
        )
        row = model.features[n]
        assert found.left_out_residual[n] == pytest.approx(model.target[n] - row @ refit.mean)
        variance = row @ refit.covariance @ row + model.noise_variance[n]
        assert found.left_out_variance[n] == pytest.approx(variance)


def test_evidence_is_the_density_of_the_data():
    model = random_model(np.random.default_rng(4))
    mean = model.features @ model.prior_mean
    expected = multivariate_normal(mean, model.covariance).logpdf(model.target)
    assert log_evidence(model) == pytest.approx(expected)
    assert _log_evidence_with_inverse(model)[1] @ model.covariance == pytest.approx(np.eye(12))


def test_fitted_scales_are_the_most_probable():
    rng = np.random.default_rng(5)
    model = random_model(rng, observations=40)
    groups, log_std = np.array([0, 0, 0, 1, 1, 1, -1]), np.array([1.0, 0.5, 2.0])

    def log_posterior(log_scales):
        evidence = log_evidence(with_scales(model, groups, log_scales))
        return evidence - ((log_scales / log_std) ** 2).sum() / 2

    best = fit_scales(model, groups, log_std)
    assert all(
        log_posterior(best) > log_posterior(best + step)
        for step in rng.normal(0, 0.05, size=(50, 3))
    )
