"""Readings: the state of the device while the visits of a latency table were made.

A table may be timed by several processes, one after the other. The visits file keeps the readings
of each process, so that the conditions of the table are those of all its timings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

from genets.latency.engines.activity import Activity, MachineCounters, other_cpus
from genets.latency.engines.nvml import GpuCounters, GpuReading
from genets.latency.timing.gpu_watch import GpuWatch


@dataclass(frozen=True)
class Readings:
    """The readings of the device during some visits.

    Attributes:
        watched_s: How long the use of the CPUs was watched; 0 where it is unknown.
        other_cpu_s: The CPU time of other processes meanwhile.
        gpu: The readings of the GPU.
        other_gpu_processes: The number of other processes that computed on the GPU; None where it
            is unknown.
    """

    watched_s: float = 0.0
    other_cpu_s: float = 0.0
    gpu: tuple[GpuReading, ...] = ()
    other_gpu_processes: int | None = None

    def __post_init__(self) -> None:
        if min(self.watched_s, self.other_cpu_s, self.other_gpu_processes or 0) < 0:
            raise ValueError("a reading is negative")

    @classmethod
    def merge(cls, parts: Iterable[Readings]) -> Readings:
        """The readings of all parts together."""
        parts = list(parts)
        counts = [each.other_gpu_processes for each in parts]
        return cls(
            sum(each.watched_s for each in parts),
            sum(each.other_cpu_s for each in parts),
            tuple(chain.from_iterable(each.gpu for each in parts)),
            max((count for count in counts if count is not None), default=None),
        )

    def facts(self, counters: GpuCounters | None) -> dict[str, Any]:
        """The readings as a part of the environment of a table.

        Args:
            counters: Those of the GPU; None on a CPU, or where the GPU cannot be read now.
        """
        gpu = GpuWatch(counters, self.gpu, self.other_gpu_processes)
        others = self.other_cpu_s / self.watched_s if self.watched_s else None
        return {"other_cpus": others, **gpu.facts()}


class DeviceReader:
    """Reads the state of the device while visits are made.

    Args:
        activity: The counters of the CPUs; None where they are not read.
        gpu: The watch of the GPU.
    """

    def __init__(self, activity: Activity | None, gpu: GpuWatch) -> None:
        self._activity, self._gpu = activity, gpu
        self._before: MachineCounters | None = None
        self._is_reading = False
        self._taken = 0

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Read inside the block, and not while networks are prepared."""
        self._before, self._is_reading = self._machine(), True
        try:
            with self._gpu.reading():
                yield
        finally:
            self._is_reading = False

    def take(self) -> Readings:
        """Return the readings since the previous call; call it once more after each block."""
        if self._is_reading:
            self._gpu.count_others()  # a process that is killed does not reach the end of the block
        before, after = self._before, None if self._before is None else self._machine()
        self._before = after if self._is_reading else None
        others, watched_s = other_cpus(before, after), 0.0
        if before is not None and after is not None and others is not None:
            watched_s = after.wall_s - before.wall_s
        taken = tuple(self._gpu.readings[self._taken :])
        self._taken += len(taken)
        others_s = watched_s * (others or 0.0)
        return Readings(watched_s, others_s, taken, self._gpu.other_processes)

    def _machine(self) -> MachineCounters | None:
        return None if self._activity is None else self._activity.machine()
