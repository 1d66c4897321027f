"""Selection: the most accurate structure for every latency (paper, section 4.2, Selection).

The paper samples structures at random and keeps the best within the budget. But predicted
accuracy is a sum over stages, and predicted latency a sum over a chain in which a stage
knows of the others only the width that it reads. So for a given width between two stages,
whatever comes after is indifferent to how that width was reached, and of all ways to reach
it only those on the Pareto front of (latency, accuracy) can be part of a best structure.
That makes the whole frontier over the whole space one dynamic programme, without sampling
and without approximation. Sums run in double precision; costs may have any sign.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from genets.core.errors import GenetsError
from genets.nas.selection.chain import (
    ChainStage,
    Floats,
    Frontier,
    Integers,
    check_chain,
    pareto,
    totals,
)

# Candidates added up at once: bounds the memory, the result does not depend on it.
CHUNK = 1 << 20


@dataclass(frozen=True, eq=False)
class _Front:
    """Pareto front of partial structures: latency and accuracy ascending, with their options."""

    latency: Floats  # (points,)
    accuracy: Floats  # (points,)
    chosen: Integers  # (points, stages so far)


# Partial structures by the width at their open end.
_Fronts = dict[int, _Front]


def frontier(
    stages: Sequence[ChainStage], offset_ms: float = 0.0, *, max_latency_ms: float = math.inf
) -> Frontier:
    """The best structures of a chain for every latency: exact, deterministic.

    Fronts grow from the stem on and from the head back, and meet in the middle: two short
    fronts make far fewer candidates than a long one with one more stage. Of structures
    equal in latency and accuracy one is kept, always the same.

    offset_ms: latency that every structure has.
    max_latency_ms: structures above it are left out (the fastest one of all stays), which
        saves time where only small budgets are of interest.
    """
    check_chain(stages)
    if not math.isfinite(offset_ms) or math.isnan(max_latency_ms):
        raise GenetsError(
            f"offset_ms must be finite and max_latency_ms a number, "
            f"not {offset_ms} and {max_latency_ms}"
        )
    steps = [_option_fronts(stage) for stage in stages]
    to_come = _least_latency_to_come(stages)
    limit = max(max_latency_ms - offset_ms, float(to_come[0][stages[0].input_widths[0]]))
    # Room for the rounding of sums taken in another order; the exact cut comes last.
    limit += 1e-9 * (abs(limit) + 1) if math.isfinite(limit) else 0.0
    before, after = _grow_both_ends(steps, to_come, limit)
    met = _best_sums(((before[width], after[width]) for width in before), limit)
    return _exact_frontier(tuple(stages), met.chosen, offset_ms, max_latency_ms)


def _exact_frontier(
    stages: tuple[ChainStage, ...], chosen: Integers, offset_ms: float, max_latency_ms: float
) -> Frontier:
    """Add up from the stem on, as anybody would, so that the claims are the sums themselves."""
    latency, accuracy = totals(stages, chosen, offset_ms)
    kept = pareto(latency, accuracy)
    kept = kept[: max(1, int(np.searchsorted(latency[kept], max_latency_ms, side="right")))]
    return Frontier(stages, latency[kept], accuracy[kept], chosen[kept])


def _option_fronts(stage: ChainStage) -> dict[tuple[int, int], _Front]:
    """For each (input width, output width) the front of the options between them."""
    fronts = {}
    for width_out in stage.distinct_output_widths:
        columns = np.flatnonzero(stage.output_widths == width_out)
        for width_in, row in stage.input_index.items():
            latency, accuracy = stage.latency_ms[row, columns], stage.accuracy[row, columns]
            kept = pareto(latency, accuracy)
            chosen = columns[kept].astype(np.int32)[:, None]
            fronts[width_in, width_out] = _Front(latency[kept], accuracy[kept], chosen)
    return fronts


def _least_latency_to_come(stages: Sequence[ChainStage]) -> list[dict[int, float]]:
    """For each stage and input width the least latency of that stage and all later ones."""
    least: list[dict[int, float]] = [{}]
    for number in range(len(stages) - 1, -1, -1):
        stage, later = stages[number], least[0]
        rest = np.array([later.get(option.width, 0.0) for option in stage.options])
        fastest = (stage.latency_ms + rest).min(axis=1)
        least.insert(0, dict(zip(stage.input_widths, fastest.tolist(), strict=True)))
    return least


def _grow_both_ends(
    steps: list[dict[tuple[int, int], _Front]], to_come: list[dict[int, float]], limit: float
) -> tuple[_Fronts, _Fronts]:
    """Fronts from the stem on and from the head back, by the width where they meet."""
    nothing = _Front(np.zeros(1), np.zeros(1), np.zeros((1, 0), np.int32))
    before: _Fronts = {width: nothing for width, _ in steps[0]}
    after: _Fronts = {width: nothing for _, width in steps[-1]}
    first, last = 0, len(steps)
    while first < last:
        # The side with fewer points grows: that keeps the two about equally long.
        if _points(before) <= _points(after):
            before = _grow_forward(before, steps[first], to_come[first + 1], limit)
            first += 1
        else:
            last -= 1
            after = _grow_back(steps[last], after)
    return before, after


def _points(fronts: _Fronts) -> int:
    return sum(len(front.latency) for front in fronts.values())


def _grow_forward(
    before: _Fronts, step: dict[tuple[int, int], _Front], to_come: dict[int, float], limit: float
) -> _Fronts:
    grown = {}
    for width_out in sorted({width for _, width in step}):
        pairs = ((before[width], step[width, width_out]) for width in sorted(before))
        front = _best_sums(pairs, limit - to_come.get(width_out, 0.0))
        if len(front.latency):
            grown[width_out] = front
    return grown


def _grow_back(step: dict[tuple[int, int], _Front], after: _Fronts) -> _Fronts:
    widths_in = sorted({width for width, _ in step})
    widths_out = sorted({width for _, width in step})
    return {
        width_in: _best_sums((step[width_in, width], after[width]) for width in widths_out)
        for width_in in widths_in
    }


def _best_sums(pairs: Iterable[tuple[_Front, _Front]], limit: float = math.inf) -> _Front:
    """The Pareto front of all sums of one point of the left and one of the right of each pair.

    Sums of a latency above `limit` are left out.
    """
    sides = list(pairs)
    latency, accuracy = np.empty(0), np.empty(0)
    origin = np.empty((0, 3), np.int64)  # pair, point of its left, point of its right
    for number, (left, right) in enumerate(sides):
        rows = max(1, CHUNK // len(right.latency))
        for start in range(0, len(left.latency), rows):
            part = slice(start, start + rows)
            sums = (left.latency[part, None] + right.latency).ravel()
            worth = (left.accuracy[part, None] + right.accuracy).ravel()
            kept = _survivors(sums, worth, limit, latency, accuracy)
            row, column = np.divmod(kept, len(right.latency))
            found = np.stack((np.full_like(kept, number), row + start, column), axis=1)
            latency = np.concatenate((latency, sums[kept]))
            accuracy = np.concatenate((accuracy, worth[kept]))
            best = pareto(latency, accuracy) if len(latency) else np.empty(0, np.int64)
            latency, accuracy = latency[best], accuracy[best]
            origin = np.concatenate((origin, found))[best]
    return _Front(latency, accuracy, _chosen(sides, origin))


def _survivors(
    sums: Floats, worth: Floats, limit: float, latency: Floats, accuracy: Floats
) -> npt.NDArray[np.int64]:
    """Indices of the sums within the limit that the front (latency, accuracy) does not beat."""
    kept = np.flatnonzero(sums <= limit)
    if len(latency):
        faster = np.searchsorted(latency, sums[kept], side="right")
        bound = np.concatenate(([-math.inf], accuracy))[faster]
        kept = kept[worth[kept] > bound]
    return kept


def _chosen(sides: list[tuple[_Front, _Front]], origin: npt.NDArray[np.int64]) -> Integers:
    """The options of the sums, stage by stage."""
    left_stages, right_stages = sides[0][0].chosen.shape[1], sides[0][1].chosen.shape[1]
    chosen = np.empty((len(origin), left_stages + right_stages), np.int32)
    for number, (left, right) in enumerate(sides):
        here = np.flatnonzero(origin[:, 0] == number)
        chosen[here, :left_stages] = left.chosen[origin[here, 1]]
        chosen[here, left_stages:] = right.chosen[origin[here, 2]]
    return chosen


def random_selection(
    stages: Sequence[ChainStage],
    budget_ms: float,
    samples: int,
    rng: np.random.Generator,
    offset_ms: float = 0.0,
) -> Frontier:
    """The paper's way, for comparison: random structures, the best of those within the budget.

    Every stage's option is drawn uniformly. Returns the frontier of the drawn structures that
    keep the budget; it is empty where none does.
    """
    check_chain(stages)
    if samples < 1:
        raise GenetsError(f"samples must be at least 1, not {samples}")
    drawn = [rng.integers(len(stage.options), size=samples, dtype=np.int32) for stage in stages]
    chosen = np.stack(drawn, axis=1)
    latency, accuracy = totals(stages, chosen, offset_ms)
    fitting = np.flatnonzero(latency <= budget_ms)
    kept = fitting[pareto(latency[fitting], accuracy[fitting])] if len(fitting) else fitting
    return Frontier(tuple(stages), latency[kept], accuracy[kept], chosen[kept])
