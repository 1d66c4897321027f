"""Activity: counters of the operating system that show the use of the CPUs by other programs.

The operating system counts the CPU time of this process and of all processes, and the time that
threads of this process were ready to run and waited for a CPU. A test gives a clock an `Activity`
with counters of its own.
"""

from __future__ import annotations

import os
import resource
import time
import weakref
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from genets.core.host import usable_cores, usable_cpus


@dataclass(frozen=True, slots=True)
class ProcessCounters:
    """Counters of this process; each only grows.

    Attributes:
        cpu_s: CPU time of all threads.
        switches: Involuntary context switches: something else took the CPU of a running thread.
        delay_s: Time that threads were ready to run and waited for a CPU, added up over the
            threads; None where the system does not count it.
    """

    cpu_s: float
    switches: int
    delay_s: float | None


@dataclass(frozen=True, slots=True)
class MachineCounters:
    """Counters of the CPUs that this process may use; each only grows.

    Attributes:
        wall_s: Wall time.
        own_s: CPU time of this process.
        busy_s: CPU time of all processes, and of other virtual machines on the same CPUs.
    """

    wall_s: float
    own_s: float
    busy_s: float


class Activity(Protocol):
    """Reads the counters of the operating system."""

    @property
    def cores(self) -> int:
        """The number of physical cores on which this process may run.

        Two threads on one core slow each other down, so its second logical CPU is no free CPU.
        """

    def process(self) -> ProcessCounters:
        """Read the counters of this process, which takes microseconds."""

    def machine(self) -> MachineCounters | None:
        """Read the counters of the CPUs; None where the system does not give them."""


class SystemActivity:
    """The counters of Linux; elsewhere only CPU time and context switches of this process."""

    def __init__(self) -> None:
        # Open files by thread. Reading an open file takes a tenth of the time of opening it, and
        # many threads must not make the time between two samples long.
        self._files: dict[str, int] = {}
        weakref.finalize(self, _close_all, self._files)

    @property
    def cores(self) -> int:
        return usable_cores()

    def process(self) -> ProcessCounters:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return ProcessCounters(time.process_time(), usage.ru_nivcsw, self._delay_s())

    def machine(self) -> MachineCounters | None:
        busy_s = _busy_s()
        if busy_s is None:
            return None
        return MachineCounters(time.perf_counter(), time.process_time(), busy_s)

    def _delay_s(self) -> float | None:
        """The sum of the second numbers of schedstat, in ns (Linux, Documentation/scheduler)."""
        run_ns = delay_ns = 0
        try:
            for thread in os.listdir("/proc/self/task"):
                with suppress(FileNotFoundError, ProcessLookupError):  # the thread has just ended
                    own_run_ns, own_delay_ns, _ = map(int, self._read(thread).split())
                    run_ns, delay_ns = run_ns + own_run_ns, delay_ns + own_delay_ns
        except (OSError, ValueError):
            return None
        # All numbers are 0 where the kernel counts nothing.
        return delay_ns / 1e9 if run_ns else None

    def _read(self, thread: str) -> bytes:
        if thread not in self._files:
            self._files[thread] = os.open(f"/proc/self/task/{thread}/schedstat", os.O_RDONLY)
        try:
            return os.pread(self._files[thread], 100, 0)
        except ProcessLookupError:
            os.close(self._files.pop(thread))
            raise


def _close_all(files: dict[str, int]) -> None:
    for file in files.values():
        os.close(file)


def _busy_s() -> float | None:
    """User, nice, system, interrupt and stolen time in /proc/stat; see `man 5 proc_stat`."""
    names = {f"cpu{number}" for number in usable_cpus()}
    try:
        lines = Path("/proc/stat").read_text(encoding="ascii").splitlines()
        rows = [line.split() for line in lines if line.split(" ", 1)[0] in names]
        ticks = sum(int(row[column]) for row in rows for column in (1, 2, 3, 6, 7, 8))
    except (OSError, ValueError, IndexError):
        return None
    return ticks / os.sysconf("SC_CLK_TCK") if rows else None


def other_cpus(before: MachineCounters | None, after: MachineCounters | None) -> float | None:
    """How many CPUs others used on average between two readings; None where it is unknown."""
    if before is None or after is None or after.wall_s <= before.wall_s:
        return None
    others_s = (after.busy_s - before.busy_s) - (after.own_s - before.own_s)
    return max(0.0, others_s / (after.wall_s - before.wall_s))
