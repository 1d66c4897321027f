"""The linear algebra of the accuracy model, against formulas written another way."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from genets.nas.accuracy.gaussian import (
    LinearModel,
    _log_evidence,
    compute_posterior,
    fit_scales,
    scale_variances,
)


def random_model(rng, observations=12, columns=7):
    part = rng.normal(size=(observations, 3)) / 2
    return LinearModel(
        rng.normal(size=(observations, columns)),
        rng.normal(size=observations),
        rng.normal(size=columns),
        rng.uniform(0.1, 2, columns),
        rng.uniform(0.1, 1, observations),
        part @ part.T,
    )


@pytest.mark.parametrize("seed", range(5))
def test_posterior_equals_the_normal_equations_and_the_gaussian_process(seed):
    model = random_model(np.random.default_rng(seed))
    noise = np.diag(model.noise_variance) + model.misfit
    x, precision = model.features, np.linalg.inv(noise)
    prior = np.diag(1 / model.prior_variance)
    covariance = np.linalg.inv(x.T @ precision @ x + prior)
    mean = covariance @ (x.T @ precision @ model.target + prior @ model.prior_mean)
    posterior = compute_posterior(model)
    np.testing.assert_allclose(posterior.mean, mean, atol=1e-10)
    np.testing.assert_allclose(posterior.covariance, covariance, atol=1e-10)

    # A Gaussian process: condition the joint normal of the observations and a new point.
    new = np.random.default_rng(seed + 100).normal(size=7)
    joint = np.vstack((x, new))
    k = joint @ np.diag(model.prior_variance) @ joint.T
    gain = k[-1, :-1] @ np.linalg.inv(k[:-1, :-1] + noise)
    residual = model.target - x @ model.prior_mean
    np.testing.assert_allclose(posterior.precision, np.linalg.inv(k[:-1, :-1] + noise), atol=1e-10)
    np.testing.assert_allclose(posterior.weights, posterior.precision @ residual, atol=1e-10)
    expected = new @ model.prior_mean + gain @ (model.target - x @ model.prior_mean)
    assert new @ posterior.mean == pytest.approx(expected)
    assert new @ posterior.covariance @ new == pytest.approx(k[-1, -1] - gain @ k[:-1, -1])


def test_leave_one_out_equals_refits():
    model = random_model(np.random.default_rng(3))
    model = replace(model, misfit=np.zeros_like(model.misfit))  # a refit would have to predict it
    posterior = compute_posterior(model)
    for n in range(len(model.target)):
        others = np.arange(len(model.target)) != n
        refit = compute_posterior(
            LinearModel(
                model.features[others],
                model.target[others],
                model.prior_mean,
                model.prior_variance,
                model.noise_variance[others],
                model.misfit[np.ix_(others, others)],
            )
        )
        row = model.features[n]
        residual = model.target[n] - row @ refit.mean
        assert posterior.left_out_residual[n] == pytest.approx(residual)
        variance = row @ refit.covariance @ row + model.noise_variance[n]
        assert posterior.left_out_variance[n] == pytest.approx(variance)


def test_evidence_is_the_density_of_the_target():
    model = random_model(np.random.default_rng(4))
    mean = model.features @ model.prior_mean
    expected = multivariate_normal(mean, model.covariance).logpdf(model.target)
    evidence, inverse, _ = _log_evidence(model)
    assert evidence == pytest.approx(expected)
    assert inverse @ model.covariance == pytest.approx(np.eye(12))


def test_fitted_scales_are_the_most_probable():
    rng = np.random.default_rng(5)
    model = random_model(rng, observations=40)
    groups, log_std = np.array([0, 0, 0, 1, 1, 1, -1]), np.array([1.0, 0.5, 1.0, 2.0])

    def log_posterior(log_scales):
        evidence, _, _ = _log_evidence(scale_variances(model, groups, log_scales))
        return evidence - ((log_scales / log_std) ** 2).sum() / 2

    best = fit_scales(model, groups, log_std)
    assert all(
        log_posterior(best) > log_posterior(best + step)
        for step in rng.normal(0, 0.05, size=(50, 4))
    )
