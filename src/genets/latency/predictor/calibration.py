"""Calibration: the sum over stages brought to what whole networks take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from genets.latency.predictor.work import Array

# Ridge penalties, in squared relative errors of one network. A common factor is nearly free
# (chains run with warmer caches than networks do); stages may differ from it only where
# many networks agree.
PENALTY_COMMON = 0.003
PENALTY_PART = 0.3
PENALTY_OFFSET = 0.01
MOST_REBATE = 0.5  # of the least that each part takes in any network


@dataclass(frozen=True)
class Calibration:
    """`offset_ms + sum(factors * costs)`: one factor for each part, ms per batch.

    The parts are the stages in order, the classifier with the head.
    """

    factors: Array
    offset_ms: float

    @classmethod
    def none(cls, parts: int) -> Calibration:
        return cls(np.ones(parts), 0.0)

    @classmethod
    def fit(cls, costs: Array, measured_ms: Array, weights: Sequence[float]) -> Calibration:
        """Weighted ridge regression of relative errors, towards factors of 1 and no offset.

        costs: (networks, parts), ms per batch. measured_ms, weights: (networks,).
        """
        networks, parts = costs.shape
        scale = float(np.median(measured_ms))
        # factor of part k = 1 + common + own[k]
        design = np.column_stack((costs, costs.sum(axis=1), np.full(networks, scale)))
        relative = design / measured_ms[:, None]
        missing = 1 - costs.sum(axis=1) / measured_ms
        penalty = np.diag([PENALTY_PART] * parts + [PENALTY_COMMON, PENALTY_OFFSET])
        weighted = relative * np.asarray(weights)[:, None]
        solution = np.linalg.solve(weighted.T @ relative + penalty, weighted.T @ missing)
        # A factor below this would make wider networks all but free.
        factors = np.maximum(1 + solution[:parts] + solution[parts], 0.1)
        # On a disturbed device anything may fit best, but no network takes less than no time.
        least = -MOST_REBATE * float(factors @ costs.min(axis=0))
        return cls(factors, max(least, float(solution[-1] * scale)))
