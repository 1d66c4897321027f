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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Generic

from genets.core.errors import GenetsError, WorkersError, counted
from genets.core.log import get_logger
from genets.core.validation import from_plain
from genets.data import readers_for
from genets.nas.study import layout
from genets.nas.workers.driver_clock import DriverClock
from genets.nas.workers.environment import describe_environment
from genets.nas.workers.job import Item, Job, Result
from genets.nas.workers.monitor import Monitor
from genets.nas.workers.schedule import MAX_LOSSES, Group, Losses, report_retry
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

_log = get_logger(__name__)

RESULT_SECONDS = 0.5  # until the driver looks for results again
STATE_SECONDS = 15.0  # until the driver asks SLURM again
END_SECONDS = 5.0  # for tasks without a further group
SILENCE_SECONDS = 1800.0  # without an answer of SLURM
# From the end of a task until its groups count as lost: a network file system shows the files of
# other machines late. NFS looks at a folder again after at most 60 s (its option acdirmax).
GRACE_SECONDS = 90.0
# Reasons for which SLURM lets a task wait that it has accepted, and which do not pass.
HOPELESS = {
    "PartitionTimeLimit", "PartitionNodeLimit", "BadConstraints", "AccountNotAllowed",
    "InvalidAccount", "InvalidQOS", "QOSMaxWallDurationPerJobLimit",
    "AssocMaxWallDurationPerJobLimit", "JobHoldMaxRequeue", "launch failed requeued held",
}  # fmt: skip
LOST_MACHINES = ("PREEMPTED", "NODE_FAIL")
ENDED_BY_WILL = ("CANCELLED", "COMPLETED")


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


