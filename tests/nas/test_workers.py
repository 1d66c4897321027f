"""The contract of every kind of workers, and what a Ray cluster survives.

Without SLURM, submitit runs the tasks of SLURM in processes of this machine.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from photo_lab import make_photos
from rounds_lab import ClosedFormLatency, settings
from workers_lab import GO, INPUT, LocalArrays, StubJob, StubResult, let_workers_find_labs

from genets.core.errors import GenetsError, SettingsError, WorkersError
from genets.nas.result import SearchResult
from genets.nas.search import run_search
from genets.nas.settings.settings import SearchSettings
from genets.nas.study import layout
from genets.nas.study.study import Study
from genets.nas.workers.job import Workers
from genets.nas.workers.machines import MACHINES, find_machines
from genets.nas.workers.monitor import Monitor
from genets.nas.workers.ray_cluster import RayCluster
from genets.nas.workers.slurm import watched_tasks
from genets.nas.workers.slurm import workers as slurm_workers
from genets.nas.workers.slurm.exchange import DRIVER
from genets.nas.workers.slurm.workers import SlurmWorkers
from genets.networks.weights import read_weights

IS_SLURM_HERE = "GENETS_TEST_SLURM" in os.environ  # `make test-slurm` sets it


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    """A Ray cluster of two CPUs, to which this process is connected."""
    if not os.environ.get("GENETS_TEST_RAY"):
        pytest.skip("`make test-ray` starts a Ray cluster")
    pytest.importorskip("ray", reason="needs the extra `ray`")
    with pytest.MonkeyPatch.context() as patch:
        let_workers_find_labs(patch)
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))  # for the token of the cluster
        patch.setenv("RAY_AUTH_MODE", "")
        patch.delenv("RAY_AUTH_MODE")  # Ray sets it, and it is removed in the end
        with RayCluster().connected(cpus=2):
            yield RayCluster()


@pytest.fixture(params=sorted(MACHINES))
def kind(request: pytest.FixtureRequest) -> str:
    if request.param != "local":
        request.getfixturevalue({"ray": "cluster", "slurm": "slurm"}[request.param])
    if request.param == "slurm" and not IS_SLURM_HERE:
        request.getfixturevalue("quick_torch")
        request.getfixturevalue("quick_states")
    return str(request.param)


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks find the stub job, SLURM is asked often, and files show at once."""
    pytest.importorskip("submitit", reason="needs the extra `slurm`")
    monkeypatch.setattr(slurm_workers, "STATE_SECONDS", 1.0)
    monkeypatch.setattr(watched_tasks, "GRACE_SECONDS", 0.0)
    let_workers_find_labs(monkeypatch)


@pytest.fixture
def quick_states(monkeypatch: pytest.MonkeyPatch, slurm: None) -> None:
    """The states of processes of this machine cost nothing."""
    monkeypatch.setattr(slurm_workers, "STATE_SECONDS", 0.2)
    monkeypatch.setattr(slurm_workers, "RESULT_SECONDS", 0.1)


@pytest.fixture
def job(tmp_path: Path) -> StubJob:
    return StubJob.within(tmp_path)


def workers_of(kind: str, folder: Path, count: int = 2) -> Workers:
    workers = find_machines(kind).workers(count, "cpu", lambda cores, gpus: 1, folder)
    if kind == "slurm" and not IS_SLURM_HERE:
        assert isinstance(workers, SlurmWorkers)
        return replace(workers, make_arrays=LocalArrays)
    return workers


def is_alive(process: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):  # the second, where it ends during the read
        return False


def assert_ended(processes: set[int]) -> None:
    deadline = time.monotonic() + 30
    while any(map(is_alive, processes)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_alive, processes))


def test_groups_run_as_a_whole_and_files_come_back(kind: str, job: StubJob) -> None:
    groups = [("a1", "a2", "a3"), ("b1",), ("c1", "c2")]
    results: list[StubResult] = []
    for result in workers_of(kind, job.folder).run(job, groups):
        item = result.text.removeprefix("ran ")
        assert (job.folder / f"{item}.out").read_text() == result.text, "before the result is given"
        results.append(result)
    assert sorted(result.text for result in results) == [
        f"ran {item}" for group in groups for item in group
    ]
    by_item = {result.text.removeprefix("ran "): result.process for result in results}
    assert all(len({by_item[item] for item in group}) == 1 for group in groups)
    assert {path.name for path in job.folder.iterdir()} == {
        INPUT, *(f"{item}.out" for group in groups for item in group)
    }  # fmt: skip
    assert os.getpid() not in by_item.values()
    assert_ended(set(by_item.values()))


def test_an_error_of_a_runner_stops_the_search_in_one_sentence(kind: str, job: StubJob) -> None:
    with pytest.raises(GenetsError, match="no luck today"):
        list(workers_of(kind, job.folder, 1).run(job, [("fail",), ("a",)]))


def test_a_worker_that_dies_is_replaced(kind: str, job: StubJob) -> None:
    """Its group runs again. `test_schedule.py` has the other cases."""
    faults: list[str] = []
    monitor = Monitor(on_fault=faults.append)
    results = list(workers_of(kind, job.folder).run(job, [("a", "die-once"), ("b",)], monitor))
    assert sorted(each.text for each in results) == ["ran a", "ran b", "ran die-once"]
    assert len(faults) == 1
    assert "it was killed, perhaps because memory ran out" in faults[0]
    assert_ended({each.process for each in results})


