"""Expected improvement: the candidates of which the best is likely to be most accurate.

The accuracy model gives a joint normal distribution of the errors of all structures. The best
predicted structures are often alike, and then they are good or bad together. So candidates are
chosen one after another: each adds as much as possible to the expected maximum of those that are
chosen and those that are trained already (multi-point expected improvement, Ginsbourger, Le Riche
and Carraro 2010). The expectation is a mean over draws from the distribution.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from genets.nas.accuracy.bayes import BayesEffects
from genets.structure import Structure

DRAWS = 1024


def choose_candidates(
    effects: BayesEffects,
    structures: Sequence[Structure],
    count: int,
    trained: Sequence[Structure] = (),
    *,
    seed: int = 0,
) -> list[Structure]:
    """Choose up to `count` structures by expected improvement.

    Args:
        effects: Predicts the errors.
        structures: The structures to choose from.
        count: How many to choose.
        trained: Trained structures that meet the budget; the model has their scores. They are not
            chosen. Without any, the first choice is the best predicted structure.
        seed: Seed of the draws.

    Returns:
        The choices; the first one improves most.
    """
    known = list(dict.fromkeys(trained))
    free = [structure for structure in dict.fromkeys(structures) if structure not in set(known)]
    if not free:
        return []
    mean, covariance = effects.joint([*known, *free])
    jitter = 1e-9 * max(float(np.diag(covariance).max()), 1e-12)
    factor = np.linalg.cholesky(covariance + jitter * np.eye(len(mean)))
    normal = np.random.default_rng(seed).normal(size=(DRAWS, len(mean)))
    drawn = mean + normal @ factor.T  # (draws, structures)
    best, options = drawn[:, : len(known)].max(axis=1, initial=-np.inf), drawn[:, len(known) :]
    left = [*range(len(free))]
    chosen: list[int] = []
    while left and len(chosen) < count:
        if chosen or known:
            value = np.maximum(options[:, left], best[:, None]).mean(axis=0)
        else:
            value = mean[left]
        chosen.append(left.pop(int(value.argmax())))
        best = np.maximum(best, options[:, chosen[-1]])
    return [free[number] for number in chosen]
