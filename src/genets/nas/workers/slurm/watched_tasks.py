"""The tasks of a run on SLURM: which of them live, which have ended, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from genets.core.errors import WorkersError, counted
from genets.core.log import get_logger
from genets.nas.workers.driver_clock import DriverClock
from genets.nas.workers.schedule import Losses
from genets.nas.workers.slurm.arrays import Arrays, TaskState
from genets.nas.workers.slurm.exchange import DRIVER, Exchange, TaskStatus
from genets.nas.workers.slurm.task import SlurmTask

_log = get_logger(__name__)

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
class _End:
    """The end of a task: the time when the driver saw it, and the state that SLURM gave."""

    seen_at: float
    state: TaskState


class WatchedTasks:
    """The tasks of a run, as the driver sees them.

    Args:
        arrays: The job arrays of the run.
        exchange: The files of the run.
        cluster: The cluster in words.
        max_failed_starts: How many tasks in a row may end before their first group.
        limit_seconds: The time limit of a task.
    """

    def __init__(
        self,
        arrays: Arrays,
        exchange: Exchange,
        cluster: str,
        max_failed_starts: int,
        limit_seconds: float,
    ) -> None:
        self._arrays, self._exchange, self._cluster = arrays, exchange, cluster
        self._max_failed_starts, self._limit_seconds = max_failed_starts, limit_seconds
        self._foreign: set[str] = set()  # the numbers of tasks of an earlier run with the same name
        self._live: set[str] = set()  # of the other tasks, those that have not ended
        self._ends: dict[str, _End] = {}  # of tasks that have ended
        self._unexplained: set[str] = set()  # those that may have ended with a fault
        self._failed_starts = Losses()  # in a row
        self._clock = DriverClock()
        self._answered = self._clock()  # when SLURM last answered
        self._waits_for = ""  # the reason that SLURM gives

    def find(self) -> bool:
        """Find the tasks of a driver that was stopped; whether one of them lives.

        Raises WorkersError where SLURM does not answer.
        """
        states = self._arrays.states()
        if not self._exchange.expects_tasks:
            # A driver stores its plan before it submits tasks, and removes it when its job is done.
            # So these tasks belong to a run that is done or was stopped, and SLURM is ending them.
            self._foreign = set(states)
            self._exchange.forget_cancelled()
        self._live = {task for task, state in self._own(states).items() if state.is_live}
        if not self._live:
            self._exchange.forget_tasks()
        return bool(self._live)

    def is_foreign(self, task: str) -> bool:
        """Whether a task belongs to an earlier run with the same name."""
        return task in self._foreign

    @property
    def expected(self) -> int:
        """The number of tasks that live, or that ended without a known reason."""
        return len(self._live | self._unexplained)

    def submit(self, task: SlurmTask, count: int) -> None:
        """Submit a task several times. Raises WorkersError where SLURM refuses."""
        numbers = self._arrays.submit(task, count)
        self._live.update(numbers)
        _log.info("%s on %s: %s", counted(count, "task"), self._cluster, ", ".join(numbers))

    def cancel(self) -> None:
        """Cancel the tasks; finished results stay in the folder for the next driver."""
        try:
            self._arrays.cancel()
        except WorkersError as error:
            _log.warning("the tasks on %s are not cancelled: %s", self._cluster, error)
            return
        with suppress(WorkersError):  # without the note, the next driver may wait for these tasks
            self._exchange.note_cancelled()

    def states(self) -> dict[str, TaskState] | None:
        """Give the states of the run's tasks; None where SLURM does not answer for a while.

        Raises WorkersError where it has not answered for `SILENCE_SECONDS`.
        """
        try:
            states = self._own(self._arrays.states())
        except WorkersError as error:
            if self._clock() - self._answered > SILENCE_SECONDS:
                raise
            _log.warning("%s", error)
            return None
        self._answered = self._clock()
        return states

    def _own(self, states: Mapping[str, TaskState]) -> dict[str, TaskState]:
        """Leave out the tasks of an earlier run."""
        return {task: state for task, state in states.items() if task not in self._foreign}

    def note(
        self,
        states: Mapping[str, TaskState],
        owners: Iterable[str],
        statuses: Mapping[str, TaskStatus],
    ) -> None:
        """Note which tasks wait and which have ended, also those of a driver that was stopped.

        Raises WorkersError where further tasks would be of no use.

        Args:
            states: The states of the run's tasks, not older than the owners.
            owners: The tasks that have taken a group.
            statuses: The statuses that tasks wrote, by task.
        """
        self._log_wait(states)
        live = {task for task, state in states.items() if state.is_live}
        ended, self._live = self._live - live, live
        self._check_cancelled([states[task] for task in ended if task in states])
        # A task whose node was lost may be back in the queue.
        self._unexplained = (self._unexplained | ended) - live
        self._ends = {task: end for task, end in self._ends.items() if task not in live}
        for task in (ended | {*owners}) - live - {DRIVER}:
            state = states.get(task, TaskState(""))
            self._ends.setdefault(task, _End(self._clock(), state))
        for task in sorted(self._unexplained):
            self._explain_end(task, statuses.get(task))

    def note_result(self) -> None:
        """Note that a task has finished a group."""
        self._failed_starts = Losses()

    def end(self, task: str) -> TaskState | None:
        """Give the last state of a task that has ended, once its files must be seen here."""
        end = self._ends.get(task)
        if end is None or self._clock() - end.seen_at < GRACE_SECONDS:
            return None
        return end.state

    def _log_wait(self, states: Mapping[str, TaskState]) -> None:
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
        if not is_known and self.end(task) is None:
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
        if self._failed_starts.count <= self._max_failed_starts:
            return
        reason, cure = self._exchange.last_output(task), "when the reason is gone"
        if is_fruitless:
            minutes = counted(round(self._limit_seconds / 60), "minute")
            reason = f"its start took too much of its time limit, which is {minutes}"
            cure = "with a longer --slurm-time"
        elif with_machine:
            reason = TaskState(state).describe_end()
        raise WorkersError(
            f"task {task} on {self._cluster} ended before its first group ({reason}); every "
            f"finished trial is kept, so give the same command again {cure}"
        )
