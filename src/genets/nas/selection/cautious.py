"""Cautious selection: by the lower confidence bound of the predicted change of value.

With f(x) the features of a structure x, and m and C the mean and covariance of the effects, its
predicted change against the MasterNet is f·m, of standard deviation sqrt(f'Cf), and its bound

    L(x) = f·m - z sqrt(f'Cf).

Standard deviations do not add up over stages, so no dynamic programme maximises L. But L(x) is
the least f·w of all effects w within z standard deviations of m, so for each such w

    max L(x)  <=  max f(x)·w        (x within the budget),

and the right side is linear: the exact programme solves it. Frank-Wolfe steps on the convex hull
of all f(x) find effects w for which the right side is small. What comes out is the best L of all
structures on the way, improved one stage at a time, and the least right side as a ceiling:
no structure within the budget has a bound above it. The two need not meet, as the hull has points
that are no structures; the difference is reported, not hidden.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize_scalar

from genets.core.errors import GenetsError
from genets.nas.accuracy.bayes import BayesEffects
from genets.nas.accuracy.features import EVERYWHERE
from genets.nas.accuracy.model import AccuracyModel
from genets.nas.selection.chain import ChainStage, Floats, Frontier, Integers, pareto, totals
from genets.nas.selection.frontier import frontier
from genets.structure import Structure

STEPS = 10  # of Frank and Wolfe; each is one dynamic programme
SWEEPS = 4  # over all stages, improving the best structure; mostly the second finds nothing
TOLERANCE = 0.01  # of the standard deviation: a ceiling this near is near enough


def check_caution(caution: float, model: AccuracyModel) -> None:
    """Raise GenetsError where the model has no standard deviations to be cautious with."""
    if not (math.isfinite(caution) and caution >= 0):
        raise GenetsError(f"caution must be a number of at least 0, not {caution}")
    if caution and not isinstance(model.effects, BayesEffects):
        raise GenetsError(
            f"regression {model.form!r} of this study has no standard deviations to be cautious "
            "with; select without --cautious, or search with regression 'bayes'"
        )


def lower_bound(model: AccuracyModel, structure: Structure, caution: float) -> float:
    """Predicted change of value less `caution` standard deviations."""
    prediction = model.predict(structure)
    return prediction.mean - (caution * prediction.std if caution else 0.0)


@dataclass(frozen=True, eq=False)
class _Design:
    """The features of every option of a chain: a structure's are the sum over its stages.

    local: by stage (options, columns). trend: by stage (input widths, options), the one column
    that depends on the width that comes in.
    """

    stages: tuple[ChainStage, ...]
    local: tuple[Floats, ...]
    trend: tuple[Floats, ...]
    trend_column: int
    mean: Floats
    covariance: Floats
    caution: float

    @classmethod
    def of(cls, stages: Sequence[ChainStage], effects: BayesEffects, caution: float) -> _Design:
        """stages: from the stem to the head."""
        features = effects.map
        places = list(zip(features.master.indices, stages, strict=True))
        return cls(
            tuple(stages),
            tuple(features.local(index, stage.options) for index, stage in places),
            tuple(features.trend(i, stage.input_widths, stage.options) for i, stage in places),
            features.columns["trend", EVERYWHERE, EVERYWHERE],
            effects.posterior.mean,
            effects.posterior.covariance,
            caution,
        )

    def weighed(self, weights: Floats) -> list[ChainStage]:
        """The chain with the worth that options have if the effects are `weights`."""
        slope = weights[self.trend_column]
        worths = (local @ weights + slope * trend
                  for local, trend in zip(self.local, self.trend, strict=True))  # fmt: skip
        pairs = zip(self.stages, worths, strict=True)
        return [replace(stage, accuracy=worth) for stage, worth in pairs]

    def features(self, chosen: Integers) -> Floats:
        """(structures, columns)."""
        found = np.zeros((len(chosen), len(self.mean)))
        row = np.zeros(len(chosen), np.int64)
        for number, (local, trend) in enumerate(zip(self.local, self.trend, strict=True)):
            column = chosen[:, number]
            found += local[column]
            found[:, self.trend_column] += trend[row, column]
            if number + 1 < len(self.stages):
                following = self.stages[number + 1].input_index
                widths = self.stages[number].output_widths[column]
                row = np.array([following[int(width)] for width in widths], np.int64)
        return found

    def bounds(self, features: Floats) -> Floats:
        """(structures,): mean less `caution` standard deviations."""
        return features @ self.mean - self.caution * self.stds(features)

    def stds(self, features: Floats) -> Floats:
        variance = ((features @ self.covariance) * features).sum(axis=1)
        return np.asarray(np.sqrt(np.maximum(variance, 0.0)))

    def worst(self, center: Floats) -> Floats:
        """(columns,): of the effects within `caution` std those that speak most against it."""
        std = float(self.stds(center[None])[0])
        if std == 0:
            return self.mean
        return np.asarray(self.mean - self.caution * (self.covariance @ center) / std)

    def toward(self, center: Floats, corner: Floats) -> Floats:
        """The point between the two whose bound is best."""
        step = minimize_scalar(
            lambda s: -float(self.bounds((center + s * (corner - center))[None])[0]),
            bounds=(0.0, 1.0),
            method="bounded",
        ).x
        return center + float(step) * (corner - center)


def cautious_frontier(
    stages: Sequence[ChainStage],
    effects: BayesEffects,
    caution: float,
    offset_ms: float = 0.0,
    *,
    max_latency_ms: float = math.inf,
) -> tuple[Frontier, float]:
    """The best bounds found by latency (as `accuracy`), and a ceiling.

    caution: z, the standard deviations that are subtracted. No structure within
    `max_latency_ms` has a bound above the ceiling; the frontier's last point is near it, while
    points further below are by-products that no ceiling speaks of. Deterministic.
    """
    design = _Design.of(stages, effects, caution)
    weights, center, ceiling, floor = design.mean, None, math.inf, -math.inf
    pool: list[Integers] = []
    for _ in range(STEPS):
        front = frontier(design.weighed(weights), offset_ms, max_latency_ms=max_latency_ms)
        best = front.best(max_latency_ms) or front.fastest
        pool.append(front.chosen)
        features = design.features(front.chosen[: best + 1])
        ceiling = min(ceiling, float(front.accuracy[best]))
        floor = max(floor, float(design.bounds(features).max()))
        corner = features[best]
        center = corner if center is None else design.toward(center, corner)
        weights = design.worst(center)
        if ceiling - floor <= TOLERANCE * float(design.stds(center[None])[0]):
            break
    chosen = np.concatenate(pool)
    improved = _improved(design, _merged(design, chosen, offset_ms), offset_ms, max_latency_ms)
    return _merged(design, np.concatenate((chosen, improved)), offset_ms), ceiling


def _merged(design: _Design, chosen: Integers, offset_ms: float) -> Frontier:
    latency, _ = totals(design.stages, chosen, offset_ms)
    bounds = design.bounds(design.features(chosen))
    kept = pareto(latency, bounds)
    return Frontier(design.stages, latency[kept], bounds[kept], chosen[kept])


def _improved(
    design: _Design, front: Frontier, offset_ms: float, max_latency_ms: float
) -> Integers:
    """(1, stages): the best structure, with one stage after another replaced by what is best
    there, until nothing is.
    """
    best = front.best(max_latency_ms)
    chosen = front.chosen[[front.fastest if best is None else best]]
    for _ in range(SWEEPS):
        before = chosen
        for number in range(len(design.local)):
            options = np.repeat(chosen, len(design.stages[number].options), axis=0)
            options[:, number] = np.arange(len(options))
            options = np.concatenate((chosen, options))  # what stands comes first: it wins ties
            latency, _ = totals(design.stages, options, offset_ms)
            bounds = design.bounds(design.features(options))
            bounds[1:][latency[1:] > max_latency_ms] = -math.inf
            chosen = options[[int(bounds.argmax())]]
        if (chosen == before).all():
            break
    return chosen
