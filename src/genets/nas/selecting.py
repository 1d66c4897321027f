"""From trials and a latency table to structures that keep the budget, measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from genets.errors import GenetsError
from genets.latency import Budget, LatencyTable
from genets.nas.alternatives import Types, frontier_without
from genets.nas.bayes import BayesEffects
from genets.nas.cautious import cautious_frontier, lower_bound
from genets.nas.chain import ChainStage, Frontier
from genets.nas.measured import Measured, MeasuredNetworks
from genets.nas.promise import ROUNDS, Measure, chain_of, keep_promise, keep_promises
from genets.nas.regression import AccuracyModel
from genets.nas.result import Selected
from genets.nas.selection import frontier, random_selection
from genets.nas.session import Session
from genets.structure import Structure

RANDOM_SAMPLES = 100_000  # structures drawn by --selection random


def keep_selected(
    session: Session,
    budget: Budget,
    table: LatencyTable,
    measured: MeasuredNetworks,
    model: AccuracyModel,
    top: int = 1,
    caution: float = 0.0,
) -> list[Selected]:
    """Up to `top` alternatives (see `alternatives`), the best first, each within the budget.

    caution: see `cautious`; selection is exact then, whatever the study's setting.
    Raises InfeasibleBudgetError where no structure keeps the budget.
    """
    tell = session.tell("verification")

    def keep(
        used: Sequence[Types], known: Mapping[Structure, Measured], measure: Measure
    ) -> Selected:
        def select(corrected: LatencyTable, limit_ms: float) -> Frontier:
            return _frontier(session, corrected, model, limit_ms, used, caution)

        return keep_promise(
            session.master,
            budget,
            table,
            model,
            select,
            measure,
            lambda done, total: tell(len(used) * total + done, top * total),
            worth=lambda structure: lower_bound(model, structure, caution),
            known=known,
        )

    with session.phase("verification"):
        blocks = session.around.blocks
        products = tuple(frozenset(block.type for block in own) for own in blocks)
        found = keep_promises(top, keep, products, measured.measure)
        tell(top * ROUNDS, top * ROUNDS)
        return found


def _frontier(
    session: Session,
    table: LatencyTable,
    model: AccuracyModel,
    limit_ms: float,
    used: Sequence[Types],
    caution: float,
) -> Frontier:
    """Up to a latency; of all structures but those of the types in `used`."""
    offset_ms = table.offset_ms_per_image

    def solve(stages: Sequence[ChainStage]) -> Frontier:
        if caution:
            assert isinstance(model.effects, BayesEffects)
            front, _ = cautious_frontier(
                stages, model.effects, caution, offset_ms, max_latency_ms=limit_ms
            )
            return front
        if session.settings.selection == "exact":
            return frontier(stages, offset_ms, max_latency_ms=limit_ms)
        rng = np.random.default_rng(session.settings.seed)
        return random_selection(stages, limit_ms, RANDOM_SAMPLES, rng, offset_ms)

    chain = chain_of(session.around, table, model.stage_accuracy)
    front = frontier_without(chain, used, solve)
    if not len(front):
        raise GenetsError(
            f"none of {RANDOM_SAMPLES} random structures is predicted to keep "
            f"{limit_ms:.4g} ms per image; selection 'exact' finds the fastest there is"
        )
    return front
