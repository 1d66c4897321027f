"""The latencies of a study on one target: its table, and its measured networks and rivals."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from genets.core.errors import StudyError, TargetError
from genets.core.progress import OnProgress, Report, Reporter
from genets.latency import Budget, LatencyTable, Measurement, TableSettings, Target
from genets.nas.laboratory import Laboratory
from genets.nas.latencies.calm import wait_for_calm
from genets.nas.selection.measured import (
    MeasuredNetworks,
    MeasuredRivals,
    MeasureInTurn,
    TargetLatency,
    make_busy_error,
)
from genets.nas.study import layout
from genets.nas.study.reader import StudyReader
from genets.structure import SearchSpace, Structure

TABLE_PERCENT = 99  # of the phase `latency table`; the rest is the measurement of the MasterNet


class TargetLatencies:
    """Prepares the latencies of a study on a target.

    Args:
        study: The study.
        lab: Times networks.
        target: The target.
        budget: The budget that the latencies decide on.
        space: The search space around the MasterNet.
        num_classes: The number of classes of the networks.
        wait_limit_s: The longest wait for a calm device.
        reporter: Reports the progress of measurements.
        on_event: Called with the progress of a wait.
    """

    def __init__(
        self,
        study: StudyReader,
        lab: Laboratory,
        target: Target,
        budget: Budget,
        space: SearchSpace,
        num_classes: int,
        *,
        wait_limit_s: float,
        reporter: Reporter,
        on_event: OnProgress | None,
    ) -> None:
        self._study, self._lab, self._target, self._budget = study, lab, target, budget
        self._settings = study.settings
        self._space, self._num_classes = space, num_classes
        self._wait_limit_s, self._reporter, self._on_event = wait_limit_s, reporter, on_event
        self._table_path = layout.table_path(study.latency_folder, target.name)

    def prepare(self, report: Report) -> TargetLatency:
        """Load or build the table, and measure the MasterNet.

        Raises:
            StudyError: A stored table is damaged or of another machine, or a file cannot be
                written.
            BusyDeviceError: The device stayed busy, and the budget is in ms.
        """
        path, master = self._table_path, self._space.master
        networks = MeasuredNetworks(
            layout.measured_path(path), master, self._measure, **self._decision
        )
        if not path.exists():
            self._wait_before_table()
        elif networks.undecided([master]):
            report(TABLE_PERCENT, 100)
        table = self._prepare_table(report)
        networks.measure([master])
        report(100, 100)
        return TargetLatency(table, networks)

    def rivals(self, measure_in_turn: MeasureInTurn[str]) -> MeasuredRivals:
        """Give the measured rivals. measure_in_turn: Measures further rivals."""
        path = layout.measured_rivals_path(self._table_path)
        return MeasuredRivals(path, str(self._space.master), measure_in_turn, **self._decision)

    @cached_property
    def _decision(self) -> dict[str, Any]:
        """How a measurement decides; arguments of `MeasuredInTurn`."""
        return {
            "budget": self._budget,
            "wait_for_calm": self._wait_for_calm,
            "wait_limit_s": self._wait_limit_s,
            "on_measuring": self._reporter.action,
            "explained": self._study.files.explained,
        }

    def _prepare_table(self, report: Report) -> LatencyTable:
        """Load or build the latency table. Raises StudyError and TargetError."""
        try:
            with self._study.files.explained():
                return self._lab.prepare_table(
                    self._table_path,
                    TableSettings(self._space, self._target, self._num_classes),
                    seed=self._settings.seed,
                    time_limit_s=self._settings.table_seconds,
                    on_progress=lambda share: report(TABLE_PERCENT * share, 100),
                )
        except TargetError as error:
            if not self._table_path.exists():
                raise
            raise StudyError(str(error)) from error

    def _measure(
        self, structures: Sequence[Structure], times_as_long: int
    ) -> dict[Structure, Measurement]:
        words = self._reporter.words
        return self._lab.measure(
            structures,
            self._target,
            self._num_classes,
            times_as_long * self._settings.measure_seconds,
            lambda share: self._reporter.action(f"{words}, {share:.0%}"),
            relative=self._budget.is_relative,
        )

    def _wait_before_table(self) -> None:
        """Do not build a table on a busy device.

        The table of one thread can be built, because its thread waits for no other one, and it
        serves budgets in multiples of the MasterNet's latency.
        """
        if self._budget.is_relative and self._target.threads == 1:
            return
        if not self._wait_for_calm(self._wait_limit_s):
            raise make_busy_error(self._budget, self._wait_limit_s, self._target)

    def _wait_for_calm(self, limit_s: float) -> bool:
        return wait_for_calm(self._lab, self._target, limit_s, self._on_event)
