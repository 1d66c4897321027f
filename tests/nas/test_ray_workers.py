"""What the driver of Ray workers does when workers die, on a stand-in for Ray in this process."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import chdir
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from workers_lab import INPUT, StubJob, StubResult

from genets.core.errors import GenetsError, StudyError, WorkersError
from genets.nas.workers import ray_workers
from genets.nas.workers.driver_clock import DriverClock
from genets.nas.workers.files import ROOT
from genets.nas.workers.image_folder import MAX_TRAVELLING_BYTES
from genets.nas.workers.monitor import Monitor
from genets.nas.workers.ray_cluster import Connection, RayCluster
from genets.nas.workers.ray_plan import WorkerPlan
from genets.nas.workers.ray_workers import RayWorkers, _Run
from genets.nas.workers.schedule import MAX_LOST_MACHINES, TimeLimit


class RayError(Exception):
    pass


class RayTaskError(RayError):
    pass


class WorkerDeathError(Exception):
    """Stands for the end of a worker process."""


class MortalJob(StubJob):
    def die(self) -> None:
        raise WorkerDeathError


@dataclass(eq=False)
class Call:
    actor: Any
    method: str
    arguments: tuple[Any, ...]


class Actor:
    """An actor; its calls run when their answer is taken."""

    def __init__(self, worker: Any, number: int) -> None:
        self.worker, self.number, self.is_dead = worker, number, False

    def __getattr__(self, method: str) -> Any:
        return SimpleNamespace(remote=lambda *arguments: Call(self, method, arguments))


class FakeRay:
    """Ray in this process. The first call is answered first.

    Attributes:
        actors: Every worker that was started.
        doomed: Whether a worker dies with a call, by its number and the method.
        death: What Ray says about a worker that died.
        stuck: Whether a worker never begins, by its number.
        hanging: Whether a call never ends.
        now: The time in seconds; it passes while no call ends.
    """

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self) -> None:
        self.actors: list[Actor] = []
        self.doomed: Callable[[int, str], bool] = lambda number, method: False
        self.death = "Worker exits with a connection error code 2. End of file."
        self.stuck: Callable[[int], bool] = lambda number: False
        self.hanging: Callable[[Call], bool] = lambda call: False
        self.now = 0.0
        self.resources = [{"CPU": 2.0}]

    def remote(self, worker_class: Any) -> Any:
        def start() -> Actor:
            self.actors.append(Actor(worker_class(), len(self.actors)))
            return self.actors[-1]

        made = SimpleNamespace(remote=start)
        made.options = lambda **_: made
        return made

    def put(self, value: Any) -> Any:
        return value

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": each} for each in self.resources]

    def wait(self, calls: list[Call], timeout: float, **_: Any) -> tuple[list[Call], list[Call]]:
        for call in calls:
            if call.method == "close":  # nobody takes its answer
                FakeRay.get(self, call)
        ended = [c for c in calls if not self.stuck(c.actor.number) and not self.hanging(c)]
        self.now += 0.1 if ended else timeout
        return ended[:1], []

    def get(self, call: Call) -> Any:
        actor = call.actor
        actor.is_dead |= self.doomed(actor.number, call.method)
        try:
            if actor.is_dead:
                raise WorkerDeathError
            return getattr(actor.worker, call.method)(*call.arguments)
        except WorkerDeathError:
            actor.is_dead = True
            raise RayError(self.death) from None

    def kill(self, actor: Actor) -> None:
        actor.is_dead = True


@pytest.fixture
def job(tmp_path: Path) -> MortalJob:
    return MortalJob.within(tmp_path)


@pytest.fixture
def ray() -> FakeRay:
    return FakeRay()


def run(
    ray: FakeRay,
    job: MortalJob,
    groups: Sequence[tuple[str, ...]],
    count: int = 2,
    monitor: Monitor | None = None,
    clock: Callable[[], float] | None = None,
) -> list[StubResult]:
    limit = TimeLimit(clock=clock or (lambda: ray.now))
    workers = RayWorkers(RayCluster(), WorkerPlan(count, 0, 1), limit)
    folder = str(job.marks)  # for the scratch folders
    return list(_Run(Connection(ray, folder), workers, job, groups, monitor).results())


KILLED = "(it was killed, perhaps because memory ran out)"


def test_an_item_that_kills_its_workers_fails_alone(ray: FakeRay, job: MortalJob) -> None:
    groups = [("die-once", "a"), ("b", "c", "die", "d", "e")]
    results = {each.text: each.reason for each in run(ray, job, groups)}
    done = {f"ran {item}": "" for item in ("die-once", "a", "b", "c", "d", "e")}
    assert results == done | {"die": f"its worker died 2 times {KILLED}"}
    # The group as a whole twice, then halves, and the item alone.
    assert len(ray.actors) == 2 + 1 + 4
    assert all(actor.is_dead for actor in ray.actors)


def test_lost_machines_fail_no_item(ray: FakeRay, job: MortalJob) -> None:
    ray.doomed = lambda number, method: number < 4 and method == "run"
    ray.death = "The actor's node has died."
    (result,) = run(ray, job, [("a",)])
    assert (result.text, result.reason) == ("ran a", "")


def test_machines_that_are_lost_at_once_stop_the_search(ray: FakeRay, job: MortalJob) -> None:
    ray.doomed, ray.death = lambda number, method: method == "begin", "The actor's node has died."
    with pytest.raises(WorkersError, match=r"before its first group \(its machine was lost\)"):
        run(ray, job, [("a",)])
    assert len(ray.actors) == (2 + 1) * MAX_LOST_MACHINES


def test_a_machine_that_is_lost_costs_no_result(ray: FakeRay, job: MortalJob) -> None:
    ray.doomed = lambda number, method: number < 2 and method == "run"
    groups = [(f"{letter}1", f"{letter}2") for letter in "abc"]
    results = run(ray, job, groups)
    assert sorted(each.text for each in results) == sorted(
        f"ran {item}" for group in groups for item in group
    )
    assert not any(each.reason for each in results)


def test_free_workers_take_the_group_of_a_worker_that_died(ray: FakeRay, job: MortalJob) -> None:
    """A replacement may have no room, where a machine is lost."""
    ray.stuck = lambda number: number > 1
    ray.doomed = lambda number, method: number == 1 and method == "run"
    results = run(ray, job, [("a",), ("b",)])
    assert {each.text for each in results} == {"ran a", "ran b"}


def test_a_free_worker_that_died_costs_a_group_nothing(ray: FakeRay, job: MortalJob) -> None:
    """The second worker dies with a group, and the first one while it is free."""
    is_lost = False

    def die(number: int, method: str) -> bool:
        nonlocal is_lost
        is_lost |= number == 1 and method == "run"
        return number in (0, 1) and is_lost

    ray.doomed = die
    faults: list[str] = []
    results = run(ray, job, [("a",), ("b",)], monitor=Monitor(on_fault=faults.append))
    assert {each.text for each in results} == {"ran a", "ran b"}
    assert len(faults) == 1


def test_a_worker_that_hangs_is_ended_and_its_group_runs_again(
    ray: FakeRay, job: MortalJob
) -> None:
    hanging: list[Actor] = []

    def hang(call: Call) -> bool:
        """Only the first worker with the group hangs."""
        if call.method == "run" and "b" in call.arguments[0] and not hanging:
            hanging.append(call.actor)
        return call.method == "run" and call.actor in hanging

    ray.hanging = hang
    faults: list[str] = []
    groups = [(letter,) for letter in "abcdef"]
    results = run(ray, job, groups, monitor=Monitor(on_fault=faults.append))
    assert sorted(each.text for each in results) == [f"ran {letter}" for letter in "abcdef"]
    assert not any(each.reason for each in results)
    assert [actor.is_dead for actor in hanging] == [True]
    (fault,) = faults
    assert fault.startswith("the worker on ")
    assert 600 < ray.now < 700, "the shortest limit"
    assert "was ended (no result after 6" in fault


@pytest.mark.parametrize("is_done", [True, False])
def test_a_driver_that_is_stopped_for_long_loses_nothing(
    ray: FakeRay, job: MortalJob, is_done: bool
) -> None:
    """The last group has ended meanwhile, or it takes a little longer."""
    stopped_at = 0.0

    def hang(call: Call) -> bool:
        nonlocal stopped_at
        if call.method != "run" or "d" not in call.arguments[0]:
            return False
        if not stopped_at:  # the driver is stopped while it waits
            ray.now = stopped_at = ray.now + 3600
        return not is_done and ray.now < stopped_at + 300

    ray.hanging = hang
    clock = (lambda: ray.now) if is_done else DriverClock(lambda: ray.now)
    faults: list[str] = []
    monitor = Monitor(on_fault=faults.append)
    results = run(ray, job, [(x,) for x in "abcd"], 1, monitor, clock)
    assert [each.text for each in results] == [f"ran {letter}" for letter in "abcd"]
    assert faults == []
    assert len(ray.actors) == 1


def test_an_item_that_always_hangs_fails(ray: FakeRay, job: MortalJob) -> None:
    ray.hanging = lambda call: call.method == "run" and "b" in call.arguments[0]
    results = {each.text: each.reason for each in run(ray, job, [(x,) for x in "abcde"])}
    reason = results.pop("b")
    assert reason.startswith("it did not end, 2 times (no result after 6")
    assert results == {f"ran {letter}": "" for letter in "acde"}


def test_a_stop_lets_the_running_groups_end(ray: FakeRay, job: MortalJob) -> None:
    monitor = Monitor()
    workers = RayWorkers(RayCluster(), WorkerPlan(2, 0, 1))
    groups = [(letter,) for letter in "abcdef"]
    results: list[str] = []

    def run_and_stop() -> None:
        for each in _Run(Connection(ray, str(job.marks)), workers, job, groups, monitor).results():
            monitor.is_stopping = True
            results.append(each.text)

    with pytest.raises(KeyboardInterrupt):
        run_and_stop()
    # The second worker has begun the second group, and the first one the third group.
    assert results == ["ran a", "ran b", "ran c"]
    assert monitor.running == 0
    assert all(actor.is_dead for actor in ray.actors)


def test_a_group_runs_until_its_results_are_recorded(ray: FakeRay, tmp_path: Path) -> None:
    """Otherwise, the first Ctrl-C during the last group would lose a finished training."""
    monitor, stored = Monitor(), []

    class WatchedJob(MortalJob):
        def store(self, path: Path, content: bytes) -> None:
            stored.append(monitor.running)

    job = WatchedJob.within(tmp_path)
    workers = RayWorkers(RayCluster(), WorkerPlan(1, 0, 1))
    run = _Run(Connection(ray, str(job.marks)), workers, job, [("a", "b")], monitor)
    assert [monitor.running for _ in run.results()] == [2, 2]
    assert stored == [2, 2]
    assert monitor.running == 0


@pytest.mark.parametrize("step", ["begin", "prepare"])
def test_workers_that_die_at_once_stop_the_search(ray: FakeRay, job: MortalJob, step: str) -> None:
    ray.doomed = lambda number, method: method == step
    with pytest.raises(WorkersError, match=r"died before its first group .* every finished trial"):
        run(ray, job, [("a",)] * 9)
    assert len(ray.actors) == 4


def test_a_cluster_that_lost_its_room_stops_the_search(ray: FakeRay, job: MortalJob) -> None:
    ray.stuck, ray.resources = lambda number: True, [{"CPU": 0.5}]
    with pytest.raises(WorkersError, match="has no room for a worker with 1 CPU any more"):
        run(ray, job, [("a",)])


class FullJob(MortalJob):
    """Its study is on a full disk."""

    def store(self, path: Path, content: bytes) -> None:
        raise StudyError("cannot write: No space left on device")


def test_a_full_disk_under_the_study_ends_the_workers(ray: FakeRay, job: MortalJob) -> None:
    with pytest.raises(StudyError, match="No space left on device"):
        run(ray, FullJob(job.folder, job.marks), [("a",), ("b",)])
    assert all(actor.is_dead for actor in ray.actors)


def test_errors_name_the_machine(ray: FakeRay, job: MortalJob) -> None:
    with pytest.raises(WorkersError, match=r"worker on .*: no weights here"):
        run(ray, replace(job, fault="no weights here"), [("a",)])
    results: list[Any] = []
    with pytest.raises(WorkersError, match=r"worker on .*: no luck today"):
        results += run(ray, job, [("fail",)])
    assert all(actor.is_dead for actor in ray.actors)


def test_a_worker_with_another_version_is_refused(
    ray: FakeRay, job: MortalJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = ray_workers.describe_environment("cpu", "fp32")
    monkeypatch.setattr(ray_workers, "describe_environment", lambda *_: own | {"torch": "0.1"})
    with pytest.raises(WorkersError, match=r"worker on .* other versions .*torch: 0.1 in the sear"):
        run(ray, job, [("a",)])


def test_a_worker_without_genets_is_named(ray: FakeRay, job: MortalJob) -> None:
    def get(call: Call) -> Any:
        raise RayTaskError("RayWorker failed to import on the worker: No module named 'genets'")

    ray.get = get  # type: ignore[method-assign]
    with pytest.raises(WorkersError, match="cannot import genets, which must be installed on ev"):
        run(ray, job, [("a",)])


def test_the_files_of_workers_are_removed(ray: FakeRay, job: MortalJob) -> None:
    run(ray, job, [("a",), ("die-once",)])
    left = [path for path in job.marks.iterdir() if path.is_dir()]
    assert left == []


class Elsewhere(FakeRay):
    """Workers on another machine, which does not see a folder of images."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder, self.sent = folder, 0

    def put(self, value: Any) -> Any:
        self.sent += isinstance(value, dict)
        return value

    def get(self, call: Call) -> Any:
        if call.method != "prepare":
            return super().get(call)
        hidden = self.folder.rename(self.folder.with_name("hidden"))
        try:
            return super().get(call)
        finally:
            hidden.rename(self.folder)


