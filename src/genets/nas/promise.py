"""The budget is a promise: what is selected by prediction is accepted by measurement."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from genets.errors import InfeasibleBudgetError
from genets.latency import Budget, LatencyTable
from genets.nas.alternatives import Product, Types, products_without, types_of
from genets.nas.chain import ChainStage, Floats, Frontier
from genets.nas.measured import Measured
from genets.nas.regression import AccuracyModel
from genets.nas.result import Selected
from genets.nas.selection import frontier
from genets.structure import SpaceAround, Structure, SuperBlock

StageAccuracy = Callable[[int, Sequence[int], Sequence[SuperBlock]], Floats]
Measure = Callable[[Sequence[Structure]], Mapping[Structure, Measured]]
Select = Callable[[LatencyTable, float], Frontier]  # up to a latency in ms per image
Worth = Callable[[Structure], float]

ROUNDS = 5
CANDIDATES = 3
LEAST_SPACING = 0.01
LOWER_AIM = 0.9  # where nothing fits and nothing new is proposed


def keep_promise(
    master: Structure,
    budget: Budget,
    table: LatencyTable,
    model: AccuracyModel,
    select: Select,
    measure: Measure,
    on_round: Callable[[int, int], None] = lambda done, total: None,
    *,
    worth: Worth | None = None,
    known: Mapping[Structure, Measured] | None = None,
) -> Selected:
    """The most accurate structure whose measured 95 % bound keeps the budget.

    Each round selects with the latency table, measures the best few candidates, corrects the
    table by what it measured, and aims as far below the budget as the intervals are wide; it
    ends when something fits and a round proposes nothing new. Of all that was measured, the
    best predicted one whose bound is within the budget is taken. A machine that has become
    slower or faster since the table was made is told by the MasterNet, measured in turn.

    worth: what is best, as `select` sees it; by default the predicted change of value.
    known: other networks measured on this target; they correct the table from the start.
    Raises InfeasibleBudgetError, which carries the fastest structure, where none is.
    """
    latest = measure([master])[master]
    aim_ms = latest.budget_ms(budget) / _pace(latest, table)
    measured: dict[Structure, Measured] = {}
    corrected = _corrected(table, known or {})
    spacing = max(table.rmspe, LEAST_SPACING)
    for number in range(ROUNDS):
        proposed = _candidates(select(corrected, aim_ms), master, aim_ms, spacing)
        fresh = [structure for structure in proposed if structure not in measured]
        if fresh:
            measured |= measure(fresh)
            corrected = _corrected(table, {**(known or {}), **measured})
            steady = _steady({structure: measured[structure] for structure in fresh})
            latest = next(iter(steady.values()))
            widest = max(m.bound_over_median for m in steady.values())
            aim_ms = latest.budget_ms(budget) / _pace(latest, table) / widest
        elif any(m.keeps(budget) for m in measured.values()):
            break
        else:
            aim_ms *= LOWER_AIM
        on_round(number + 1, ROUNDS)
    on_round(ROUNDS, ROUNDS)
    if not any(m.keeps(budget) for m in measured.values()):
        front = select(corrected, aim_ms)
        measured |= measure([front.structure(front.fastest, master)])
    fitting = [structure for structure, m in measured.items() if m.keeps(budget)]
    if not fitting:
        raise _infeasible(measured, budget)
    best = max(fitting, key=worth or (lambda structure: model.predict(structure).mean))
    prediction, kept = model.predict(best), measured[best]
    return Selected(
        structure=best,
        budget_ms=kept.budget_ms(budget),
        predicted_ms=table.predict_ms_per_image(best) * _pace(kept, table),
        measured_ms=kept.network.ms_per_image,
        low_ms=kept.network.low_ms_per_image,
        high_ms=kept.network.high_ms_per_image,
        master_ms=kept.master_ms_per_image,
        noisy=kept.network.noisy,
        predicted_accuracy=prediction.value,
        predicted_accuracy_std=None if math.isnan(prediction.std) else prediction.std,
        table_rmspe=table.rmspe,
    )


def keep_promises(
    top: int,
    keep: Callable[[Sequence[Types], Mapping[Structure, Measured], Measure], Selected],
    products: Product,
    measure: Measure,
) -> list[Selected]:
    """Up to `top` alternatives, best first; see `alternatives`. Each has kept its promise.

    keep: `keep_promise` over all structures but those of the types in its first argument.
    products: the types that each super-block may be of.
    Raises InfeasibleBudgetError where not even one keeps the budget.
    """
    found: list[Selected] = []
    seen: dict[Structure, Measured] = {}

    def measure_and_remember(structures: Sequence[Structure]) -> Mapping[Structure, Measured]:
        seen.update(measured := measure(structures))
        return measured

    while len(found) < top:
        used = [types_of(selected.structure) for selected in found]
        if not products_without(products, used):
            break
        try:
            found.append(keep(used, seen, measure_and_remember))
        except InfeasibleBudgetError:
            if not found:
                raise
            break
    return found


def check_feasible(
    around: SpaceAround, budget: Budget, table: LatencyTable, measure: Measure
) -> None:
    """Raise InfeasibleBudgetError, before anything is trained, where nothing can fit."""
    master = around.master
    front = frontier(chain_of(around, table), table.offset_ms_per_image, max_latency_ms=0.0)
    known = measure([master])[master]
    if front.latency_ms[front.fastest] * _pace(known, table) > known.budget_ms(budget):
        measured = measure([front.structure(front.fastest, master)])
        if not any(m.keeps(budget) for m in measured.values()):
            raise _infeasible(measured, budget)


def chain_of(
    around: SpaceAround, table: LatencyTable, stage_accuracy: StageAccuracy | None = None
) -> tuple[ChainStage, ...]:
    """The design space as a chain: cost from a latency table, worth from an accuracy model.

    Without a model every structure is worth the same.
    """
    stages = []
    widths: tuple[int, ...] = (around.master.stem.width,)
    for index in range(len(around.master.super_blocks)):
        options = around.choices(index)
        latency_ms = table.stage_ms_per_image(index, widths, options)
        accuracy = (
            stage_accuracy(index, widths, options)
            if stage_accuracy is not None
            else np.zeros_like(latency_ms)
        )
        stages.append(ChainStage(options, widths, latency_ms, accuracy))
        widths = around.widths[index]
    head_ms = table.head_ms_per_image(widths)[:, None]
    stages.append(ChainStage((around.master.head,), widths, head_ms, np.zeros_like(head_ms)))
    return tuple(stages)


def _pace(measured: Measured, table: LatencyTable) -> float:
    """How many times slower the machine was then than when the table was made."""
    return measured.master_ms_per_image / table.master_ms_per_image


def _corrected(table: LatencyTable, measured: Mapping[Structure, Measured]) -> LatencyTable:
    """The table, told of networks as they would have measured at its own pace."""
    steady = _steady(measured)
    at_its_pace = {s: m.network.ms_per_image / _pace(m, table) for s, m in steady.items()}
    return table.correct(at_its_pace) if measured else table


def _steady(measured: Mapping[Structure, Measured]) -> Mapping[Structure, Measured]:
    """Those not disturbed, as the others would teach the disturbance; all if there is no other."""
    return {s: m for s, m in measured.items() if not m.disturbed} or measured


def _candidates(
    front: Frontier, master: Structure, budget_ms: float, error: float
) -> list[Structure]:
    """The best at the budget and a little below it, spaced by the error of the predictions.

    Neighbours on the frontier cost nearly the same, so measuring them tells one thing thrice.
    """
    points = (front.best(budget_ms * (1 - step * error)) for step in range(CANDIDATES))
    found = {point for point in points if point is not None} or {front.fastest}
    return [front.structure(point, master) for point in sorted(found, reverse=True)]


def _infeasible(measured: Mapping[Structure, Measured], budget: Budget) -> InfeasibleBudgetError:
    fastest = min(measured, key=lambda structure: measured[structure].network.high_ms_per_image)
    fastest_ms = measured[fastest].network.high_ms_per_image
    budget_ms = measured[fastest].budget_ms(budget)
    doubt = (
        "; but the device was busy with something else while it was measured, so try again"
        if measured[fastest].disturbed
        else ""
    )
    return InfeasibleBudgetError(
        f"no structure of the design space keeps {budget_ms:.4g} ms per image; "
        f"the fastest takes up to {fastest_ms:.4g} ms{doubt}",
        fastest=str(fastest),
        fastest_ms=fastest_ms,
        budget_ms=budget_ms,
    )
