"""The budget is a promise: what is selected by prediction is accepted by measurement."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from genets.latency import Budget, LatencyTable
from genets.nas.accuracy.model import AccuracyModel
from genets.nas.selection.alternatives import BlockTypes, TypeProduct, block_types, products_without
from genets.nas.selection.chain import Frontier
from genets.nas.selection.fastest import Measure, fastest_few, infeasible
from genets.nas.selection.measured import NetworkLatency
from genets.nas.study.records import Candidate
from genets.structure import Structure

# Up to a latency in ms per image, over all structures but those of the given types.
Select = Callable[[LatencyTable, float, Sequence[BlockTypes]], Frontier]
Worth = Callable[[Structure], float]
OnRound = Callable[[int, int], None]

ROUNDS = 5
CANDIDATES = 3
LEAST_SPACING = 0.01
MOST_UNUSED = 0.05  # of the budget; where the best leaves more, some in between are measured too
LOWER_AIM = 0.9  # where nothing fits and nothing new is proposed


def keep_promises(
    master: Structure,
    budget: Budget,
    table: LatencyTable,
    model: AccuracyModel,
    select: Select,
    measure: Measure,
    on_round: OnRound = lambda done, total: None,
    *,
    products: TypeProduct,
    resolution: int | None = None,
    worth: Worth | None = None,
    top: int = 1,
) -> list[Candidate]:
    """The most accurate structures whose measured 95 % bounds keep the budget, best first.

    Each round selects with the latency table, measures the best few candidates, corrects the
    table by what it measured, and aims as far below the budget as the intervals are wide; it
    ends when something fits, without much of the budget left where there is more to be had, and a
    round proposes nothing new. Of all that was measured, the
    best predicted whose bound is within the budget are taken. A machine that has become
    slower or faster since the table was made is told by the MasterNet, measured in turn.

    products: the types that each stage may be of.
    resolution: of the structures; by default the MasterNet's.
    worth: what is best, as `select` sees it; by default the predicted change of value.
    top: how many; each is of other block types, see `alternatives`, and all are measured in the
        same rounds. Fewer where no more types keep the budget.
    Raises InfeasibleBudgetError, which carries the fastest structure, where none does.
    """
    worth = worth or (lambda structure: model.predict(structure).mean)
    known = _Knowledge(master, resolution or master.resolution, budget, table, measure)
    for number in range(ROUNDS):
        on_round(number, ROUNDS)
        proposed = _proposed(known, select, products, top)
        fresh = [structure for structure in proposed if structure not in known.measured]
        if not fresh and known.fitting:
            fresh = _closer(known, select, worth)
            if not fresh:
                break
        if fresh:
            known.add(fresh)
        else:
            known.aim_ms *= LOWER_AIM
    on_round(ROUNDS, ROUNDS)
    if not known.fitting:
        known.add(_fastest(known, select, products))
    fitting = known.fitting
    if not fitting:
        raise infeasible(known.measured, budget, f" at {resolution} pixels" * bool(resolution))
    best = sorted(fitting, key=worth, reverse=True)
    first_of_types = {block_types(structure): structure for structure in reversed(best)}
    taken = [structure for structure in best if structure in first_of_types.values()][:top]
    return [_promised(known, structure, table, model) for structure in taken]


class _Knowledge:
    """What has been measured so far, and what follows from it for the next round.

    resolution: of what is selected.
    """

    def __init__(
        self,
        master: Structure,
        resolution: int,
        budget: Budget,
        table: LatencyTable,
        measure: Measure,
    ) -> None:
        self.master = master
        self.resolution = resolution
        self.budget = budget
        self.table = table
        self.corrected = table
        self.measured: dict[Structure, NetworkLatency] = {}
        self.aim_ms = self._aim(measure([master])[master])
        self._measure = measure

    @property
    def fitting(self) -> dict[Structure, NetworkLatency]:
        """What keeps the budget, of all that was measured."""
        return {structure: m for structure, m in self.measured.items() if m.keeps(self.budget)}

    def add(self, structures: Sequence[Structure]) -> None:
        """Measure them, correct the table, and move the aim."""
        measured = self._measure(structures)
        self.measured |= measured
        self.corrected = _corrected(self.table, self.measured)
        steady = [*_steady(measured).values()]
        self.aim_ms = self._aim(steady[0]) / max(m.bound_over_median for m in steady)

    def _aim(self, latest: NetworkLatency) -> float:
        """The budget at the pace of the table."""
        return latest.budget_ms(self.budget) / latest.pace(self.table)


def _proposed(
    known: _Knowledge, select: Select, products: TypeProduct, top: int
) -> Sequence[Structure]:
    """The best by prediction at the aim and a little below it, and the best of other types.

    Types of which something keeps the budget already are not proposed again, but the best's.
    Where nothing is predicted to reach the aim, the fastest there are.
    """
    spacing = max(known.table.rmspe, LEAST_SPACING)
    front = select(known.corrected, known.aim_ms, ())
    if front.best(known.aim_ms) is None:
        return _fastest(known, select, products)
    near = max(2, CANDIDATES + 1 - top)  # other types are measured beside them
    proposed = _candidates(front, known.resolution, known.aim_ms, spacing, near)
    used = [block_types(proposed[0])]
    kept = {block_types(structure) for structure in known.fitting}
    while len(used) < top and products_without(products, used):
        front = select(known.corrected, known.aim_ms, used)
        point = front.best(known.aim_ms)
        if point is None:
            break
        structure = front.structure(point, known.resolution)
        used.append(block_types(structure))
        if used[-1] not in kept:
            proposed.append(structure)
    return proposed


def _fastest(known: _Knowledge, select: Select, products: TypeProduct) -> list[Structure]:
    return fastest_few(
        lambda used: select(known.corrected, known.aim_ms, used), products, known.resolution
    )


def _closer(known: _Knowledge, select: Select, worth: Worth) -> list[Structure]:
    """Where the best that keeps the budget leaves much of it: some that promise more, if any.

    What is predicted to reach the budget may have turned out too slow. Between that and the best
    there are others, not measured yet; they are taken evenly spread.
    """
    best = max(known.fitting, key=worth)
    kept, least = known.fitting[best], worth(best)
    if kept.network.high_ms_per_image >= (1 - MOST_UNUSED) * kept.budget_ms(known.budget):
        return []
    front = select(known.corrected, known.aim_ms, ())
    last = front.best(known.aim_ms)
    points = range(0 if last is None else last + 1)
    promising = [
        structure
        for structure in (front.structure(point, known.resolution) for point in points)
        if structure not in known.measured and worth(structure) > least
    ]
    spread = np.linspace(0, len(promising) - 1, min(CANDIDATES, len(promising)))
    return [promising[which] for which in spread.round().astype(int)]


def _promised(
    known: _Knowledge, structure: Structure, table: LatencyTable, model: AccuracyModel
) -> Candidate:
    kept, budget = known.measured[structure], known.budget
    prediction = model.predict(structure)
    # Trials tell which structure is better at any resolution, but not how good it is there.
    at_own = known.resolution == model.master.resolution
    std = prediction.std if at_own else math.nan
    return Candidate(
        structure=structure,
        budget_ms=kept.budget_ms(budget),
        predicted_ms=table.predict_ms_per_image(structure) * kept.pace(table),
        measured_ms=kept.network.ms_per_image,
        low_ms=kept.network.low_ms_per_image,
        high_ms=kept.network.high_ms_per_image,
        master_ms=kept.master_ms_per_image,
        noisy=kept.network.noisy,
        predicted_accuracy=prediction.value if at_own else None,
        predicted_accuracy_std=None if math.isnan(std) else std,
        table_rmspe=table.rmspe,
        outside=model.tried.outside(structure),
    )


def _corrected(table: LatencyTable, measured: Mapping[Structure, NetworkLatency]) -> LatencyTable:
    """The table, told of networks as they would have measured at its own pace."""
    steady = _steady(measured)
    at_its_pace = {s: m.network.ms_per_image / m.pace(table) for s, m in steady.items()}
    return table.correct(at_its_pace) if measured else table


def _steady(measured: Mapping[Structure, NetworkLatency]) -> Mapping[Structure, NetworkLatency]:
    """Those not disturbed, as the others would teach the disturbance; all if there is no other."""
    return {s: m for s, m in measured.items() if not m.disturbed} or measured


def _candidates(
    front: Frontier, resolution: int, budget_ms: float, error: float, count: int
) -> list[Structure]:
    """The best at the budget and a little below it, spaced by the error of the predictions.

    Neighbours on the frontier cost nearly the same, so measuring them tells one thing thrice.
    """
    points = (front.best(budget_ms * (1 - step * error)) for step in range(count))
    found = {point for point in points if point is not None} or {front.fastest}
    return [front.structure(point, resolution) for point in sorted(found, reverse=True)]
