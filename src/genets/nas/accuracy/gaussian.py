"""Bayesian linear models with Gaussian effects, in closed form.

    y = X w + e,   w_j ~ N(m_j, v_j),   e_n ~ N(0, s_n)   (all independent)

The same as ridge regression with one penalty per column, and as a Gaussian process with
covariance K = X diag(v) X' + diag(s).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

SCALE_BOUND = 7.0  # log-scales stay within this many natural logs of their prior


@dataclass(frozen=True, eq=False)
class LinearModel:
    """The data and the priors.

    features: (n, p). target: (n,).
    prior_mean, prior_variance: (p,). noise_variance: (n,).
    """

    features: Floats
    target: Floats
    prior_mean: Floats
    prior_variance: Floats
    noise_variance: Floats

    @property
    def residual(self) -> Floats:
        """(n,): the target less its prior mean."""
        return self.target - self.features @ self.prior_mean

    @property
    def covariance(self) -> Floats:
        """(n, n): the prior covariance K of the target."""
        shared = (self.features * self.prior_variance) @ self.features.T
        return shared + np.diag(self.noise_variance)


@dataclass(frozen=True, eq=False)
class Posterior:
    """What the data say of the effects.

    mean: (p,). covariance: (p, p).
    left_out_residual, left_out_variance: (n,), each observation less its prediction from all
        others (with the same variances), and the variance of that, its own noise included.
    """

    mean: Floats
    covariance: Floats
    left_out_residual: Floats
    left_out_variance: Floats


def posterior(model: LinearModel) -> Posterior:
    """Closed form; leave-one-out by Rasmussen and Williams 2006, equations 5.10 to 5.12."""
    factor = cho_factor(model.covariance, lower=True)
    weighted = model.features * model.prior_variance  # (n, p)
    inverse = cho_solve(factor, np.eye(len(model.target)))
    solved = cho_solve(factor, model.residual)
    mean = model.prior_mean + weighted.T @ solved
    covariance = np.diag(model.prior_variance) - weighted.T @ cho_solve(factor, weighted)
    precision = np.diag(inverse)
    return Posterior(mean, (covariance + covariance.T) / 2, solved / precision, 1 / precision)


def log_evidence(model: LinearModel) -> float:
    """Log density of the target under the prior."""
    return _log_evidence_with_inverse(model)[0]


def _log_evidence_with_inverse(model: LinearModel) -> tuple[float, Floats, Floats]:
    """Log evidence, K^-1, and K^-1 times the residual."""
    lower, _ = factor = cho_factor(model.covariance, lower=True)
    inverse = cho_solve(factor, np.eye(len(model.target)))
    solved = cho_solve(factor, model.residual)
    log_determinant = 2 * np.log(np.diag(lower)).sum()
    size = len(model.target) * np.log(2 * np.pi)
    return float(-(model.residual @ solved + log_determinant + size) / 2), inverse, solved


def with_scales(model: LinearModel, groups: Integers, log_scales: Floats) -> LinearModel:
    """The model with standard deviations multiplied by exp(log_scales).

    groups: (p,), which scale each column follows; -1 for a fixed one. The last of
    `log_scales` is the noise's.
    """
    factors = np.concatenate((np.exp(2 * log_scales[:-1]), [1.0]))
    return LinearModel(
        model.features,
        model.target,
        model.prior_mean,
        model.prior_variance * factors[groups],
        model.noise_variance * np.exp(2 * log_scales[-1]),
    )


def fit_scales(model: LinearModel, groups: Integers, log_scale_std: Floats) -> Floats:
    """The most probable log-scales: evidence times a normal prior N(0, log_scale_std^2) on each.

    Deterministic: L-BFGS-B with the exact gradient, from two fixed starts.
    """

    def objective(log_scales: Floats) -> tuple[float, Floats]:
        scaled = with_scales(model, groups, log_scales)
        evidence, inverse, solved = _log_evidence_with_inverse(scaled)
        # d(log evidence) / d(log v_j), then the sum over the columns that share a scale.
        by_column = scaled.prior_variance * (
            (scaled.features.T @ solved) ** 2
            - np.einsum("nj,nj->j", scaled.features, inverse @ scaled.features)
        )
        by_noise = scaled.noise_variance @ (solved**2 - np.diag(inverse))
        slope = np.array([*(by_column[groups == g].sum() for g in range(count - 1)), by_noise])
        penalty = ((log_scales / log_scale_std) ** 2).sum() / 2
        return penalty - evidence, log_scales / log_scale_std**2 - slope

    count = len(log_scale_std)
    bounds = [(-SCALE_BOUND, SCALE_BOUND)] * count
    found = [
        minimize(objective, np.full(count, start), jac=True, method="L-BFGS-B", bounds=bounds)
        for start in (0.0, -1.5)
    ]
    best: Floats = min(found, key=lambda result: float(result.fun)).x
    return best
