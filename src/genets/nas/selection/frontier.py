"""The frontier: the best predicted structure for every latency (paper, section 4.2, Selection).

The paper samples structures at random and takes the best within the budget. But the predicted gain
is a sum over stages, and the predicted latency is a sum over a chain: a stage depends on the other
stages only by its input width. So for a given width between two stages, the later stages do not
depend on how that width was reached. Of all ways to reach it, only those on the Pareto front of
(latency, gain) can be part of a best structure. The whole frontier of the whole space is therefore
one dynamic programme, without sampling and without approximation. Sums run in double precision;
latencies and gains may have any sign.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from genets.nas.selection.chain import ChainStage, Floats, Integers, check_chain, totals
from genets.structure import Structure, SuperBlock

CHUNK = 1 << 20  # sums computed at once: limits the memory, does not change the result


@dataclass(frozen=True, eq=False)
class Frontier:
    """The structures that no other structure beats in both latency and predicted gain.

    Attributes:
        stages: the chain of the search space.
        latency_ms: (points,), predicted latency per image, strictly ascending.
        gain: (points,), predicted gain over the MasterNet, strictly ascending.
        chosen: (points, stages), the index of the option of each stage.
    """

    stages: tuple[ChainStage, ...]
    latency_ms: Floats
    gain: Floats
    chosen: Integers

    def __len__(self) -> int:
        return len(self.latency_ms)

    @property
    def fastest(self) -> int:
        """The point of the fastest structure (the most accurate of several equally fast)."""
        return 0

    def best(self, budget_ms: float) -> int | None:
        """The point of the structure with the highest gain within the budget; None if none fits."""
        assert not math.isnan(budget_ms)
        count = int(np.searchsorted(self.latency_ms, budget_ms, side="right"))
        return count - 1 if count else None

    def choice(self, point: int) -> tuple[SuperBlock, ...]:
        """The option of each stage at a point, in the order of the stages."""
        return tuple(
            stage.options[option]
            for stage, option in zip(self.stages, self.chosen[point], strict=True)
        )

    def structure(self, point: int, resolution: int) -> Structure:
        """The structure at a point, for a chain from the stem to the head."""
        return Structure(self.choice(point), resolution)


@dataclass(frozen=True, eq=False)
class _Front:
    """Pareto front of partial structures: latency and gain ascending, with their options."""

    latency: Floats  # (points,)
    gain: Floats  # (points,)
    chosen: Integers  # (points, stages so far)


# Partial structures by the width at their open end.
_Fronts = dict[int, _Front]


def pareto(latency: Floats, gain: Floats) -> npt.NDArray[np.int64]:
    """Indices of the points that no other point beats, ascending in latency and gain.

    The first of several equal points stays.
    """
    order = np.argsort(latency, kind="stable")
    ordered = gain[order]
    before = np.maximum.accumulate(ordered)[:-1]
    order = order[np.concatenate(([True], ordered[1:] > before))]
    # Among equal latencies the gain ascends here, so only the last point stays.
    last = np.concatenate((latency[order][1:] > latency[order][:-1], [True]))
    return order[last]


def frontier(
    stages: Sequence[ChainStage], offset_ms: float = 0.0, *, max_latency_ms: float = math.inf
) -> Frontier:
    """Compute the best structures of a chain for every latency; exact and deterministic.

    Fronts grow from the stem forwards and from the head backwards, and meet in the middle: two
    short fronts make far fewer sums than one long front and one more stage. Of several structures
    with equal latency and gain, always the same one stays.

    Args:
        stages: the chain.
        offset_ms: latency that every structure has in addition.
        max_latency_ms: slower structures are left out, except the fastest one of all. This saves
            time where only small budgets matter.
    """
    check_chain(stages)
    assert math.isfinite(offset_ms)
    assert not math.isnan(max_latency_ms)
    steps = [_option_fronts(stage) for stage in stages]
    remaining = _min_remaining_latency(stages)
    limit = max(max_latency_ms - offset_ms, float(remaining[0][stages[0].input_widths[0]]))
    # Leaves room for the rounding of sums in another order; the exact cut comes last.
    limit += 1e-9 * (abs(limit) + 1) if math.isfinite(limit) else 0.0
    before, after = _grow_both_ends(steps, remaining, limit)
    joined = _best_sums(((before[width], after[width]) for width in before), limit)
    return _exact_frontier(tuple(stages), joined.chosen, offset_ms, max_latency_ms)


def _exact_frontier(
    stages: tuple[ChainStage, ...], chosen: Integers, offset_ms: float, max_latency_ms: float
) -> Frontier:
    """Add up again in the order of the stages, so that the results equal plain sums exactly."""
    latency, gain = totals(stages, chosen, offset_ms)
    best = pareto(latency, gain)
    best = best[: max(1, int(np.searchsorted(latency[best], max_latency_ms, side="right")))]
    return Frontier(stages, latency[best], gain[best], chosen[best])


def _option_fronts(stage: ChainStage) -> dict[tuple[int, int], _Front]:
    """For each (input width, output width) the front of the options between them."""
    fronts = {}
    for width_out in stage.distinct_output_widths:
        columns = np.flatnonzero(stage.output_widths == width_out)
        for width_in, row in stage.input_index.items():
            latency, gain = stage.latency_ms[row, columns], stage.gain[row, columns]
            best = pareto(latency, gain)
            chosen = columns[best].astype(np.int32)[:, None]
            fronts[width_in, width_out] = _Front(latency[best], gain[best], chosen)
    return fronts


def _min_remaining_latency(stages: Sequence[ChainStage]) -> list[dict[int, float]]:
    """For each stage and input width the lowest latency of this stage and all later ones."""
    lowest: list[dict[int, float]] = [{}]
    for stage in reversed(stages):
        rest = np.array([lowest[0].get(option.width, 0.0) for option in stage.options])
        fastest = (stage.latency_ms + rest).min(axis=1)
        lowest.insert(0, dict(zip(stage.input_widths, fastest.tolist(), strict=True)))
    return lowest


def _grow_both_ends(
    steps: list[dict[tuple[int, int], _Front]], remaining: list[dict[int, float]], limit: float
) -> tuple[_Fronts, _Fronts]:
    """Fronts from the stem forwards and from the head backwards, by the width where they meet."""
    empty = _Front(np.zeros(1), np.zeros(1), np.zeros((1, 0), np.int32))
    before: _Fronts = {width: empty for width, _ in steps[0]}
    after: _Fronts = {width: empty for _, width in steps[-1]}
    first, last = 0, len(steps)
    while first < last:
        # The side with fewer points grows, so that both sides stay about equally long.
        if _count_points(before) <= _count_points(after):
            before = _grow_forward(before, steps[first], remaining[first + 1], limit)
            first += 1
        else:
            last -= 1
            after = _grow_back(steps[last], after)
    return before, after


def _count_points(fronts: _Fronts) -> int:
    return sum(len(front.latency) for front in fronts.values())


def _grow_forward(
    before: _Fronts, step: dict[tuple[int, int], _Front], remaining: dict[int, float], limit: float
) -> _Fronts:
    grown = {}
    for width_out in sorted({width for _, width in step}):
        pairs = ((before[width], step[width, width_out]) for width in sorted(before))
        front = _best_sums(pairs, limit - remaining.get(width_out, 0.0))
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
    """The Pareto front of all sums of one left and one right point of each pair.

    Sums with a latency above `limit` are left out.
    """
    sides = list(pairs)
    latency, gain = np.empty(0), np.empty(0)
    origin = np.empty((0, 3), np.int64)  # the pair, its left point, its right point
    for number, (left, right) in enumerate(sides):
        rows = max(1, CHUNK // len(right.latency))
        for start in range(0, len(left.latency), rows):
            part = slice(start, start + rows)
            latency_sums = (left.latency[part, None] + right.latency).ravel()
            gain_sums = (left.gain[part, None] + right.gain).ravel()
            new = _survivors(latency_sums, gain_sums, limit, latency, gain)
            row, column = np.divmod(new, len(right.latency))
            new_origin = np.stack((np.full_like(new, number), row + start, column), axis=1)
            latency = np.concatenate((latency, latency_sums[new]))
            gain = np.concatenate((gain, gain_sums[new]))
            best = pareto(latency, gain) if len(latency) else np.empty(0, np.int64)
            latency, gain = latency[best], gain[best]
            origin = np.concatenate((origin, new_origin))[best]
    return _Front(latency, gain, _join_choices(sides, origin))


def _survivors(
    latency_sums: Floats, gain_sums: Floats, limit: float, latency: Floats, gain: Floats
) -> npt.NDArray[np.int64]:
    """Indices of the sums within the limit that the front (latency, gain) does not beat."""
    within = np.flatnonzero(latency_sums <= limit)
    if len(latency):
        faster = np.searchsorted(latency, latency_sums[within], side="right")
        bound = np.concatenate(([-math.inf], gain))[faster]
        within = within[gain_sums[within] > bound]
    return within


def _join_choices(sides: list[tuple[_Front, _Front]], origin: npt.NDArray[np.int64]) -> Integers:
    """The options of the sums, stage by stage."""
    left_stages, right_stages = sides[0][0].chosen.shape[1], sides[0][1].chosen.shape[1]
    chosen = np.empty((len(origin), left_stages + right_stages), np.int32)
    for number, (left, right) in enumerate(sides):
        own = np.flatnonzero(origin[:, 0] == number)
        chosen[own, :left_stages] = left.chosen[origin[own, 1]]
        chosen[own, left_stages:] = right.chosen[origin[own, 2]]
    return chosen


def random_selection(
    stages: Sequence[ChainStage],
    budget_ms: float,
    samples: int,
    rng: np.random.Generator,
    offset_ms: float = 0.0,
) -> Frontier:
    """Select as the paper does: draw structures at random, take the best within the budget.

    The option of every stage is drawn uniformly.

    Returns:
        The frontier of the drawn structures within the budget; it is empty if none is within it.
    """
    check_chain(stages)
    assert samples >= 1
    drawn = [rng.integers(len(stage.options), size=samples, dtype=np.int32) for stage in stages]
    chosen = np.stack(drawn, axis=1)
    latency, gain = totals(stages, chosen, offset_ms)
    within = np.flatnonzero(latency <= budget_ms)
    best = within[pareto(latency[within], gain[within])] if len(within) else within
    return Frontier(tuple(stages), latency[best], gain[best], chosen[best])
