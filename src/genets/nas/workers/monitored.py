"""The workers of a search together with its monitor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from genets.nas.workers.job import Item, Job, Result, Workers
from genets.nas.workers.monitor import Monitor


@dataclass(frozen=True)
class MonitoredWorkers:
    """Workers whose jobs are monitored, and end well at the first Ctrl-C; see `Workers`."""

    workers: Workers
    monitor: Monitor

    @property
    def count(self) -> int:
        return self.workers.count

    @property
    def gpus(self) -> int:
        return self.workers.gpus

    @property
    def readers(self) -> int:
        return self.workers.readers

    def run(
        self,
        job: Job[Item, Result],
        groups: Sequence[tuple[Item, ...]],
        monitor: Monitor | None = None,
    ) -> Iterator[Result]:
        """See `Workers.run`. monitor: In place of that of the search."""
        monitor = monitor or self.monitor
        with monitor.stoppable():
            yield from self.workers.run(job, groups, monitor)
