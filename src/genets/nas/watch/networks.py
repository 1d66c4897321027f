"""The networks of a search that has not ended: predicted frontier, selected structures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from genets.latency import Budget
from genets.nas.snapshot import Snapshot
from genets.nas.study.records import Candidate, TrainedCandidate
from genets.structure import Structure

FRONTIER_ROWS = 6


@dataclass(frozen=True)
class FrontierPoint:
    """A structure with the best predicted score for its predicted latency.

    Attributes:
        ms_per_image: The latency that the latency table predicts.
        score: The metric of the study: top-1 or balanced accuracy (0 to 1), or nats.
        low, high: The 95 % interval of the score; None where it is not known.
        budgets: The budgets of the study for which this structure is predicted to be the best.
    """

    structure: Structure
    ms_per_image: float
    score: float
    low: float | None
    high: float | None
    budgets: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"structure": str(self.structure), "budgets": list(self.budgets)}


@dataclass(frozen=True)
class SelectedNetwork:
    """A candidate of the last round, or the winner.

    Attributes:
        budget: The budget as it was given.
        candidate: The structure with its measured latency.
        trained: Its training; None before that has ended.
        is_winner: Whether it was chosen.
    """

    budget: str
    candidate: Candidate
    trained: TrainedCandidate | None
    is_winner: bool

    def to_json(self) -> dict[str, Any]:
        trained = self.trained and self.trained.to_json()
        return {
            "budget": self.budget,
            "winner": self.is_winner,
            "candidate": self.candidate.to_json(),
            "trained": trained,
        }


def list_frontier(snapshot: Snapshot) -> Iterator[FrontierPoint]:
    """Some points of the frontier: the best for each budget, and others between the ends."""
    latency, model = snapshot.own_latency, snapshot.model
    resolution = snapshot.latest.master.resolution
    front = latency and snapshot.frontier(latency.table, resolution)
    if model is None or latency is None or not front:
        return
    master_ms = latency.table.master_ms_per_image
    budgets: dict[int, tuple[str, ...]] = {}
    for text in snapshot.settings.all_budgets:
        point = front.best(Budget.parse(text).ms_per_image(master_ms))
        if point is not None:
            budgets[point] = (*budgets.get(point, ()), text)
    limits = np.geomspace(front.latency_ms[0], max(master_ms, front.latency_ms[0]), FRONTIER_ROWS)
    points = {point for limit in limits if (point := front.best(float(limit))) is not None}
    for point in sorted(points | budgets.keys()):
        structure = front.structure(point, resolution)
        prediction, metric = model.predict(structure), model.metric
        ends = sorted(metric.oriented(end) for end in prediction.interval())
        low, high = (None, None) if np.isnan(ends).any() else ends
        yield FrontierPoint(
            structure, float(front.latency_ms[point]), metric.oriented(prediction.value),
            low, high, budgets.get(point, ()),
        )  # fmt: skip


def list_selected(snapshot: Snapshot) -> Iterator[SelectedNetwork]:
    """List the candidates of the last round of each budget; the winner is marked."""
    for of_budget in snapshot.each_budget:
        reader = of_budget.reader
        trained = {each.structure: each for each in of_budget.confirmed}
        last = max((n for n in range(1, len(snapshot.rounds) + 1) if reader.candidates(n)),
                   default=0)  # fmt: skip
        winner = of_budget.selected
        candidates = reader.candidates(last) if last else []
        if winner is not None and winner not in candidates:
            candidates = [winner, *candidates]
        for each in candidates:
            yield SelectedNetwork(
                of_budget.budget, each, trained.get(each.structure), each == winner
            )
