"""Workers on SLURM: the tasks of a job array, each of which takes the next group when it is free.

Results arrive as files. A task whose node SLURM takes back waits in the queue and continues later.
Tasks that died are replaced. A group that was lost twice is cut in halves, and an item that was
lost twice alone is a failed one; see `schedule`. A group that continues from a later epoch after a
time limit is not lost. A driver that was killed leaves its tasks behind,
and the next driver finds them.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Generic

from genets.core.errors import GenetsError, counted
from genets.core.log import get_logger
from genets.core.validation import from_plain
from genets.data import readers_for
from genets.nas.study import layout
from genets.nas.workers.environment import describe_environment
from genets.nas.workers.job import Item, Job, Result
from genets.nas.workers.monitor import Monitor
from genets.nas.workers.schedule import MAX_LOSSES, Group, report_retry
from genets.nas.workers.slurm.arrays import Arrays, TaskState
from genets.nas.workers.slurm.exchange import (
    DRIVER,
    Exchange,
    TaskStatus,
    digest,
    group_name,
    item_text,
)
from genets.nas.workers.slurm.task import SlurmTask
from genets.nas.workers.slurm.watched_tasks import LOST_MACHINES, WatchedTasks

_log = get_logger(__name__)

RESULT_SECONDS = 0.5  # until the driver looks for results again
STATE_SECONDS = 15.0  # until the driver asks SLURM again
END_SECONDS = 5.0  # for tasks without a further group


@dataclass(frozen=True)
class SlurmWorkers:
    """Workers on SLURM; see `Workers`.

    Attributes:
        cluster: The cluster in words.
        count: The number of workers.
        per_task: The number of workers of each task.
        cpus: The cores of each worker.
        has_gpus: Whether each worker has a GPU.
        limit_seconds: The time limit of a task.
        folder: The study folder.
        make_arrays: Makes the job arrays of a run, from its name and a folder.
    """

    cluster: str
    count: int
    per_task: int
    cpus: int
    has_gpus: bool
    limit_seconds: float
    folder: Path
    make_arrays: Callable[[str, Path], Arrays]

    @property
    def gpus(self) -> int:
        return self.count if self.has_gpus else 1

    @property
    def readers(self) -> int:
        return readers_for(self.cpus) if self.has_gpus else 0

    def run(
        self,
        job: Job[Item, Result],
        groups: Sequence[tuple[Item, ...]],
        monitor: Monitor | None = None,
    ) -> Iterator[Result]:
        """See `Workers.run`."""
        if groups:
            yield from _Run(self, job, groups, monitor or Monitor()).results()


class _Run(Generic[Item, Result]):
    """One job on SLURM."""

    def __init__(
        self,
        workers: SlurmWorkers,
        job: Job[Item, Result],
        groups: Sequence[tuple[Item, ...]],
        monitor: Monitor,
    ) -> None:
        self._workers, self._job, self._monitor = workers, job, monitor
        device = job.device.partition(":")[0]
        self._environment = describe_environment(device, job.precision)
        # A driver that continues the job has the same name, and so has a later run of an equal job,
        # such as the next structures of a screening. The job of another study has another name.
        facts = (str(workers.folder), job.key, str(self._environment))
        self._name = digest(*facts)
        self._exchange = Exchange(workers.folder / layout.SLURM / self._name)
        self._exchange.make()
        self._tasks = WatchedTasks(
            workers.make_arrays(f"genets-{self._name}", self._exchange.arrays), self._exchange,
            workers.cluster, workers.count, workers.limit_seconds,
        )  # fmt: skip
        self._given = [tuple(group) for group in groups]
        self._wanted = {item_text(item): item for group in groups for item in group}
        self._groups: dict[str, Group[Item]] = {}  # those whose results are missing
        self._epochs: dict[str, int] = {}  # from which lost groups continue

    def results(self) -> Iterator[Result]:
        """Give each result when its group ends."""
        try:
            self._continue()
            asked = float("-inf")
            while self._groups:
                yield from self._take_results()
                if self._monitor.is_stopping:
                    self._drop_waiting()
                if self._groups and time.monotonic() - asked >= STATE_SECONDS:
                    asked = time.monotonic()
                    yield from self._check_tasks()
                if self._groups:
                    time.sleep(RESULT_SECONDS)
            self._let_tasks_end()
            self._monitor.check_stop()
        finally:
            self._tasks.cancel()
        self._exchange.remove()

    def _continue(self) -> None:
        """Find the results and tasks of a driver that was stopped, and plan the other groups."""
        exchange = self._exchange
        tasks_live = self._tasks.find()
        plan, finished = exchange.plan(), set(exchange.finished())
        closed = {name for name, owner in exchange.claims().items() if owner == DRIVER}
        covered: set[str] = set()
        for name, texts in plan.items():
            items = tuple(self._wanted[text] for text in texts if text in self._wanted)
            goes_on = name in finished or (tasks_live and name not in closed)
            if items and goes_on and covered.isdisjoint(texts):
                self._groups[name] = Group(items)
                covered.update(texts)
        if covered:
            _log.info("%s continue on %s", counted(len(self._groups), "group"), self._cluster)
        for group in self._given:
            items = tuple(item for item in group if item_text(item) not in covered)
            if items:
                self._add_group(Group(items))
        self._save_plan()

    def _own_claims(self) -> dict[str, str]:
        """Give the claims of the run's tasks; those of tasks of an earlier run are released."""
        own = {}
        for name, owner in self._exchange.claims().items():
            if self._tasks.is_foreign(owner):
                self._free(name)
            else:
                own[name] = owner
        return own

    @property
    def _cluster(self) -> str:
        return self._workers.cluster

    def _add_group(self, group: Group[Item]) -> None:
        name = group_name(group.items)
        self._exchange.release(name)  # a trial that failed may run again
        self._groups[name] = group

    def _save_plan(self) -> None:
        self._exchange.save_plan({name: group.items for name, group in self._groups.items()})

    def _take_results(self) -> Iterator[Result]:
        """Give the results that have arrived."""
        for name in self._exchange.finished():
            group = self._groups.get(name)
            if group is None:
                self._exchange.close_group(name)
                continue
            results = self._read_results(name)
            again = self._sift(group, results)
            yield from results.values()
            # Only now, because a driver that is killed before has not recorded them.
            for text in results:
                del self._wanted[text]
            self._exchange.close_group(name)
            self._tasks.note_result()
            del self._groups[name]
            if again:
                yield from self._run_again(group, again, "")
            starved = {item for part in again for item in part.items}
            missing = [item for item in group.items if item_text(item) in self._wanted]
            damaged = tuple(item for item in missing if item not in starved)
            if damaged:
                lost = Group(damaged, group.losses)
                yield from self._run_again(lost, lost.after_loss(), "its results are damaged")

    def _sift(self, group: Group[Item], results: dict[str, Result]) -> list[Group[Item]]:
        """Take out the results of items that lacked memory, and give the groups that run again."""
        parts = []
        for item in group.items:
            result = results.get(text := item_text(item))
            if result is not None and result.lacks_memory:
                part = group.after_lack_of_memory(item)
                if part is not None:
                    parts.append(part)
                    del results[text]
                    report_retry(self._monitor, self._cluster, result.reason)
        return parts

    def _read_results(self, name: str) -> dict[str, Result]:
        """Give the results of a group by the texts of the items, without damaged ones."""
        results = {}
        for text, values in self._exchange.results(name).items():
            if text in self._wanted:
                with suppress(GenetsError):
                    results[text] = from_plain(self._job.result_type, values)
        return results

    def _check_tasks(self) -> Iterator[Result]:
        """Replace tasks that died, and give the results of items that are lost twice."""
        claims = self._own_claims()  # before the states, which may then only be newer
        states = self._tasks.states()
        if states is None:
            return
        statuses = self._exchange.statuses()
        self._tasks.note(states, claims.values(), statuses)
        self._monitor.running = sum(
            len(self._groups[name].items)
            for name, owner in claims.items()
            if name in self._groups and owner in states and states[owner].is_live
        )
        for name, owner in claims.items():
            state, end = states.get(owner), self._tasks.end(owner)
            if name in self._groups and state is not None and state.is_waiting:
                self._free(name)  # SLURM took its node back
            elif end is not None:
                yield from self._lose(name, owner, end, statuses.get(owner))
        self._submit()

    def _free(self, name: str) -> None:
        if not self._exchange.has_results(name):
            self._exchange.release(name)

    def _lose(
        self, name: str, task: str, end: TaskState, status: TaskStatus | None
    ) -> Iterator[Result]:
        """Run a group again whose task has ended."""
        group = self._groups.get(name)
        if group is None or self._exchange.has_results(name):
            return
        if status is not None and status.state == "fruitless":
            self._free(name)
            return
        is_late = status is not None and status.state == "late"
        state = TaskState("TIMEOUT") if is_late else end
        reason = state.describe_end()
        del self._groups[name]
        self._exchange.close_group(name)
        items = counted(len(group.items), "training")
        if state.state == "TIMEOUT" and self._has_progressed(name, group):
            _log.info("task %s ended (%s); %s continue", task, reason, items)
            parts = [Group(group.items)]
        else:
            if state.state != "PREEMPTED":
                self._monitor.report_fault(
                    f"task {task} on SLURM ended ({reason}) while it ran {items}"
                )
            parts = group.after_loss(with_machine=state.state in LOST_MACHINES)
        yield from self._run_again(group, parts, f"its task ended {MAX_LOSSES} times ({reason})")

    def _has_progressed(self, name: str, group: Group[Item]) -> bool:
        """Whether a group would continue from a later epoch than after its last time limit."""
        epochs = sum(map(self._job.progress, group.items))
        before, self._epochs[name] = self._epochs.get(name, 0), epochs
        return epochs > before

    def _run_again(
        self, group: Group[Item], parts: Sequence[Group[Item]], reason: str
    ) -> Iterator[Result]:
        """Run the parts of a lost group. reason: Why its item failed, where there are no parts."""
        if self._monitor.is_stopping:
            return
        if not parts:
            yield self._job.failed(group.items[0], reason)
            return
        for part in parts:
            self._add_group(part)
        self._save_plan()

    def _drop_waiting(self) -> None:
        """Let no further group begin, because the search is stopping."""
        claims = self._exchange.claims()
        for name in [name for name in self._groups if name not in claims]:
            self._exchange.close_group(name)
            del self._groups[name]

    def _submit(self) -> None:
        """Submit tasks where groups are free and workers are missing."""
        claims = self._exchange.claims()
        free = [name for name in self._groups if name not in claims]
        per_task = self._workers.per_task
        missing = min(self._workers.count, len(self._groups))
        needed = missing - per_task * self._tasks.expected
        count = -(-min(needed, len(free)) // per_task)
        if count <= 0 or self._monitor.is_stopping:
            return
        groups = {name: group.items for name, group in self._groups.items()}
        device = self._job.device.partition(":")[0]
        task = SlurmTask(
            str(self._exchange.folder), self._environment, device, self._job.precision,
            per_task, self._workers.limit_seconds, pickle.dumps((self._job, groups)),
        )  # fmt: skip
        self._tasks.submit(task, count)

    def _let_tasks_end(self) -> None:
        """Wait for the tasks that find no group any more: SLURM would count them as failed."""
        deadline = time.monotonic() + END_SECONDS
        while time.monotonic() < deadline:
            states = self._tasks.states() or {}
            if not any(state.is_live and not state.is_waiting for state in states.values()):
                return
            time.sleep(RESULT_SECONDS)
