"""The fastest structures of a search space, measured: whether a budget can be met at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from genets.core.errors import InfeasibleBudgetError
from genets.latency import Budget
from genets.nas.context import SearchContext
from genets.nas.selection.alternatives import (
    BlockTypes,
    TypeProduct,
    allowed_types,
    block_types,
    frontier_without,
    products_without,
)
from genets.nas.selection.chain import ChainStage, make_chain
from genets.nas.selection.frontier import Frontier, frontier
from genets.nas.selection.network_latency import NetworkLatency
from genets.structure import Structure

# Structures that are measured before a budget is refused: no table knows which one is the fastest.
NUM_FASTEST = 3


def check_feasible(context: SearchContext) -> None:
    """Check before anything is trained whether a structure can meet the budget.

    Raises:
        InfeasibleBudgetError: None of the structures that are predicted fastest meets it.
    """
    _ = context.latency  # the first use is a phase of its own, which must not be inside this one
    report = context.report("budget check")
    with context.phase("budget check"):
        of_resolutions = []
        for resolution in context.space.resolutions:
            # One step, because computing takes seconds and measuring may take minutes: the time of
            # the one says nothing about the time left for the other.
            report(0, 1, f"the fastest structures at {resolution} pixels")
            of_resolutions.append(_fastest_at(context, resolution))
        _check_fastest(context, of_resolutions)
        report(1, 1)


def _check_fastest(context: SearchContext, of_resolutions: Sequence[Sequence[Structure]]) -> None:
    """Measure the fastest structures, unless one is predicted to meet the budget.

    Raises InfeasibleBudgetError where none meets it. of_resolutions: the fastest of each.
    """
    latency, budget, master = context.latency, context.budget, context.master
    table = latency.table
    fastest = min(of_resolutions, key=lambda structures: table.predict_ms_per_image(structures[0]))
    measured_master = latency.measure([master])[master]
    predicted_ms = table.predict_ms_per_image(fastest[0]) * measured_master.slowdown(table)
    if predicted_ms > measured_master.budget_ms(budget):
        measured = latency.measure(fastest, to_refuse=True)
        if not any(m.meets(budget) for m in measured.values()):
            raise make_infeasible_error(measured, budget)


def _fastest_at(context: SearchContext, resolution: int) -> list[Structure]:
    table = context.latency.table
    chain = make_chain(context.space, table, resolution=resolution)

    def solve(stages: Sequence[ChainStage]) -> Frontier:
        return frontier(stages, table.offset_ms_per_image, max_latency_ms=0.0)

    return fastest_of_types(
        lambda used: frontier_without(chain, used, solve), allowed_types(chain), resolution
    )


def fastest_of_types(
    select: Callable[[Sequence[BlockTypes]], Frontier], products: TypeProduct, resolution: int
) -> list[Structure]:
    """Give the structures predicted fastest, one for each combination of block types.

    They differ in types because most prediction errors come from the block type.

    Args:
        select: Gives the frontier of all structures except those of the given types.
        products: The types that each stage may have.
        resolution: The resolution of the structures.
    """
    structures: list[Structure] = []
    used: list[BlockTypes] = []
    while len(structures) < NUM_FASTEST and products_without(products, used):
        front = select(used)
        if not len(front):  # a random sample has no such structure
            break
        structures.append(front.structure(front.fastest, resolution))
        used.append(block_types(structures[-1]))
    return structures


def make_infeasible_error(
    measured: Mapping[Structure, NetworkLatency], budget: Budget, where: str = ""
) -> InfeasibleBudgetError:
    """Make the error for measured structures none of which meets the budget."""
    assert all(latency.exceeds(budget) for latency in measured.values()), "measure to refuse first"
    fastest = min(measured, key=lambda structure: measured[structure].interval_ms(budget)[1])
    fastest_ms = measured[fastest].interval_ms(budget)[1]
    budget_ms = measured[fastest].budget_ms(budget)
    return InfeasibleBudgetError(
        f"no structure of the design space{where} meets {budget_ms:.4g} ms per image; "
        f"the fastest takes up to {fastest_ms:.4g} ms",
        fastest=str(fastest),
        fastest_ms=fastest_ms,
        budget_ms=budget_ms,
    )
