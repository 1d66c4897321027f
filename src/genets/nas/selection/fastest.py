"""Whether a budget can be kept at all: the fastest structures there are, measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from genets.core.errors import InfeasibleBudgetError
from genets.latency import Budget, LatencyTable
from genets.nas.selection.alternatives import (
    BlockTypes,
    TypeProduct,
    allowed_types,
    block_types,
    frontier_without,
    products_without,
)
from genets.nas.selection.chain import ChainStage, Frontier, make_chain
from genets.nas.selection.frontier import frontier
from genets.nas.selection.measured import NetworkLatency
from genets.structure import SearchSpace, Structure

Measure = Callable[[Sequence[Structure]], Mapping[Structure, NetworkLatency]]

FASTEST = 3  # measured before a budget is refused, as no table knows which of them is the fastest


def check_feasible(
    around: SearchSpace, budget: Budget, table: LatencyTable, measure: Measure
) -> None:
    """Raise InfeasibleBudgetError, before anything is trained, where nothing can fit."""
    few = min(
        (_fastest_at(around, table, resolution) for resolution in around.resolutions),
        key=lambda found: table.predict_ms_per_image(found[0]),
    )
    known = measure([around.master])[around.master]
    if table.predict_ms_per_image(few[0]) * known.pace(table) > known.budget_ms(budget):
        measured = measure(few)
        if not any(m.keeps(budget) for m in measured.values()):
            raise infeasible(measured, budget)


def _fastest_at(around: SearchSpace, table: LatencyTable, resolution: int) -> list[Structure]:
    chain = make_chain(around, table, resolution=resolution)

    def solve(stages: Sequence[ChainStage]) -> Frontier:
        return frontier(stages, table.offset_ms_per_image, max_latency_ms=0.0)

    return fastest_few(
        lambda used: frontier_without(chain, used, solve), allowed_types(chain), resolution
    )


def fastest_few(
    select: Callable[[Sequence[BlockTypes]], Frontier], products: TypeProduct, resolution: int
) -> list[Structure]:
    """The fastest by prediction, of each choice of types one: what a table errs in is mostly that.

    select: from all structures but those of the given types.
    """
    found: list[Structure] = []
    used: list[BlockTypes] = []
    while len(found) < FASTEST and products_without(products, used):
        front = select(used)
        if not len(front):  # drawn at random
            break
        found.append(front.structure(front.fastest, resolution))
        used.append(block_types(found[-1]))
    return found


def infeasible(
    measured: Mapping[Structure, NetworkLatency], budget: Budget, where: str = ""
) -> InfeasibleBudgetError:
    """What to raise where none of what was measured keeps the budget."""
    fastest = min(measured, key=lambda structure: measured[structure].network.high_ms_per_image)
    fastest_ms = measured[fastest].network.high_ms_per_image
    budget_ms = measured[fastest].budget_ms(budget)
    doubt = (
        "; but the device was busy with something else while it was measured, so try again"
        if measured[fastest].disturbed
        else ""
    )
    return InfeasibleBudgetError(
        f"no structure of the design space{where} keeps {budget_ms:.4g} ms per image; "
        f"the fastest takes up to {fastest_ms:.4g} ms{doubt}",
        fastest=str(fastest),
        fastest_ms=fastest_ms,
        budget_ms=budget_ms,
    )
