"""Bayesian linear regression with Gaussian effects, in closed form.

    y = X w + f + e,   w_j ~ N(m_j, v_j),   f ~ N(0, Q),   e_n ~ N(0, s_n)

Without f this is ridge regression with one penalty per column. f is the part of the target that no
sum of effects can hold. All of it is a Gaussian process with covariance
K = X diag(v) X' + Q + diag(s).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

SCALE_BOUND = 7.0  # log-scales stay within this many natural logs of their prior


@dataclass(frozen=True, eq=False)
class LinearModel:
    """The observations and the priors, for n observations and p effects.

    Attributes:
        features: (n, p), the design matrix X.
        target: (n,), the observed y.
        prior_mean: (p,), m.
        prior_variance: (p,), v.
        noise_variance: (n,), s.
        misfit: (n, n), the prior covariance Q of f.
    """

    features: Floats
    target: Floats
    prior_mean: Floats
    prior_variance: Floats
    noise_variance: Floats
    misfit: Floats

    @property
    def residual(self) -> Floats:
        """(n,): the target minus its prior mean."""
        return self.target - self.features @ self.prior_mean

    @property
    def covariance(self) -> Floats:
        """(n, n): the prior covariance K of the target."""
        shared = (self.features * self.prior_variance) @ self.features.T
        return shared + self.misfit + np.diag(self.noise_variance)


@dataclass(frozen=True, eq=False)
class Posterior:
    """The distribution of the effects after the observations.

    Attributes:
        mean: (p,).
        covariance: (p, p).
        weights: (n,), K^-1 times the residual of the prior mean.
        precision: (n, n), K^-1.
        left_out_residual: (n,), each observation minus its prediction from all other observations,
            with the same variances.
        left_out_variance: (n,), the variance of `left_out_residual`; it includes the noise of the
            observation itself.
    """

    mean: Floats
    covariance: Floats
    weights: Floats
    precision: Floats
    left_out_residual: Floats
    left_out_variance: Floats


def compute_posterior(model: LinearModel) -> Posterior:
    """Condition the effects on the target.

    Leave-one-out values follow Rasmussen and Williams 2006, equations 5.10 to 5.12.
    """
    factor = cho_factor(model.covariance, lower=True)
    weighted = model.features * model.prior_variance  # (n, p)
    inverse = cho_solve(factor, np.eye(len(model.target)))
    solved = cho_solve(factor, model.residual)
    mean = model.prior_mean + weighted.T @ solved
    covariance = np.diag(model.prior_variance) - weighted.T @ cho_solve(factor, weighted)
    precision = np.diag(inverse)
    return Posterior(
        mean,
        (covariance + covariance.T) / 2,
        solved,
        (inverse + inverse.T) / 2,
        solved / precision,
        1 / precision,
    )


def scale_variances(model: LinearModel, groups: Integers, log_scales: Floats) -> LinearModel:
    """Multiply the standard deviations of a model by exp(log_scales).

    Args:
        model: the model before scaling.
        groups: (p,), the scale that each column follows; -1 for a column that stays as it is.
        log_scales: (scales,), one for each group, then one for f and one for the noise.
    """
    factors = np.concatenate((np.exp(2 * log_scales[:-2]), [1.0]))
    return replace(
        model,
        prior_variance=model.prior_variance * factors[groups],
        misfit=model.misfit * np.exp(2 * log_scales[-2]),
        noise_variance=model.noise_variance * np.exp(2 * log_scales[-1]),
    )


def fit_scales(model: LinearModel, groups: Integers, log_scale_std: Floats) -> Floats:
    """Find the most probable log-scales, see `scale_variances`.

    Their probability is the evidence times a normal prior N(0, log_scale_std^2) on each log-scale.
    The result is deterministic: L-BFGS-B with the exact gradient, from two fixed starts.

    Args:
        model: the model whose variances are scaled.
        groups: (p,), as in `scale_variances`.
        log_scale_std: (scales,), the prior standard deviation of each log-scale.
    """

    def objective(log_scales: Floats) -> tuple[float, Floats]:
        scaled = scale_variances(model, groups, log_scales)
        evidence, inverse, solved = _log_evidence(scaled)
        # d(log evidence) / d(log v_j), then the sum over the columns that share a scale.
        by_column = scaled.prior_variance * (
            (scaled.features.T @ solved) ** 2
            - np.einsum("nj,nj->j", scaled.features, inverse @ scaled.features)
        )
        by_misfit = solved @ scaled.misfit @ solved - np.einsum("nm,nm->", scaled.misfit, inverse)
        by_noise = scaled.noise_variance @ (solved**2 - np.diag(inverse))
        by_group = (by_column[groups == group].sum() for group in range(count - 2))
        slope = np.array([*by_group, by_misfit, by_noise])
        penalty = ((log_scales / log_scale_std) ** 2).sum() / 2
        return penalty - evidence, log_scales / log_scale_std**2 - slope

    count = len(log_scale_std)
    bounds = [(-SCALE_BOUND, SCALE_BOUND)] * count
    optima = [
        minimize(objective, np.full(count, start), jac=True, method="L-BFGS-B", bounds=bounds)
        for start in (0.0, -1.5)
    ]
    best: Floats = min(optima, key=lambda result: float(result.fun)).x
    return best


def _log_evidence(model: LinearModel) -> tuple[float, Floats, Floats]:
    """The log density of the target under the prior, K^-1, and K^-1 times the residual."""
    lower, _ = factor = cho_factor(model.covariance, lower=True)
    inverse = cho_solve(factor, np.eye(len(model.target)))
    solved = cho_solve(factor, model.residual)
    log_determinant = 2 * np.log(np.diag(lower)).sum()
    size = len(model.target) * np.log(2 * np.pi)
    return float(-(model.residual @ solved + log_determinant + size) / 2), inverse, solved