@pytest.mark.parametrize("count", [1, 2])
def test_a_training_without_memory_runs_once_more(kind: str, count: int, job: StubJob) -> None:
    """The other items of its group are not trained again. A single local worker is the search."""
    faults: list[str] = []
    groups = [("a", "starve-once", "starve"), ("b",)]
    workers = workers_of(kind, job.folder, count)
    results = [*workers.run(job, groups, Monitor(on_fault=faults.append))]
    by_text = {each.text: each for each in results}
    assert sorted(by_text) == ["ran a", "ran b", "ran starve-once", "starve"]
    assert len(results) == 4
    assert [each.reason for each in results if each.lacks_memory] == ["memory ran out"]
    assert [each.partition(" failed ")[2] for each in faults] == 2 * [
        "and runs again: memory ran out"
    ]
    if (kind, count) != ("local", 1):
        without_memory = int((job.marks / "starve-once").read_text())
        if kind != "slurm":  # where the task goes on
            assert by_text["ran starve-once"].process != without_memory
        assert_ended({each.process for each in results} | {without_memory})


def test_a_stop_lets_the_running_groups_end(kind: str, job: StubJob) -> None:
    monitor = Monitor()
    results: list[StubResult] = []

    def stop_when_both_run() -> None:
        while not all((job.marks / item).exists() for item in ("wait1", "wait2")):
            time.sleep(0.05)
        monitor.is_stopping = True
        while kind == "slurm" and not is_closed():  # until then, a task may take the last group
            time.sleep(0.05)
        (job.marks / GO).touch()

    def is_closed() -> bool:
        claims = job.folder.glob(f"{layout.SLURM}/*/claims/*")
        return any(path.is_symlink() and str(path.readlink()) == DRIVER for path in claims)

    stopping = threading.Thread(target=stop_when_both_run, daemon=True)
    stopping.start()
    with pytest.raises(KeyboardInterrupt):
        results.extend(
            workers_of(kind, job.folder).run(job, [("wait1",), ("wait2",), ("c",)], monitor)
        )
    stopping.join()
    assert sorted(each.text for each in results) == ["ran wait1", "ran wait2"]


def test_more_workers_than_the_cluster_has_room_for_are_refused(
    cluster: RayCluster, tmp_path: Path
) -> None:
    with pytest.raises(WorkersError, match="room for 2 workers with 1 CPU each, not for 3 workers"):
        workers_of("ray", tmp_path, 3)
    with pytest.raises(WorkersError, match="has no GPU, and the search trains on cuda"):
        cluster.workers(1, "cuda", lambda cores, gpus: 1, tmp_path)


def asked(data: str = "digits") -> SearchSettings:
    training = {"epochs": 6, "warmup_epochs": 0.5, "batch_size": 32}
    return settings(
        data=data,
        rounds=1,
        confirm=1,
        trials_per_super_block=2,
        from_scratch=False,
        master_training=training,
        trial_training=training | {"epochs": 1, "feature_steps": 1},
    )


def search(folder: Path, data: str = "digits", **options: Any) -> SearchResult:
    chosen = asked(data)
    return run_search(chosen, folder, lab=ClosedFormLatency(chosen), **options)


def scores(folder: Path) -> list[Any]:
    with Study.open(folder) as study:
        trials = [replace(each, seconds=0.0) for each in study.results()]
        return [*trials, *(replace(each, seconds=0.0) for each in study.trained())]


def weights(folder: Path) -> dict[str, dict[str, list[Any]]]:
    return {
        str(path.relative_to(folder)): {
            name: tensor.tolist() for name, tensor in read_weights(path)[0].items()
        }
        for path in folder.rglob("*.safetensors")
    }


@pytest.mark.parametrize(("kind", "words"), [("ray", "2 workers on a Ray"), ("slurm", "2 tasks")])
def test_a_search_on_a_cluster_is_bit_equal(
    request: pytest.FixtureRequest, kind: str, words: str, tmp_path: Path
) -> None:
    """With Ray, the MasterNet travels to the workers, and the weights of the trials travel back."""
    request.getfixturevalue("cluster" if kind == "ray" else "slurm")
    if kind == "slurm" and not IS_SLURM_HERE:
        pytest.skip("`make test-slurm` starts SLURM")
    result = search(tmp_path / "local", workers=1)
    other = search(tmp_path / kind, workers=2, workers_on=kind)
    assert other.selected.structure == result.selected.structure
    assert scores(other.folder) == scores(result.folder)
    assert weights(other.folder) == weights(result.folder)
    assert words in (other.folder / "study.log").read_text()
    assert not (other.folder / "slurm").exists()


@pytest.fixture
def own_photos(tmp_path: Path) -> Iterator[str]:
    """A folder of images, by a path that exists in this process alone."""
    folder = os.open(make_photos(tmp_path / "photos", count=40), os.O_RDONLY)
    number = fcntl.fcntl(folder, fcntl.F_DUPFD_CLOEXEC, 900)  # no other process has so many files
    yield f"/proc/self/fd/{number}"
    os.close(number)
    os.close(folder)


def test_images_that_the_machines_of_a_cluster_lack_travel(
    cluster: RayCluster, own_photos: str, tmp_path: Path
) -> None:
    result = search(tmp_path / "local", own_photos, workers=1)
    other = search(tmp_path / "ray", own_photos, workers=2, workers_on="ray")
    assert scores(other.folder) == scores(result.folder)
    assert weights(other.folder) == weights(result.folder)
    assert f"where {own_photos} is missing" in (other.folder / "study.log").read_text()


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="unknown kind of workers 'rayy'; did you mean ray"):
        search(tmp_path / "study", workers_on="rayy")
    assert not (tmp_path / "study").exists()
