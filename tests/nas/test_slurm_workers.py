"""What the driver of workers on SLURM does, on a stand-in for SLURM in this process."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from workers_lab import LocalArrays, StubJob, StubResult, let_workers_find_labs

from genets.core.errors import WorkersError
from genets.nas.workers.driver_clock import DriverClock
from genets.nas.workers.monitor import Monitor
from genets.nas.workers.schedule import MAX_LOST_MACHINES
from genets.nas.workers.slurm import exchange as exchange_module
from genets.nas.workers.slurm import watched_tasks
from genets.nas.workers.slurm import workers as slurm_workers
from genets.nas.workers.slurm.arrays import TaskState
from genets.nas.workers.slurm.exchange import Exchange, TaskStatus
from genets.nas.workers.slurm.task import SlurmTask
from genets.nas.workers.slurm.workers import SlurmWorkers, _Run


class TaskDeathError(Exception):
    """Stands for the end of a task."""


class MortalJob(StubJob):
    def die(self) -> None:
        raise TaskDeathError


class FakeSlurm:
    """SLURM in this process. A task runs, from its beginning to its end, when states are asked for.

    Attributes:
        all: The state of every task that was submitted, by its number.
        begin: Called with the number of a task in place of the task; by default it runs.
        queue: The reason why tasks wait; empty where they begin.
    """

    def __init__(self) -> None:
        self.all: dict[str, TaskState] = {}
        self.tasks: dict[str, SlurmTask] = {}
        self.begin: Callable[[str], None] = self.run
        self.queue = ""
        self.cancelled = False
        self.fault: WorkersError | None = None

    def make(self, name: str, folder: Path) -> FakeSlurm:
        self.folder = folder
        return self

    def submit(self, task: SlurmTask, count: int) -> list[str]:
        numbers = [f"{len(self.all)}_{k}" for k in range(count)]
        self.all |= dict.fromkeys(numbers, TaskState("PENDING", "Priority"))
        self.tasks |= {number: replace(task) for number in numbers}
        return numbers

    def states(self) -> dict[str, TaskState]:
        if self.fault is not None:
            raise self.fault
        for number, state in list(self.all.items()):
            if state.is_live and self.queue:
                self.all[number] = TaskState("PENDING", self.queue)
            elif state.state == "REQUEUED":
                self.all[number] = TaskState("PENDING", "BeginTime")
            elif state.state == "PENDING":
                self.all[number] = TaskState("COMPLETED")
                try:
                    self.begin(number)
                except TaskDeathError:
                    self.all[number] = TaskState("OUT_OF_MEMORY")
        return dict(self.all)

    def run(self, number: str) -> None:
        task = self.tasks[number]
        task._name = number
        try:
            task._run()
        except ValueError as error:
            task._say("faulty", str(error))

    def cancel(self) -> None:
        self.cancelled = True


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm_workers, "STATE_SECONDS", 0.0)
    monkeypatch.setattr(slurm_workers, "RESULT_SECONDS", 0.0)
    monkeypatch.setattr(watched_tasks, "GRACE_SECONDS", 0.0)


@pytest.fixture
def job(tmp_path: Path) -> MortalJob:
    return MortalJob.within(tmp_path)


@pytest.fixture
def slurm() -> FakeSlurm:
    return FakeSlurm()


Groups = Sequence[tuple[str, ...]]


def begin(slurm: FakeSlurm, job: MortalJob, groups: Groups, count: int = 2) -> Any:
    workers = SlurmWorkers("SLURM", count, 1, 1, False, 600.0, job.folder, slurm.make)
    return _Run(workers, job, groups, Monitor()).results()


def run(slurm: FakeSlurm, job: MortalJob, groups: Groups, count: int = 2) -> dict[str, str]:
    """Give the reason of each result, which is empty for an item that ended well."""
    results: list[StubResult] = list(begin(slurm, job, groups, count))
    assert len({each.text for each in results}) == len(results)
    assert not (job.folder / "slurm").exists()
    return {each.text: each.reason for each in results}


def done(*items: str) -> dict[str, str]:
    return {f"ran {item}": "" for item in items}


def test_each_group_runs_once(slurm: FakeSlurm, job: MortalJob) -> None:
    assert run(slurm, job, [("a1", "a2"), ("b",), ("c",)]) == done("a1", "a2", "b", "c")
    assert len(slurm.all) == 2
    assert slurm.cancelled


def test_an_item_that_kills_its_tasks_fails_alone(slurm: FakeSlurm, job: MortalJob) -> None:
    results = run(slurm, job, [("die-once", "a"), ("b", "c", "die", "d", "e")])
    failed = {"die": "its task ended 2 times (memory ran out)"}
    assert results == done("die-once", "a", "b", "c", "d", "e") | failed


def test_a_task_in_the_queue_again_gives_its_group_to_others(
    slurm: FakeSlurm, job: MortalJob
) -> None:
    """SLURM took its node back while the group ran."""

    def claim(number: str) -> None:
        if number == "0_0":
            exchange = slurm.tasks[number]._exchange
            assert exchange.take_group(list(exchange.plan()), number) is not None
            slurm.begin = slurm.run
            slurm.all[number] = TaskState("REQUEUED", "BeginTime")

    slurm.begin = claim
    assert run(slurm, job, [("a",), ("b",), ("c",)]) == done("a", "b", "c")


@pytest.mark.parametrize(("state", "reason"), [
    ("PREEMPTED", ""), ("NODE_FAIL", ""), ("FAILED", "it was killed, perhaps b"),
    ("", "SLURM no longer knows why"),
])  # fmt: skip
def test_only_a_task_that_died_counts(
    slurm: FakeSlurm, job: MortalJob, state: str, reason: str
) -> None:
    def end(number: str) -> None:
        exchange = slurm.tasks[number]._exchange
        exchange.save_status(number, TaskStatus("node7", "begun"))
        exchange.take_group(list(exchange.plan()), number)
        slurm.all[number] = TaskState(state)
        if len(slurm.all) == 2:
            slurm.begin = slurm.run

    slurm.begin = end
    results = run(slurm, job, [("a",)], count=1)
    if reason:
        assert results["a"].startswith(f"its task ended 2 times ({reason}")
    else:
        assert results == done("a")


def test_a_group_that_took_all_the_time_is_lost(slurm: FakeSlurm, job: MortalJob) -> None:
    def late(number: str) -> None:
        exchange = slurm.tasks[number]._exchange
        exchange.take_group(list(exchange.plan()), number)
        exchange.save_status(number, TaskStatus("node7", "late"))
        raise TaskDeathError

    slurm.begin = late
    results = run(slurm, job, [("a",)])
    assert results == {"a": "its task ended 2 times (it reached its time limit)"}


def test_a_training_that_goes_on_may_take_many_time_limits(
    slurm: FakeSlurm, job: MortalJob
) -> None:
    def late(number: str) -> None:
        exchange = slurm.tasks[number]._exchange
        exchange.take_group(list(exchange.plan()), number)
        exchange.save_status(number, TaskStatus("node7", "late"))
        if len(slurm.all) in (1, 2, 4):  # later tasks come no further
            (job.marks / f"a.epoch{len(slurm.all)}").touch()
        raise TaskDeathError

    slurm.begin = late
    results = run(slurm, job, [("a",)], count=1)
    assert results == {"a": "its task ended 2 times (it reached its time limit)"}
    assert len(slurm.all) == 6, "the third task lost the group once, and the fourth went on"


def test_tasks_that_die_at_once_stop_the_search(slurm: FakeSlurm, job: MortalJob) -> None:
    def fail(number: str) -> None:
        log = slurm.folder / "x" / f"{number}_0_log.err"
        log.parent.mkdir(exist_ok=True)
        log.write_text(
            "Traceback ...\nModuleNotFoundError: No module named 'genets'\nsrun: error\n"
        )
        raise TaskDeathError

    slurm.begin = fail
    with pytest.raises(WorkersError, match=r"ended before its first group \(ModuleNotFoundError: "):
        run(slurm, job, [(f"a{number}",) for number in range(9)])
    assert len(slurm.all) == 4
    assert slurm.cancelled


def test_a_node_without_the_folder_is_named(slurm: FakeSlurm, job: MortalJob) -> None:
    def fail(number: str) -> None:
        raise TaskDeathError

    slurm.begin = fail
    with pytest.raises(WorkersError, match="so its node may not see this folder, which must be on"):
        run(slurm, job, [("a",)])


@pytest.mark.parametrize("state", ["NODE_FAIL", "PREEMPTED"])
def test_nodes_that_are_lost_for_ever_stop_the_search(
    slurm: FakeSlurm, job: MortalJob, state: str
) -> None:
    slurm.begin = lambda number: slurm.all.update({number: TaskState(state)})
    reason = {"NODE_FAIL": "its node was lost", "PREEMPTED": "SLURM needed its node"}[state]
    with pytest.raises(WorkersError, match=rf"ended before its first group \({reason}"):
        run(slurm, job, [("a",)], count=1)
    assert len(slurm.all) == 2 * MAX_LOST_MACHINES


def test_nodes_that_are_lost_fail_no_item(slurm: FakeSlurm, job: MortalJob) -> None:
    faults: list[str] = []

    def end(number: str) -> None:
        exchange = slurm.tasks[number]._exchange
        exchange.take_group(list(exchange.plan()), number)
        slurm.all[number] = TaskState("NODE_FAIL")
        if len(slurm.all) == MAX_LOST_MACHINES - 1:
            slurm.begin = slurm.run

    slurm.begin = end
    workers = SlurmWorkers("SLURM", 9, 1, 1, False, 600.0, job.folder, slurm.make)
    monitor = Monitor(on_fault=faults.append)
    assert [each.reason for each in workers.run(job, [("a",)], monitor)] == [""]
    assert len(faults) == MAX_LOST_MACHINES - 1
    assert faults[0] == "task 0_0 on SLURM ended (its node was lost) while it ran 1 training"


def test_tasks_that_never_finish_a_group_stop_the_search(slurm: FakeSlurm, job: MortalJob) -> None:
    """Their start takes most of their time limit, and a group does not fit into the rest."""

    def waste(number: str) -> None:
        exchange = slurm.tasks[number]._exchange
        exchange.take_group(list(exchange.plan()), number)
        exchange.save_status(number, TaskStatus("node7", "fruitless"))
        raise TaskDeathError

    slurm.begin = waste
    with pytest.raises(WorkersError, match=r"limit, which is 10 minutes.*--slurm-time"):
        run(slurm, job, [("a",), ("b",)])
    assert len(slurm.all) == 2 + 2
    slurm.begin = slurm.run
    assert run(slurm, job, [("a",), ("b",)]) == done("a", "b")


def test_a_study_folder_that_disappears_ends_the_search(slurm: FakeSlurm, job: MortalJob) -> None:
    slurm.begin = lambda number: shutil.rmtree(job.folder)
    with pytest.raises(WorkersError, match="the folder for the tasks on SLURM: No such file or d"):
        run(slurm, job, [("a",)])
    assert slurm.cancelled


def test_a_full_disk_under_the_study_ends_the_search(
    slurm: FakeSlurm, job: MortalJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tasks cannot store their results, nor say why."""

    def fill(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def end(number: str) -> None:
        exchange = slurm.tasks[number]._exchange
        exchange.take_group(list(exchange.plan()), number)
        monkeypatch.setattr(exchange_module, "write_json", fill)
        raise TaskDeathError

    slurm.begin = end
    with pytest.raises(WorkersError, match="No space left on device; every finished trial is kept"):
        run(slurm, job, [("a",)])
    assert slurm.cancelled


class NetworkFileSystem:
    """Shows files late: they are somewhere else until `seconds` have passed, by this clock."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.now = seconds, 0.0
        self.hidden: list[tuple[Path, Path]] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += 10.0
        if self.now > self.seconds:
            while self.hidden:
                place, path = self.hidden.pop()
                place.rename(path)

    def hide(self, path: Path) -> None:
        self.hidden.append((path.rename(path.with_name(f".{path.name}")), path))


@pytest.mark.parametrize("name", ["results", "tasks"])
@pytest.mark.parametrize("seconds", [60.0, 1e6])
def test_files_that_are_seen_late_are_waited_for(
    slurm: FakeSlurm, job: MortalJob, monkeypatch: pytest.MonkeyPatch, name: str, seconds: float
) -> None:
    """The task that finished the group has ended; after the grace time, the group runs again."""
    files = NetworkFileSystem(seconds)

    def end(number: str) -> None:
        slurm.begin = slurm.run
        task = slurm.tasks[number]
        task._name = number
        task._run()
        for path in (task._exchange.folder / name).iterdir():
            files.hide(path)
        raise TaskDeathError

    slurm.begin = end
    monkeypatch.setattr(watched_tasks, "GRACE_SECONDS", 90.0)
    monkeypatch.setattr(watched_tasks, "DriverClock", lambda: files.clock)
    monkeypatch.setattr(slurm_workers.time, "sleep", files.sleep)
    faults: list[str] = []
    workers = SlurmWorkers("SLURM", 1, 1, 1, False, 600.0, job.folder, slurm.make)
    results = workers.run(job, [("a",)], Monitor(on_fault=faults.append))
    assert [each.text for each in results] == ["ran a"]
    is_lost = name == "results" and seconds > 90
    assert (len(slurm.all), len(faults)) == ((2, 1) if is_lost else (1, 0))


def test_a_task_of_a_lost_node_may_be_back_in_the_queue(
    slurm: FakeSlurm, job: MortalJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(number: str) -> None:
        exchange = slurm.tasks[number]._exchange
        exchange.take_group(list(exchange.plan()), number)
        slurm.all[number] = TaskState("NODE_FAIL")

    def sleep(seconds: float) -> None:
        now["s"] += 50.0
        if slurm.begin is end:
            slurm.begin = slurm.run
            slurm.all = {number: TaskState("REQUEUED", "BeginTime") for number in slurm.all}

    now = {"s": 0.0}
    slurm.begin = end
    monkeypatch.setattr(watched_tasks, "GRACE_SECONDS", 90.0)
    monkeypatch.setattr(watched_tasks, "DriverClock", lambda: lambda: now["s"])
    monkeypatch.setattr(slurm_workers.time, "sleep", sleep)
    faults: list[str] = []
    workers = SlurmWorkers("SLURM", 1, 1, 1, False, 600.0, job.folder, slurm.make)
    results = list(workers.run(job, [("a",)], Monitor(on_fault=faults.append)))
    assert [each.text for each in results] == ["ran a"]
    assert (len(slurm.all), faults) == (1, [])


def test_a_driver_that_is_stopped_for_long_goes_on(
    slurm: FakeSlurm, job: MortalJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SLURM does not answer before the driver is stopped, nor just after it continues."""
    wall = {"now": 0.0}

    def sleep(seconds: float) -> None:
        wall["now"] += 1e6

    monkeypatch.setattr(watched_tasks, "DriverClock", lambda: DriverClock(lambda: wall["now"]))
    monkeypatch.setattr(slurm_workers.time, "sleep", sleep)
    results = begin(slurm, job, [("a",)], count=1)
    states = slurm.states

    def fail_once_live() -> dict[str, TaskState]:
        if slurm.all and wall["now"] < 2e6:
            raise WorkersError("SLURM does not answer: connect failure")
        return states()

    monkeypatch.setattr(slurm, "states", fail_once_live)
    assert [each.text for each in results] == ["ran a"]


def test_tasks_that_a_user_cancels_stop_the_search(slurm: FakeSlurm, job: MortalJob) -> None:
    def cancel(number: str) -> None:
        slurm.all[number] = TaskState("CANCELLED")

    slurm.begin = cancel
    with pytest.raises(WorkersError, match="the tasks on SLURM were cancelled by someone else"):
        run(slurm, job, [("a",)])


def test_tasks_that_would_wait_for_ever_stop_the_search(slurm: FakeSlurm, job: MortalJob) -> None:
    slurm.queue = "PartitionTimeLimit"
    with pytest.raises(WorkersError, match=r"would wait for ever \(PartitionTimeLimit\)"):
        run(slurm, job, [("a",)])


def test_errors_name_the_machine(slurm: FakeSlurm, job: MortalJob) -> None:
    with pytest.raises(WorkersError, match=r"the worker on .*: no weights here"):
        run(slurm, replace(job, fault="no weights here"), [("a",)])
    with pytest.raises(WorkersError, match=r"the worker on .*: no luck today"):
        run(slurm, job, [("fail",)])


def test_a_worker_with_another_version_is_refused(
    slurm: FakeSlurm, job: MortalJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = slurm_workers.describe_environment("cpu", "fp32")
    monkeypatch.setattr(slurm_workers, "describe_environment", lambda *_: own | {"torch": "0.1"})
    with pytest.raises(WorkersError, match=r"the worker on .*other versions .*torch: 0.1 in the s"):
        run(slurm, job, [("a",)])


def stop_at_sleep(monkeypatch: pytest.MonkeyPatch, results: Any) -> None:
    """Stop a driver that waits. The stand-in for SLURM does not end tasks that are cancelled."""

    def stop(seconds: float) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(slurm_workers.time, "sleep", stop)
        with pytest.raises(KeyboardInterrupt):
            list(results)


def test_slurm_may_be_silent_for_a_while(
    slurm: FakeSlurm, job: MortalJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = WorkersError("SLURM does not answer: connect failure")
    results = begin(slurm, job, [("a",), ("b",)], count=1)
    assert next(results).text == "ran a"
    slurm.fault = fault
    assert next(results).text == "ran b"
    results.close()
    slurm.fault, slurm.queue = None, "Resources"
    monkeypatch.setattr(watched_tasks, "SILENCE_SECONDS", 0.0)
    monkeypatch.setattr(slurm_workers.time, "sleep", lambda _: setattr(slurm, "fault", fault))
    with pytest.raises(WorkersError, match="connect failure"):
        run(slurm, job, [("c",)])


def test_a_driver_takes_the_results_of_tasks_that_went_on(slurm: FakeSlurm, job: MortalJob) -> None:
    groups = [("a1", "a2"), ("b",), ("c",)]
    results = begin(slurm, job, groups, count=1)
    assert next(results).text == "ran a1"
    results.close()  # before the driver has recorded a1
    outputs = sorted(job.folder.glob("*.out"))
    assert len(outputs) == 4
    for path in outputs:
        path.unlink()
    assert run(slurm, job, groups) == done("a1", "a2", "b", "c")
    assert not list(job.folder.glob("*.out")), "nothing runs again"
    assert len(slurm.all) == 1


def test_a_driver_finds_the_tasks_that_still_wait(
    slurm: FakeSlurm, job: MortalJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm.queue = "Priority"
    with monkeypatch.context() as patch:
        patch.setattr(Exchange, "note_cancelled", lambda _: None)  # as where it was killed
        stop_at_sleep(patch, begin(slurm, job, [("a", "b"), ("c", "d")]))
    monkeypatch.setattr(slurm_workers.time, "sleep", lambda _: setattr(slurm, "queue", ""))
    # Other groups, because `a` has been recorded since.
    assert run(slurm, job, [("b", "c"), ("d", "e")]) == done("b", "c", "d", "e")
    assert len(slurm.all) == 3, "the first two tasks run what they were submitted for"


def test_the_next_run_of_an_equal_job_leaves_out_the_tasks_of_the_last(
    slurm: FakeSlurm, job: MortalJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SLURM needs some seconds to end tasks that were cancelled."""
    assert run(slurm, job, [("a",), ("b",)]) == done("a", "b")
    earlier = set(slurm.all)
    slurm.all = dict.fromkeys(earlier, TaskState("COMPLETING"))

    def end_earlier(seconds: float) -> None:
        slurm.all |= dict.fromkeys(earlier, TaskState("CANCELLED"))

    monkeypatch.setattr(slurm_workers.time, "sleep", end_earlier)
    assert run(slurm, job, [("c",), ("d",)]) == done("c", "d")
    assert len(slurm.all) == 2 + 2, "the second run has as many workers as the first"


def test_a_driver_leaves_out_the_tasks_that_a_stop_has_cancelled(
    slurm: FakeSlurm, job: MortalJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SLURM still ends them when the same command is given again."""

    def stop(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(slurm_workers.time, "sleep", stop)
    with pytest.raises(KeyboardInterrupt):
        run(slurm, job, [("a",), ("b",)])
    earlier = set(slurm.all)
    slurm.all = dict.fromkeys(earlier, TaskState("COMPLETING"))

    def end_earlier(seconds: float) -> None:
        slurm.all |= dict.fromkeys(earlier, TaskState("CANCELLED"))

    monkeypatch.setattr(slurm_workers.time, "sleep", end_earlier)
    assert run(slurm, job, [("a",), ("b",)]) == done("a", "b")


def test_a_driver_runs_again_what_tasks_lost_meanwhile(
    slurm: FakeSlurm, job: MortalJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm.queue = "Priority"
    stop_at_sleep(monkeypatch, begin(slurm, job, [("a",), ("b",)]))
    exchange = slurm.tasks["0_0"]._exchange
    assert exchange.take_group(list(exchange.plan()), "0_0") is not None
    slurm.all["0_0"] = TaskState("FAILED")
    monkeypatch.setattr(slurm_workers.time, "sleep", lambda _: setattr(slurm, "queue", ""))
    assert run(slurm, job, [("a",), ("b",)]) == done("a", "b")


def test_a_driver_goes_on_after_all_tasks_have_ended(
    slurm: FakeSlurm, job: MortalJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm.queue = "Priority"
    stop_at_sleep(monkeypatch, begin(slurm, job, [("a",), ("b",)]))
    exchange = slurm.tasks["0_0"]._exchange
    assert exchange.take_group(list(exchange.plan()), "0_0") is not None
    slurm.all, slurm.queue = dict.fromkeys(slurm.all, TaskState("CANCELLED")), ""
    assert run(slurm, job, [("a", "b")]) == done("a", "b")


def test_a_damaged_result_is_computed_again(
    slurm: FakeSlurm, job: MortalJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm.queue = "Priority"
    stop_at_sleep(monkeypatch, begin(slurm, job, [("a",)]))
    slurm.queue = ""
    slurm.states()
    (path,) = (slurm.folder.parent / "results").iterdir()
    path.write_text("{")
    assert run(slurm, job, [("a",)]) == done("a")


def test_another_job_takes_no_result_of_this_one(slurm: FakeSlurm, job: MortalJob) -> None:
    results = begin(slurm, job, [("a",), ("b",)], count=1)
    next(results)
    results.close()
    (job.folder / "b.out").unlink()
    other = replace(job, precision="bf16")
    assert list(begin(FakeSlurm(), other, [("a",), ("b",)]))[1].text == "ran b"
    assert (job.folder / "b.out").exists()


def claiming_task(
    folder: Path, minutes: float, group_minutes: float, *, has_finished_group: bool = True
) -> SlurmTask:
    """A task with a limit of two hours that began minutes ago, and its group minutes ago."""
    task = SlurmTask(str(folder), {}, "cpu", "fp32", 1, 7200.0, b"")
    task._name, task._start = "7", time.monotonic() - 60 * minutes
    task._has_finished_group = SimpleNamespace(value=has_finished_group)
    task._exchange.make()
    assert task._exchange.take_group(["a"], "7") == "a"
    start = time.time() - 60 * group_minutes
    os.utime(folder / "claims" / "a", (start, start), follow_symlinks=False)
    return task


@pytest.mark.parametrize(("minutes", "group_minutes"), [(119, 50), (70, 70)])
def test_a_task_that_is_stopped_continues_in_the_queue(
    tmp_path: Path, minutes: float, group_minutes: float
) -> None:
    """It reached its time limit with a group that had less than half of it, or was preempted."""
    pytest.importorskip("submitit", reason="needs the extra `slurm`")
    task = claiming_task(tmp_path / "x", minutes, group_minutes)
    again = task.checkpoint().function
    assert again == task
    assert (again._name, again._start) == ("", 0.0)
    assert task._exchange.claims() == {}


def test_a_group_that_took_most_of_the_time_ends_its_task(tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="needs the extra `slurm`")
    task = claiming_task(tmp_path / "x", 119, 100)
    with pytest.raises(SystemExit):
        task.checkpoint()
    assert task._exchange.statuses()["7"].state == "late"
    assert task._exchange.claims() == {"a": "7"}, "the driver counts it as lost"


@pytest.mark.parametrize(("minutes", "status"), [(119, {"7": "fruitless"}), (70, {})])
def test_a_task_that_has_finished_no_group_does_not_run_again_at_its_limit(
    tmp_path: Path, minutes: float, status: dict[str, str]
) -> None:
    """Before its limit, SLURM needed the node for another job."""
    pytest.importorskip("submitit", reason="needs the extra `slurm`")
    task = claiming_task(tmp_path / "x", minutes, 50, has_finished_group=False)
    with pytest.raises(SystemExit) if status else nullcontext():
        assert task.checkpoint().function == task
    assert {name: each.state for name, each in task._exchange.statuses().items()} == status


def test_a_task_with_several_gpus_has_several_workers(
    job: MortalJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """submitit runs the task in processes of this machine."""
    pytest.importorskip("submitit", reason="needs the extra `slurm`")
    monkeypatch.setattr(slurm_workers, "STATE_SECONDS", 1.0)
    monkeypatch.setattr(slurm_workers, "RESULT_SECONDS", 0.1)
    let_workers_find_labs(monkeypatch)
    workers = SlurmWorkers("SLURM", 2, 2, 1, False, 600.0, job.folder, LocalArrays)
    plain = StubJob(job.folder, job.marks)
    # Each item waits until the other one runs, too.
    results = list(workers.run(plain, [("meet1",), ("meet2",)]))
    assert {each.text for each in results} == {"ran meet1", "ran meet2"}
    assert len({each.process for each in results}) == 2
