"""GPU watch: clocks and power of a GPU while a measurement runs, and the causes of a slowdown.

A GPU that waits for work lowers its clocks, so they are read during the runs, by a thread that
sleeps between its readings. A reading takes a fraction of a millisecond of the host.
"""

from __future__ import annotations

import statistics
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from genets.latency.engines.nvml import SLOWDOWNS, UNKNOWN_SLOWDOWN, GpuCounters, GpuReading

JOIN_S = 2.0
INTERVAL_S = 0.1
# A slowdown in a larger share of the readings disturbs a measurement, as interrupted samples do.
MAX_SLOWED_SHARE = 0.1


class GpuWatch:
    """The readings of a GPU during a measurement.

    Args:
        counters: The counters of the GPU; None reads nothing.
        readings: Earlier readings that belong to the measurement.
        other_processes: Their number of other processes.

    Attributes:
        readings: In the order in which they were taken; empty where nothing can be read.
        other_processes: The number of other processes that computed on the GPU meanwhile; None
            where it is unknown.
        is_slice: Whether the device is a slice of a card (MIG).
    """

    def __init__(
        self,
        counters: GpuCounters | None,
        readings: Iterable[GpuReading] = (),
        other_processes: int | None = None,
    ) -> None:
        self.readings = list(readings)
        self.other_processes = other_processes
        self.is_slice = counters is not None and counters.is_slice
        self.counters = counters

    @contextmanager
    def reading(self, interval_s: float = INTERVAL_S) -> Iterator[None]:
        """Read the GPU at regular times inside the block; nothing is read without counters.

        The readings of several blocks belong together.

        Args:
            interval_s: Seconds between two readings.
        """
        counters = self.counters
        if counters is None:
            yield
            return
        ended, before = threading.Event(), len(self.readings)

        def read() -> None:
            while not ended.wait(interval_s):
                self.readings.append(counters.read())

        counters.begin()
        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        try:
            yield
            if len(self.readings) == before:  # the block was shorter than the interval
                self.readings.append(counters.read())
            self.count_others()
        finally:
            ended.set()
            thread.join(timeout=JOIN_S)  # a driver that lost the card may never answer

    def count_others(self) -> None:
        """Count the other processes that have computed since the block began."""
        others = None if self.counters is None else self.counters.other_processes()
        if others is not None:
            self.other_processes = max(others, self.other_processes or 0)

    @property
    def limits(self) -> dict[str, float] | None:
        """Why the clocks were below their maximum: the share of the readings of each reason."""
        known = [each.reasons for each in self.readings if each.reasons is not None]
        if not known:
            return None
        counts = Counter(reason for reasons in known for reason in sorted(reasons))
        return {reason: round(count / len(known), 3) for reason, count in counts.items()}

    def disturbances(self) -> list[str]:
        """Name the causes that slowed the GPU, such as `heat slowed the GPU`; may be empty."""
        causes = []
        if slowdown := slowdown_cause(self.limits or {}):
            causes.append(f"{slowdown} slowed the GPU")
        if self.other_processes:
            noun = "process" if self.other_processes == 1 else "processes"
            causes.append(f"{self.other_processes} other {noun} computed on the GPU")
        return causes

    def facts(self) -> dict[str, Any]:
        """The readings as a part of the environment of a measurement; empty on a CPU."""
        if self.counters is None and not self.readings:
            return {}
        return {
            "clock_mhz": _median(each.sm_mhz for each in self.readings),
            "memory_clock_mhz": _median(each.memory_mhz for each in self.readings),
            "power_w": _median(each.power_w for each in self.readings),
            "clock_limits": self.limits,
            "other_gpu_processes": self.other_processes,
            "mig": self.is_slice,
        }


def slowdown_cause(limits: Mapping[str, float]) -> str | None:
    """The cause that slowed a GPU down, such as `heat`; None where there was no cause.

    Args:
        limits: Why the clocks were below their maximum; see `GpuWatch.limits`.
    """
    reasons = [each for each in SLOWDOWNS if limits.get(each, 0) > MAX_SLOWED_SHARE]
    causes = dict.fromkeys(SLOWDOWNS[reason] for reason in reasons)
    if len(causes) > 1:
        causes.pop(SLOWDOWNS[UNKNOWN_SLOWDOWN], None)
    return " and ".join(causes) or None


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


@contextmanager
def watch_gpu(
    counters: GpuCounters | None, *, interval_s: float = INTERVAL_S
) -> Iterator[GpuWatch]:
    """Make a watch that reads the GPU inside the block; see `GpuWatch.reading`."""
    watch = GpuWatch(counters)
    with watch.reading(interval_s):
        yield watch
