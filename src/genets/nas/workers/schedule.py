"""The schedule of a job: the groups that wait and run, and the fate of a group that is lost.

A group is lost with its worker: a worker that dies, or one that gives no result for too long. A
lost group runs again. A group that was lost twice is cut in halves, and an item that was lost twice
alone is a failed one. So a search goes past a trial for which no machine has the memory. A group
that is lost with its machine is not at fault: `MAX_LOST_MACHINES` of these losses count as one.

An item for which a worker got no memory runs once more, in a group of its own: another program may
have taken the memory for a while.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic

from genets.core.errors import counted
from genets.nas.workers.driver_clock import CHECK_SECONDS, DriverClock
from genets.nas.workers.job import Item, Job, Result
from genets.nas.workers.monitor import Monitor

MAX_LOSSES = 2  # of a group
MAX_LOST_MACHINES = 10  # which count as one loss: a group may kill its machine, too


@dataclass(frozen=True)
class TimeLimit:
    """The time after which a group that gives no result counts as hanging.

    Trials of one job differ in size, and so in time, by a factor of about 4, and another program on
    the machine may slow one of them. The time limit leaves room for both.

    Attributes:
        times: The limit, in multiples of the longest item that has ended.
        min_ended: The number of items that must have ended before there is a limit.
        min_seconds: The shortest limit.
        clock: Gives the time in seconds for which the driver ran, from any origin.
    """

    times: float = 10.0
    min_ended: int = 3
    min_seconds: float = 600.0
    clock: Callable[[], float] = field(default_factory=DriverClock)


TIME_LIMIT = TimeLimit()


@dataclass(frozen=True)
class Losses:
    """How often some work was lost.

    Attributes:
        count: The losses, of which `MAX_LOST_MACHINES` lost machines are one.
        machines: The lost machines that are no loss yet.
    """

    count: int = 0
    machines: int = 0

    def plus(self, *, with_machine: bool) -> Losses:
        """Give the losses after one more. with_machine: Whether the machine was lost."""
        if not with_machine:
            return replace(self, count=self.count + 1)
        if self.machines + 1 < MAX_LOST_MACHINES:
            return replace(self, machines=self.machines + 1)
        return Losses(self.count + 1)


@dataclass(frozen=True, eq=False)
class Group(Generic[Item]):
    """Items that run together, and how often they were lost."""

    items: tuple[Item, ...]
    losses: Losses = Losses()

    def after_loss(self, *, with_machine: bool = False) -> list[Group[Item]]:
        """Give the groups that run again after one more loss; none where a lone item has failed.

        with_machine: Whether the machine was lost.
        """
        losses, half = self.losses.plus(with_machine=with_machine), len(self.items) // 2
        if losses.count < MAX_LOSSES:
            return [replace(self, losses=losses)]
        halves = (self.items[:half], self.items[half:]) if half else ()
        return [Group(items, Losses(1)) for items in halves]

    def after_lack_of_memory(self, item: Item) -> Group[Item] | None:
        """Give the group that runs an item again; None where the item was lost alone before."""
        was_lost = len(self.items) == 1 and self.losses.count > 0
        return None if was_lost else Group((item,), Losses(1))


class Schedule(Generic[Item, Result]):
    """The groups of a job.

    Args:
        job: Gives the results of failed items.
        groups: The items; a group is run as a whole by one worker.
        monitor: Learns of running items and of faults.
        limit: When a group counts as hanging.
    """

    def __init__(
        self,
        job: Job[Item, Result],
        groups: Sequence[tuple[Item, ...]],
        monitor: Monitor,
        limit: TimeLimit,
    ) -> None:
        self._job, self._monitor, self._limit = job, monitor, limit
        self._waiting = deque(Group[Item](tuple(group)) for group in groups)
        self._begun_at: dict[Group[Item], float] = {}
        self._ended, self._longest_s = 0, 0.0  # of all items that ended, for each item

    @property
    def has_waiting(self) -> bool:
        """Whether a group waits for a worker; none does where the search is stopping."""
        return bool(self._waiting) and not self._monitor.is_stopping

    @property
    def is_open(self) -> bool:
        """Whether a group waits or runs."""
        return self.has_waiting or bool(self._begun_at)

    def take(self) -> Group[Item]:
        """Begin the next group; one must wait."""
        group = self._waiting.popleft()
        self._begun_at[group] = self._limit.clock()
        self._monitor.running += len(group.items)
        return group

    def sift(self, group: Group[Item], results: Sequence[Result], machine: str) -> Sequence[Result]:
        """Give the results of a group that count; items that lacked memory may run again.

        Args:
            group: The group.
            results: Its results, in the order of the items.
            machine: The machine of the worker, in words.
        """
        counting = []
        for item, result in zip(group.items, results, strict=True):
            again = group.after_lack_of_memory(item) if result.lacks_memory else None
            if again is None:
                counting.append(result)
            else:
                self._waiting.append(again)  # at the end, when there may be more memory
                report_retry(self._monitor, machine, result.reason)
        return counting

    def end(self, group: Group[Item], results: Sequence[Result] = ()) -> None:
        """End a group that has given its results.

        results: All of them; items that lacked memory do not show how long an item takes.
        """
        seconds = self._leave(group) / len(group.items)
        ended = len(group.items) - sum(result.lacks_memory for result in results)
        if ended:
            self._ended += ended
            # `seconds` of a result has the time of its training before an interruption, too.
            self._longest_s = max(self._longest_s, seconds, *(each.seconds for each in results))

    def lose(
        self, group: Group[Item], worker: str, reason: str, *, with_machine: bool = False
    ) -> Iterator[Result]:
        """Run a group again whose worker died; give the results of items that were lost twice.

        Args:
            group: The group.
            worker: The worker, in words.
            reason: Why it died.
            with_machine: Whether its machine was lost.
        """
        self._report(f"{worker} died ({reason})", group)
        parts = group.after_loss(with_machine=with_machine)
        yield from self._run_again(group, parts, f"its worker died {MAX_LOSSES} times ({reason})")

    def give_up(self, group: Group[Item], worker: str) -> Iterator[Result]:
        """Run a group again that hangs; its worker must be ended. See `lose`."""
        seconds = self._limit.clock() - self._begun_at[group]
        reason = (
            f"no result after {seconds:.0f} s, where others took at most "
            f"{self._longest_s * len(group.items):.0f} s"
        )
        self._report(f"{worker} was ended ({reason})", group)
        end = f"it did not end, {MAX_LOSSES} times ({reason})"
        yield from self._run_again(group, group.after_loss(), end)

    def hanging(self) -> list[Group[Item]]:
        """The groups that run for longer than the time limit."""
        now = self._limit.clock()
        return [group for group, at in self._begun_at.items() if now - at > self._limit_s(group)]

    def wait_seconds(self) -> float | None:
        """How long the driver may wait until it asks for hanging groups; None where none runs."""
        if not self._begun_at:
            return None
        now = self._limit.clock()
        left = min(self._limit_s(group) - (now - at) for group, at in self._begun_at.items())
        return max(0.0, min(left, CHECK_SECONDS))

    def _limit_s(self, group: Group[Item]) -> float:
        if self._ended < self._limit.min_ended:
            return float("inf")
        usual_s = self._longest_s * len(group.items)
        return max(self._limit.min_seconds, self._limit.times * usual_s)

    def _leave(self, group: Group[Item]) -> float:
        """Take a group from those that run, and give its time in seconds."""
        self._monitor.running -= len(group.items)
        return self._limit.clock() - self._begun_at.pop(group)

    def _report(self, fault: str, group: Group[Item]) -> None:
        items = counted(len(group.items), "training")
        self._monitor.report_fault(f"{fault} while it ran {items}")

    def _run_again(
        self, group: Group[Item], parts: Sequence[Group[Item]], reason: str
    ) -> Iterator[Result]:
        """Run the parts of a lost group. reason: Why its item failed, where there are no parts."""
        self._leave(group)
        self._waiting.extendleft(reversed(parts))
        if not parts:
            yield self._job.failed(group.items[0], reason)


def report_retry(monitor: Monitor, machine: str, reason: str) -> None:
    """Report that a training runs again for which memory ran out, unless the search stops.

    machine: In words.
    """
    if not monitor.is_stopping:
        monitor.report_fault(f"a training on {machine} failed and runs again: {reason}")
