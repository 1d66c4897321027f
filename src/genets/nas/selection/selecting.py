"""From trials and a latency table to structures that keep the budget, measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from genets.core.errors import GenetsError
from genets.latency import Budget, LatencyTable
from genets.nas.accuracy.model import AccuracyModel, FailedBlocks
from genets.nas.context import SearchContext
from genets.nas.selection.alternatives import BlockTypes, TypeProduct, frontier_without
from genets.nas.selection.budget_search import OnRound, keep_promises
from genets.nas.selection.chain import ChainStage, Frontier, make_chain
from genets.nas.selection.frontier import frontier, random_selection
from genets.nas.selection.measured import MeasuredNetworks
from genets.nas.study.records import Candidate
from genets.structure import SearchSpace

RANDOM_SAMPLES = 100_000  # structures drawn by --selection random


def keep_selected(
    session: SearchContext,
    budget: Budget,
    table: LatencyTable,
    measured: MeasuredNetworks,
    model: AccuracyModel,
    top: int = 1,
    *,
    resolution: int | None = None,
    on_round: OnRound | None = None,
) -> list[Candidate]:
    """Up to `top` alternatives (see `alternatives`), the best first, each within the budget.

    resolution: of all of them; by default the MasterNet's.
    on_round: told of the rounds done and their number, in place of who watches the session.
    Raises InfeasibleBudgetError where no structure keeps the budget.
    """
    pixels = resolution or session.master.resolution

    def select(corrected: LatencyTable, limit_ms: float, used: Sequence[BlockTypes]) -> Frontier:
        return _frontier(session, corrected, model, limit_ms, used, pixels)

    with session.phase("verification"):
        return keep_promises(
            session.master,
            budget,
            table,
            model,
            select,
            measured.measure,
            on_round or session.tell("verification"),
            resolution=resolution,
            products=_types(session.around, model.failed),
            top=top,
        )


def _types(around: SearchSpace, failed: FailedBlocks) -> TypeProduct:
    """The types that each stage may be of."""
    return tuple(
        frozenset(block.type for block in blocks if (index, block) not in failed)
        for index, blocks in around.blocks.items()
    )


def _frontier(
    session: SearchContext,
    table: LatencyTable,
    model: AccuracyModel,
    limit_ms: float,
    used: Sequence[BlockTypes],
    resolution: int,
) -> Frontier:
    """Up to a latency; of all structures but those of the types in `used`."""
    offset_ms = table.offset_ms_per_image

    def solve(stages: Sequence[ChainStage]) -> Frontier:
        if session.settings.selection == "exact":
            return frontier(stages, offset_ms, max_latency_ms=limit_ms)
        rng = np.random.default_rng(session.settings.seed)
        return random_selection(stages, limit_ms, RANDOM_SAMPLES, rng, offset_ms)

    chain = make_chain(session.around, table, model.stage_gain, model.failed, resolution=resolution)
    front = frontier_without(chain, used, solve)
    if not len(front) and not used:
        raise GenetsError(
            f"none of {RANDOM_SAMPLES} random structures is predicted to keep "
            f"{limit_ms:.4g} ms per image; selection 'exact' finds the fastest there is"
        )
    return front