@dataclass(frozen=True)
class _End:
    """The end of a task: when the driver saw it, and what SLURM said."""

    seen_at: float
    state: TaskState


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
        self._arrays = workers.make_arrays(f"genets-{self._name}", self._exchange.arrays)
        self._given = [tuple(group) for group in groups]
        self._wanted = {item_text(item): item for group in groups for item in group}
        self._groups: dict[str, Group[Item]] = {}  # those whose results are missing
        self._foreign: set[str] = set()  # the numbers of tasks of an earlier run with the same name
        self._live: set[str] = set()  # of the other tasks, those that have not ended
        self._ends: dict[str, _End] = {}  # of tasks that have ended
        self._unexplained: set[str] = set()  # those that may have ended with a fault
        self._failed_starts = Losses()  # in a row
        self._epochs: dict[str, int] = {}  # from which lost groups continue
        self._clock = DriverClock()
        self._answered = self._clock()  # when SLURM last answered
        self._waits_for = ""  # the reason that SLURM gives

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
            self._cancel()
        self._exchange.remove()

    def _continue(self) -> None:
        """Find the results and tasks of a driver that was stopped, and plan the other groups."""
        exchange = self._exchange
        states = self._arrays.states()
        plan, finished = exchange.plan(), set(exchange.finished())
        if not exchange.expects_tasks:
            # A driver stores its plan before it submits tasks, and removes it when its job is done.
            # So these tasks belong to a run that is done or was stopped, and SLURM is ending them.
            self._foreign = set(states)
            exchange.forget_cancelled()
        self._live = {task for task, state in self._own(states).items() if state.is_live}
        if not self._live:
            exchange.forget_tasks()
        closed = {name for name, owner in exchange.claims().items() if owner == DRIVER}
        covered: set[str] = set()
        for name, texts in plan.items():
            items = tuple(self._wanted[text] for text in texts if text in self._wanted)
            goes_on = name in finished or (self._live and name not in closed)
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

    def _own(self, states: Mapping[str, TaskState]) -> dict[str, TaskState]:
        """Leave out the tasks of an earlier run."""
        return {task: state for task, state in states.items() if task not in self._foreign}

    def _own_claims(self) -> dict[str, str]:
        """Give the claims of the run's tasks; those of tasks of an earlier run are released."""
        claims = self._exchange.claims()
        for name, owner in claims.items():
            if owner in self._foreign:
                self._free(name)
        return {name: owner for name, owner in claims.items() if owner not in self._foreign}

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
            results = {} if group is None else self._read_results(name)
            again = [] if group is None else self._sift(group, results)
            yield from results.values()
            # Only now, because a driver that is killed before has not recorded them.
            for text in results:
                del self._wanted[text]
            self._exchange.close_group(name)
            if group is not None:
                self._failed_starts = Losses()
                del self._groups[name]
                starved = {item for part in again for item in part.items}
                if again:
                    yield from self._run_again(group, again, "")
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
        """Replace tasks that died, and give the results of what is lost twice."""
        claims = self._own_claims()  # before the states, which may then only be newer
        states = self._ask()
        if states is None:
            return
        self._log_wait(states)
        self._monitor.running = sum(
            len(self._groups[name].items)
            for name, owner in claims.items()
            if name in self._groups and owner in states and states[owner].is_live
        )
        for name, owner in claims.items():
            state = states.get(owner)
            if name in self._groups and state is not None and state.is_waiting:
                self._free(name)  # SLURM took its node back
        self._note_ends(claims, states)
        statuses = self._exchange.statuses()
        for task in sorted(self._unexplained):
            self._explain_end(task, statuses.get(task))
        for name, owner in claims.items():
            if self._has_ended_long_ago(owner):
                yield from self._lose(name, owner, statuses.get(owner))
        self._submit()

    def _note_ends(self, claims: Mapping[str, str], states: Mapping[str, TaskState]) -> None:
        """Note which tasks have ended, also those of a driver that was stopped."""
        live = {task for task, state in states.items() if state.is_live}
        ended, self._live = self._live - live, live
        self._check_cancelled([states[task] for task in ended if task in states])
        # A task whose node was lost may be back in the queue.
        self._unexplained = (self._unexplained | ended) - live
        self._ends = {task: end for task, end in self._ends.items() if task not in live}
        for task in (ended | {*claims.values()}) - live - {DRIVER}:
            state = states.get(task, TaskState(""))
            self._ends.setdefault(task, _End(self._clock(), state))

    def _has_ended_long_ago(self, task: str) -> bool:
        """Whether a task has ended, and its files must be seen here by now."""
        end = self._ends.get(task)
        return end is not None and self._clock() - end.seen_at >= GRACE_SECONDS

    def _ask(self) -> dict[str, TaskState] | None:
        """Give the states of the run's tasks; None where SLURM does not answer for a while."""
        try:
            states = self._own(self._arrays.states())
        except WorkersError as error:
            if self._clock() - self._answered > SILENCE_SECONDS:
                raise
            _log.warning("%s", error)
            return None
        self._answered = self._clock()
        return states

    def _log_wait(self, states: dict[str, TaskState]) -> None:
        """Log why the tasks wait. Raises WorkersError where they would wait for ever."""
        live = [state for state in states.values() if state.is_live]
        reasons = {state.reason for state in live if state.is_waiting}
        waits_for = ", ".join(sorted(reasons))
        if all(state.is_waiting for state in live) and reasons & HOPELESS:
            raise WorkersError(
                f"the tasks on {self._cluster} would wait for ever ({waits_for}); every finished "
                "trial is kept, so give the same command with other options"
            )
        if waits_for and waits_for != self._waits_for:
            _log.info("tasks wait in the queue of %s (%s)", self._cluster, waits_for)
        self._waits_for = waits_for

    def _check_cancelled(self, ended: Sequence[TaskState]) -> None:
        """Raise WorkersError where someone has cancelled all tasks: they are not wanted again."""
        if ended and not self._live and all(state.state == "CANCELLED" for state in ended):
            raise WorkersError(
                f"the tasks on {self._cluster} were cancelled by someone else; every finished "
                "trial is kept, so give the same command again to continue"
            )

    def _explain_end(self, task: str, status: TaskStatus | None) -> None:
        """Find out why a task ended, where its files say it by now.

        Raises WorkersError where the task must not be replaced.
        """
        state = self._ends[task].state.state
        is_known = state in (*LOST_MACHINES, *ENDED_BY_WILL)
        is_known |= status is not None and status.state != "begun"
        if not is_known and not self._has_ended_long_ago(task):
            return
        self._unexplained.remove(task)
        if status is not None and status.fault:
            raise WorkersError(f"the worker on {status.host}: {status.fault}")
        is_fruitless = status is not None and status.state == "fruitless"
        if (status is None and state not in ENDED_BY_WILL) or is_fruitless:
            self._count_failed_start(task, state, is_fruitless)

    def _count_failed_start(self, task: str, state: str, is_fruitless: bool) -> None:
        """Count a task that ended before its first group. Raises WorkersError for too many."""
        with_machine = state in LOST_MACHINES
        self._failed_starts = self._failed_starts.plus(with_machine=with_machine)
        if self._failed_starts.count <= self._workers.count:
            return
        reason, cure = self._exchange.last_output(task), "when the reason is gone"
        if is_fruitless:
            minutes = counted(round(self._workers.limit_seconds / 60), "minute")
            reason = f"its start took too much of its time limit, which is {minutes}"
            cure = "with a longer --slurm-time"
        elif with_machine:
            reason = TaskState(state).describe_end()
        raise WorkersError(
            f"task {task} on {self._cluster} ended before its first group ({reason}); every "
            f"finished trial is kept, so give the same command again {cure}"
        )

    def _free(self, name: str) -> None:
        if not self._exchange.has_results(name):
            self._exchange.release(name)

    def _lose(self, name: str, task: str, status: TaskStatus | None) -> Iterator[Result]:
        """Run a group again whose task has ended."""
        group = self._groups.get(name)
        if group is None or self._exchange.has_results(name):
            return
        if status is not None and status.state == "fruitless":
            self._free(name)
            return
        is_late = status is not None and status.state == "late"
        state = TaskState("TIMEOUT") if is_late else self._ends[task].state
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
        needed = missing - per_task * len(self._live | self._unexplained)
        count = -(-min(needed, len(free)) // per_task)
        if count <= 0 or self._monitor.is_stopping:
            return
        groups = {name: group.items for name, group in self._groups.items()}
        device = self._job.device.partition(":")[0]
        task = SlurmTask(
            str(self._exchange.folder), self._environment, device, self._job.precision,
            per_task, self._workers.limit_seconds, pickle.dumps((self._job, groups)),
        )  # fmt: skip
        numbers = self._arrays.submit(task, count)
        self._live.update(numbers)
        _log.info("%s on %s: %s", counted(count, "task"), self._cluster, ", ".join(numbers))

    def _let_tasks_end(self) -> None:
        """Wait for the tasks that find no group any more: SLURM would count them as failed."""
        deadline = time.monotonic() + END_SECONDS
        while time.monotonic() < deadline:
            states = self._ask() or {}
            if not any(state.is_live and not state.is_waiting for state in states.values()):
                return
            time.sleep(RESULT_SECONDS)

    def _cancel(self) -> None:
        """Cancel the tasks; what is finished stays in the folder for the next driver."""
        try:
            self._arrays.cancel()
        except WorkersError as error:
            _log.warning("the tasks on %s are not cancelled: %s", self._cluster, error)
            return
        with suppress(WorkersError):  # without the note, the next driver may wait for these tasks
            self._exchange.note_cancelled()
