"""The schedule of a job: what a lost group costs, when a group hangs, and how a stop ends it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest

from genets.nas.workers.driver_clock import CHECK_SECONDS, MAX_STEP_SECONDS, DriverClock
from genets.nas.workers.monitor import Monitor
from genets.nas.workers.schedule import MAX_LOST_MACHINES, Schedule, TimeLimit


class Job:
    """Gives results of failed items as texts."""

    def failed(self, item: str, reason: str) -> str:
        return f"{item}: {reason}"


@dataclass
class Starved:
    """The result of an item that got no memory."""

    item: str
    reason: str = "memory ran out"
    lacks_memory: bool = True
    seconds: float = 0.0


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def faults() -> list[str]:
    return []


def make_schedule(clock: Clock, faults: list[str], *groups: str) -> tuple[Any, Monitor]:
    monitor = Monitor(on_fault=faults.append)
    limit = TimeLimit(times=10, min_ended=3, min_seconds=60, clock=clock)
    return Schedule(Job(), [tuple(group) for group in groups], monitor, limit), monitor  # type: ignore[arg-type,type-var]


def test_a_group_that_is_lost_twice_is_halved_and_an_item_fails(
    clock: Clock, faults: list[str]
) -> None:
    """`c` kills every worker."""
    schedule, monitor = make_schedule(clock, faults, "abcde")
    results, ran = [], []
    while schedule.is_open:
        group = schedule.take()
        assert monitor.running == len(group.items)
        if "c" in group.items:
            results += schedule.lose(group, "worker 7", "killed")
        else:
            schedule.end(group)
            ran += group.items
    assert sorted(ran) == ["a", "b", "d", "e"]
    assert results == ["c: its worker died 2 times (killed)"]
    assert faults[0] == "worker 7 died (killed) while it ran 5 trainings"
    assert len(faults) == 2 + 1 + 1  # all, twice; c d e; c alone
    assert monitor.running == 0


def test_there_is_no_limit_before_three_items_have_ended(clock: Clock, faults: list[str]) -> None:
    schedule, _ = make_schedule(clock, faults, "ab", "c", "d")
    schedule.end(schedule.take())
    schedule.take()
    clock.now = 1e9
    assert schedule.wait_seconds() == CHECK_SECONDS
    assert schedule.hanging() == []
    schedule.end(schedule.take())
    assert [each.items for each in schedule.hanging()] == [("c",)]


@pytest.mark.parametrize(("seconds", "limit_s"), [(1.0, 60.0), (30.0, 600.0)])
def test_the_limit_is_ten_times_the_longest_and_at_least_the_shortest_one(
    clock: Clock, faults: list[str], seconds: float, limit_s: float
) -> None:
    schedule, _ = make_schedule(clock, faults, "ab", "c", "d", "ef")
    for _ in range(3):
        group = schedule.take()
        clock.now += seconds * len(group.items)
        schedule.end(group)
    group = schedule.take()  # its two items may take twice as long
    clock.now += limit_s - 1
    assert schedule.wait_seconds() == 1
    clock.now += 1
    assert (schedule.wait_seconds(), schedule.hanging()) == (0.0, [])
    clock.now = math.nextafter(clock.now, math.inf)
    assert schedule.hanging() == [group]
    assert list(schedule.give_up(group, "worker 7")) == []
    again = schedule.take()
    assert (again.items, again.losses.count) == (("e", "f"), 1)
    assert faults[0].startswith(f"worker 7 was ended (no result after {limit_s:.0f} s, where ")


def test_lost_machines_are_no_fault_of_a_group(clock: Clock, faults: list[str]) -> None:
    """`MAX_LOST_MACHINES` of them count as one loss, so a group that ends machines fails, too."""
    schedule, _ = make_schedule(clock, faults, "a")
    results: list[str] = []
    for number in range(2 * MAX_LOST_MACHINES):
        assert results == [], number
        group = schedule.take()
        results += schedule.lose(group, "worker 7", "its machine was lost", with_machine=True)
    assert results == ["a: its worker died 2 times (its machine was lost)"]
    assert not schedule.is_open


def test_the_time_in_which_the_driver_is_stopped_does_not_count(faults: list[str]) -> None:
    wall = Clock()
    schedule, _ = make_schedule(DriverClock(wall), faults, "a", "b", "c", "d")  # type: ignore[arg-type]
    assert schedule.wait_seconds() is None
    wall.now += 1e6  # before anything ran
    for _ in range(3):
        group = schedule.take()
        wall.now += 1
        schedule.end(group)
    group = schedule.take()
    wall.now += 1e6
    assert schedule.hanging() == []
    while not schedule.hanging():
        seconds = schedule.wait_seconds()
        assert seconds is not None
        assert seconds <= CHECK_SECONDS
        wall.now += max(seconds, 1.0)
    assert wall.now - 2e6 - 3 < 60 + 1, "the limit, which is not longer than the step that counted"
    assert MAX_STEP_SECONDS >= 60


def test_an_item_that_hangs_twice_fails(clock: Clock, faults: list[str]) -> None:
    schedule, _ = make_schedule(clock, faults, "abc", "d")
    schedule.end(schedule.take())
    results: list[str] = []
    for _ in range(2):
        group = schedule.take()
        clock.now += 100
        results += schedule.give_up(group, "worker 7")
    assert results == [
        "d: it did not end, 2 times (no result after 100 s, where others took at most 0 s)"
    ]
    assert not schedule.is_open


def test_an_item_without_memory_shows_no_usual_time(clock: Clock, faults: list[str]) -> None:
    """It fails soon, and a long training beside it must not count as hanging."""
    schedule, monitor = make_schedule(clock, faults, "a", "b", "c", "d")
    long = schedule.take()
    counting = []
    while schedule.has_waiting:
        group = schedule.take()
        clock.now += 1
        results = [Starved(item) for item in group.items]
        counting += schedule.sift(group, results, "this machine")
        schedule.end(group, results)
    assert [each.item for each in counting] == ["b", "c", "d"], "each ran twice"
    assert len(faults) == 3
    clock.now += 1e9
    assert schedule.hanging() == []
    schedule.end(long)
    group = make_schedule(clock, faults, "e")[0].take()
    monitor.is_stopping = True
    assert list(schedule.sift(group, [Starved("e")], "this machine")) == []
    assert len(faults) == 3, "it does not run again"


def test_a_stop_begins_no_group_again(clock: Clock, faults: list[str]) -> None:
    schedule, monitor = make_schedule(clock, faults, "a", "b", "c")
    first, second = schedule.take(), schedule.take()
    monitor.is_stopping = True
    assert (schedule.has_waiting, schedule.is_open) == (False, True)
    schedule.end(first)
    assert list(schedule.lose(second, "worker 7", "killed")) == []
    assert not schedule.is_open
    with pytest.raises(KeyboardInterrupt):
        monitor.check_stop()


def test_a_training_that_was_continued_counts_with_its_earlier_time(
    clock: Clock, faults: list[str]
) -> None:
    """Its last part alone would make every other training hang."""
    schedule, _ = make_schedule(clock, faults, *"abcd")
    groups = [schedule.take() for _ in range(4)]
    clock.now = 10.0
    for group in groups[:3]:
        schedule.end(group, [Starved(group.items[0], lacks_memory=False, seconds=1000.0)])
    clock.now = 9000.0
    assert schedule.hanging() == []
    clock.now = 11000.0
    assert schedule.hanging() == [groups[3]]
