"""Workers of this machine: processes that end with the driver.

A worker is replaced where it dies, gives no result for too long, or gets no memory for a training;
see `schedule`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Generic

from genets.core.errors import StudyError
from genets.core.host import count_cpus
from genets.nas.workers.devices import fitting_readers, fitting_workers, list_devices
from genets.nas.workers.job import Item, Job, ProcessesPerGpu, Result
from genets.nas.workers.local_process import LocalProcess, LocalProcesses
from genets.nas.workers.monitor import Monitor
from genets.nas.workers.schedule import TIME_LIMIT, Group, Schedule, TimeLimit

THIS_MACHINE = "this machine"


class LocalMachine:
    """This machine; see `Machines`."""

    def __str__(self) -> str:
        return THIS_MACHINE

    def check(self, device: str) -> None:
        """Do nothing: the search checks the device of this machine anyway."""

    def workers(
        self, count: int | None, device: str, processes_per_gpu: ProcessesPerGpu, folder: Path
    ) -> LocalWorkers:
        """Choose one process for each core, or as many as fit for each GPU."""
        gpus = len(list_devices(device))
        if count is None:
            per_gpu = 1 if device == "cpu" else processes_per_gpu(count_cpus(), gpus)
            count = fitting_workers(device, per_gpu)
        return LocalWorkers(count, gpus, fitting_readers(count, device))


@dataclass(frozen=True)
class LocalWorkers:
    """Processes of this machine; see `Workers`.

    Attributes:
        limit: When a group counts as hanging.
    """

    count: int
    gpus: int = 1
    readers: int = 0
    limit: TimeLimit = TIME_LIMIT

    def run(
        self,
        job: Job[Item, Result],
        groups: Sequence[tuple[Item, ...]],
        monitor: Monitor | None = None,
    ) -> Iterator[Result]:
        """See `run_inline`."""
        return run_inline(job, groups, self.count, monitor, self.limit)


def run_inline(
    job: Job[Item, Result],
    groups: Sequence[tuple[Item, ...]],
    workers: int,
    monitor: Monitor | None = None,
    limit: TimeLimit = TIME_LIMIT,
) -> Iterator[Result]:
    """Run groups of items on this machine, and give each result when its group ends.

    One worker is this process. Several workers are processes of one thread each; on a CPU they
    train small networks faster than one process of several threads.

    Args:
        job: Makes the runner of each process.
        groups: The items; a group is run as a whole by one worker.
        workers: The number of processes.
        monitor: Learns of running items and of faults.
        limit: When a group counts as hanging. A single worker has no limit, because the search
            cannot end itself.

    Raises:
        StudyError: Worker processes died before their first group.
        GenetsError: The job cannot make a runner, because weights are missing for example.
    """
    if not groups:
        return
    schedule = Schedule(job, groups, monitor := monitor or Monitor(), limit)
    if workers == 1:
        runner = job.runner()
        while schedule.has_waiting:
            group = schedule.take()
            results = runner.run(group.items)
            yield from schedule.sift(group, results, THIS_MACHINE)
            schedule.end(group, results)  # now, because Ctrl-C waits for running groups
    else:
        _release_gpu_memory()
        yield from _Run(job, schedule, min(workers, len(groups))).results()
    monitor.check_stop()


class _Run(Generic[Item, Result]):
    """One job on several processes."""

    def __init__(
        self, job: Job[Item, Result], schedule: Schedule[Item, Result], count: int
    ) -> None:
        self._schedule, self._count = schedule, count
        self._processes = LocalProcesses(job)
        self._groups: dict[LocalProcess, Group[Item]] = {}
        self._failed_starts = 0  # in a row

    def results(self) -> Iterator[Result]:
        """Give each result when its group ends."""
        with self._processes:
            for number in range(self._count):
                self._processes.start(number)
            while self._schedule.is_open:
                for process in self._wait():
                    yield from self._receive(process)
                yield from self._end_hanging()

    def _wait(self) -> list[LocalProcess]:
        """Wait for processes that answer or die, but not longer than until a group hangs."""
        by_handle: dict[Any, LocalProcess] = {}
        for process in self._processes.alive:
            by_handle |= {process.pipe: process, process.sentinel: process}
        ready = wait(list(by_handle), self._schedule.wait_seconds())
        return list(dict.fromkeys(by_handle[handle] for handle in ready))

    def _receive(self, process: LocalProcess) -> Iterator[Result]:
        """Take the answer of a process, and give it the next group."""
        group = self._groups.pop(process, None)
        try:
            results = process.receive()
        except EOFError:
            yield from self._replace(process, group)
            return
        has_ended = process.has_ended  # after its answer; it must get no further group
        if group is None and has_ended:
            yield from self._replace(process, group)
            return
        self._failed_starts = 0
        counting = [] if group is None else self._schedule.sift(group, results, THIS_MACHINE)
        lacks_memory = len(counting) < len(results)  # another process may have more memory
        if lacks_memory or has_ended:
            self._processes.remove(process)
            self._fill(process.number)
        else:
            self._give_work(process)  # before the results are given, so that it does not wait
        yield from counting
        if group is not None:
            self._schedule.end(group, results)  # now, because Ctrl-C waits for running groups

    def _give_work(self, process: LocalProcess) -> None:
        if self._schedule.has_waiting:
            group = self._groups[process] = self._schedule.take()
            process.send(group.items)

    def _replace(self, process: LocalProcess, group: Group[Item] | None) -> Iterator[Result]:
        """Start another process for one that died."""
        reason = self._processes.remove(process)
        if group is not None:
            yield from self._schedule.lose(group, "a worker process", reason)
        else:
            self._failed_starts += 1
            if self._failed_starts > self._count:
                raise StudyError(
                    f"a worker process died before its first group ({reason}); every finished "
                    "trial is kept, so give the same command again, with fewer --workers if "
                    "memory ran out"
                )
        self._fill(process.number)

    def _end_hanging(self) -> Iterator[Result]:
        for hanging in self._schedule.hanging():
            process = next(each for each, group in self._groups.items() if group is hanging)
            if process.has_answered:
                continue
            del self._groups[process]
            process.kill()
            self._processes.remove(process)
            yield from self._schedule.give_up(hanging, "a worker process")
            self._fill(process.number)

    def _fill(self, number: int) -> None:
        """Give waiting groups to free processes, and start one in place of a lost one."""
        for process in self._processes.alive:
            if process.is_ready and process not in self._groups:
                self._give_work(process)
        if self._schedule.has_waiting:
            self._processes.start(number)


def _release_gpu_memory() -> None:
    """Give memory that PyTorch keeps for later back to the GPU, so that the workers can use it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
