"""The structures that a budget search has measured, and corrected latencies of the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from genets.latency import Budget
from genets.nas.selection.measured import TargetLatency
from genets.nas.selection.network_latency import NetworkLatency, least_bound
from genets.structure import Structure

LOWER_AIM = 0.9  # the factor of the aim where nothing fits and nothing new is proposed


class LearnedLatency:
    """The measured structures of a budget search.

    Measurements correct the latency table, and move the predicted latency at which a search aims:
    the budget, less the median width of the intervals. Before any measurement, it is the budget
    less the least width of an interval on a calm device. The MasterNet, which is measured in turn,
    shows how much slower or faster the machine is than when the table was built; the latest
    measurement of this search counts.

    Args:
        latency: The table, and the networks that any search of the study has measured.
        budget: The budget.
        master: The MasterNet, which is measured.
        known: Structures that the study has measured before. They correct the table where their
            latencies decide on the budget, but the search has not measured them.

    Attributes:
        measured: The structures that the search has measured.
        table: The table, corrected by these measurements.
        aim_ms: The latency at which the search aims, in ms per image as the table predicts it.
    """

    def __init__(
        self,
        latency: TargetLatency,
        budget: Budget,
        master: Structure,
        known: Iterable[Structure] = (),
    ) -> None:
        self._latency, self._budget = latency, budget
        self.measured: dict[Structure, NetworkLatency] = {}
        self.table = self._first_table = latency.table
        self._lowered = 1.0  # the factor of the aim after attempts that proposed nothing new
        self._latest = latency.measure([master])[master]
        stored = {each: latency.measured[each] for each in known if each in latency.measured}
        self._known = {
            each: m for each, m in stored.items() if not m.disturbed and m.decides(budget)
        }
        self._latest = next(reversed(self._known.values()), self._latest)
        self.aim_ms = self._budget_ms() / least_bound(budget, self._latest.network.target)
        self._learn()

    @property
    def fitting(self) -> dict[Structure, NetworkLatency]:
        """The measured structures that meet the budget."""
        return {structure: m for structure, m in self.measured.items() if m.meets(self._budget)}

    @property
    def too_slow(self) -> set[Structure]:
        """The structures whose latency does not meet the budget, whatever the table predicts."""
        latencies = self._known | self.measured
        return {structure for structure, m in latencies.items() if not m.meets(self._budget)}

    def measure(self, structures: Sequence[Structure], *, to_refuse: bool = False) -> None:
        """Measure structures, correct the table, and move the aim.

        to_refuse: See `MeasuredInTurn.measure`.
        """
        before = dict(self._latency.measured)
        found = self._latency.measure(structures, to_refuse=to_refuse)
        self.measured |= found
        fresh = {s: m for s, m in found.items() if before.get(s) is not m}
        self._latest = next(iter(_undisturbed(fresh).values()), self._latest)
        self._learn()

    def _learn(self) -> None:
        """Correct the table, and move the aim."""
        steady = _undisturbed(self._known | self.measured)
        if not steady:
            return
        # As the networks would have measured when the table was built.
        corrections = {
            structure: m.median_ms(self._budget) / m.slowdown(self._first_table)
            for structure, m in steady.items()
        }
        self.table = self._first_table.correct(corrections)
        margins = [m.bound_ms(self._budget) / m.median_ms(self._budget) for m in steady.values()]
        if self.fitting:
            self._lowered = 1.0  # structures between those that fit and the budget come next
        self.aim_ms = self._lowered * self._budget_ms() / float(np.median(margins))

    def lower_aim(self) -> None:
        """Aim lower until a structure meets the budget."""
        self._lowered *= LOWER_AIM
        self.aim_ms *= LOWER_AIM

    def _budget_ms(self) -> float:
        """The budget at the speed that the machine had when the table was built."""
        return self._latest.budget_ms(self._budget) / self._latest.slowdown(self._first_table)


def _undisturbed(measured: dict[Structure, NetworkLatency]) -> dict[Structure, NetworkLatency]:
    """The undisturbed measurements, because others would teach the disturbance; or all."""
    return {s: m for s, m in measured.items() if not m.disturbed} or measured
