"""Watch: which samples were interrupted, and whether something else used the CPUs.

A thread that is ready to run and gets no CPU makes a run longer. In a pool of threads, all others
wait for it at the next barrier, so a network of 2 ms can take 300 ms beside a busy process.

A thread also waits some microseconds for an idle CPU to wake up. That is a part of every run, so a
wait counts only where others use the CPUs.
"""

from __future__ import annotations

import math

from genets.latency.engines.activity import ProcessCounters, other_cpus
from genets.latency.engines.base import DeviceClock, Run

# A window whose threads waited for a CPU for a larger share of its time was interrupted.
MAX_DELAY_SHARE = 0.01
# Other processes may use half of the cores that a run leaves free, because all processes share
# caches, memory and clock frequency; and this much more, for the services of the system.
FREE_SHARE, SERVICE_CPUS = 0.5, 0.2
# Where delays are not counted: more involuntary context switches than the system's services cause.
MAX_SWITCHES_PER_S = 100


class ActivityWatch:
    """Times windows of runs, and notes the use of the CPUs by other programs meanwhile.

    Args:
        clock: The clock of the device. Without an `activity` no window counts as interrupted.
        threads: The threads of a run; None on a device that is not a CPU.
    """

    def __init__(self, clock: DeviceClock, threads: int | None = None) -> None:
        self._clock, self._threads = clock, threads
        self._activity = clock.activity
        self._start = None if self._activity is None else self._activity.machine()

    def time_runs(self, run: Run, count: int) -> tuple[float, float]:
        """Time `count` runs in a row.

        Returns:
            Wall seconds, and the seconds without waiting for a CPU: NaN where these are unknown.
        """
        if self._activity is None:
            seconds = self._clock.time_runs(run, count)
            return seconds, seconds
        before = self._activity.process()
        wall_s = self._clock.time_runs(run, count)
        return wall_s, self._undelayed_s(wall_s, before, self._activity.process())

    def _undelayed_s(self, wall_s: float, before: ProcessCounters, after: ProcessCounters) -> float:
        if before.delay_s is None or after.delay_s is None:
            switches = after.switches - before.switches
            return wall_s if switches <= MAX_SWITCHES_PER_S * wall_s else math.nan
        delay_s = after.delay_s - before.delay_s
        if delay_s <= MAX_DELAY_SHARE * wall_s:
            return wall_s
        if self._threads != 1:  # some delays were at the same time, and others made threads wait
            return math.nan
        # A thread beside the run, such as that of a progress bar, may have waited as well. A run on
        # one thread takes at least its CPU time.
        return min(wall_s, max(wall_s - delay_s, after.cpu_s - before.cpu_s))

    def other_cpus(self) -> float | None:
        """How many CPUs others used on average since the watch was made; None if unknown."""
        return None if self._activity is None else other_cpus(self._start, self._activity.machine())

    def has_room(self) -> bool | None:
        """Whether the runs have had enough CPUs since the watch was made; None if unknown."""
        others = self.other_cpus()
        if self._activity is None or self._threads is None or others is None:
            return None
        return others <= max_other_cpus(self._activity.cores, self._threads)


def max_other_cpus(cores: int, threads: int) -> float:
    """The number of CPUs that others may use beside runs on `threads` threads.

    cores: Physical cores on which this process may run.
    """
    return FREE_SHARE * max(0, cores - threads) + SERVICE_CPUS


def fewer_threads(cores: int, others: float | None, threads: int) -> int:
    """Choose the number of threads on a busy machine.

    Args:
        cores: Physical cores on which this process may run.
        others: How many CPUs others use; None if unknown.
        threads: The number of threads for which the CPUs are too busy.

    Returns:
        The largest number that leaves the others enough CPUs; 1 if there is none, because one
        thread never waits for another one at a barrier.
    """
    smaller = range(threads - 1, 1, -1)
    fitting = (count for count in smaller if others is not None
               and others <= max_other_cpus(cores, count))  # fmt: skip
    return next(fitting, 1)