def test_a_job_that_a_worker_cannot_take_stops_the_search(ray: FakeRay, job: MortalJob) -> None:
    @dataclass(frozen=True)
    class FixedJob(MortalJob):
        def elsewhere(self, scratch: Path) -> FixedJob:
            if scratch != ROOT:
                raise GenetsError("cannot be moved")
            return self

    fixed = FixedJob(job.folder, job.marks)
    with pytest.raises(WorkersError, match=r"^worker on \S+: cannot be moved"):
        run(ray, fixed, [("a",)])


@pytest.mark.parametrize("full", ["mkdir", "mkdtemp", "write_bytes"])
def test_a_full_disk_of_a_machine_is_named(
    monkeypatch: pytest.MonkeyPatch, ray: FakeRay, job: MortalJob, full: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile if full == "mkdtemp" else Path, full, fail)
    message = rf"^worker on \S+: cannot write (files )?to {job.marks}\S*: No space left on device"
    with pytest.raises(WorkersError, match=message):
        run(ray, job, [("a",)])


class OtherFolder(FakeRay):
    """Workers whose current folder is not that of the driver."""

    def get(self, call: Call) -> Any:
        with chdir("/"):
            return super().get(call)


@pytest.mark.parametrize("place", ["study", "../here/study", "link/study"])
def test_paths_are_those_of_the_driver(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, job: MortalJob, place: str
) -> None:
    (tmp_path / "here").mkdir()
    job.folder.rename(tmp_path / "here" / "study")
    (tmp_path / "here" / "link").symlink_to(tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    (result,) = run(OtherFolder(), replace(job, folder=Path(place)), [("a",)])
    assert result.text == "ran a"
    files = {path.name for path in (tmp_path / "here" / "study").iterdir()}
    assert files == {INPUT, "a.out"}, "and nothing but the output came back"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.png").write_bytes(b"1")
    return tmp_path / "images"


def test_images_travel_once_to_workers_that_do_not_see_them(job: MortalJob, images: Path) -> None:
    ray = Elsewhere(images)
    assert len(run(ray, replace(job, data=str(images)), [("a",), ("b",)])) == 2
    places = {actor.worker._runner.job.data for actor in ray.actors}
    assert (len(ray.actors), len(places), ray.sent) == (2, 1, 1)
    assert str(images) not in places


def test_large_images_do_not_travel(job: MortalJob, images: Path) -> None:
    with (images / "1.png").open("r+b") as file:
        file.truncate(MAX_TRAVELLING_BYTES + 1)
    missing = rf"are not sent to \S+, where {images} is missing \(its files have more than 256 MiB"
    with pytest.raises(WorkersError, match=missing):
        run(Elsewhere(images), replace(job, data=str(images)), [("a",)])
