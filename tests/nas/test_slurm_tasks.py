"""What tasks on a real SLURM survive. `make test-slurm` starts one on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from workers_lab import GO, StubJob, let_workers_find_labs

from command_line import fails, invoke
from genets.core.errors import WorkersError
from genets.nas.study import layout
from genets.nas.workers.slurm import workers as slurm_workers
from genets.nas.workers.slurm.arrays import run_command
from genets.nas.workers.slurm.cluster import SlurmCluster

if "GENETS_TEST_SLURM" not in os.environ:
    pytest.skip("`make test-slurm` starts SLURM", allow_module_level=True)

WAIT_SECONDS = 300.0
DRIVER = """
import signal, sys
from pathlib import Path
from workers_lab import StubJob
from genets.nas.workers.slurm import workers
from genets.nas.workers.slurm.cluster import SlurmCluster
signal.signal(signal.SIGINT, signal.default_int_handler)
workers.STATE_SECONDS = 1.0
folder, marks = map(Path, sys.argv[1:])
run = SlurmCluster().workers(2, "cpu", lambda cores, gpus: 1, folder)
try:
    for result in run.run(StubJob(folder, marks), [("a",), ("wait1",), ("b",), ("wait2",)]):
        print(result.text, flush=True)
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm_workers, "STATE_SECONDS", 1.0)
    let_workers_find_labs(monkeypatch)


@pytest.fixture
def job(tmp_path: Path) -> StubJob:
    return StubJob.within(tmp_path)


def wait_for(is_so: Callable[[], object], seconds: float = WAIT_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def tasks(state: str = "all") -> list[str]:
    words = ("--array", "--noheader", "--format=%i", f"--states={state}")
    return sorted(run_command("squeue", *words))


def live_tasks() -> list[str]:
    return tasks("RUNNING,PENDING,COMPLETING")


def run(job: StubJob, groups: list[tuple[str, ...]], count: int = 1) -> list[str]:
    workers = SlurmCluster().workers(count, "cpu", lambda cores, gpus: 1, job.folder)
    results = list(workers.run(job, groups))
    assert not (job.folder / "slurm").exists()
    assert all(result.reason == "" for result in results)
    return [result.text for result in results]


def disturbed_run(job: StubJob, how: Callable[[str, int], object]) -> list[str]:
    """Run groups, and disturb the task that runs the item `wait` once."""
    results: list[str] = []
    groups = [("a",), ("wait",), ("b",)]
    driver = threading.Thread(target=lambda: results.extend(run(job, groups)), daemon=True)
    driver.start()
    mark = job.marks / "wait"
    wait_for(lambda: mark.exists() and mark.read_text())
    (task,), process = tasks("RUNNING"), int(mark.read_text())
    mark.unlink()
    how(task, process)
    wait_for(lambda: mark.exists() or not driver.is_alive())
    (job.marks / GO).touch()
    driver.join(WAIT_SECONDS)
    return results


def requeue(task: str, process: int) -> None:
    run_command("scontrol", "requeue", task)


def kill(task: str, process: int) -> None:
    os.kill(process, signal.SIGKILL)


def warn_of_the_time_limit(task: str, process: int) -> None:
    run_command("scancel", "--signal=USR2", task)


def preempt(task: str, process: int) -> None:
    words = ("--partition=urgent", "--cpus-per-task=2", "--output=/dev/null")
    run_command("sbatch", *words, "--wait", "--wrap=sleep 1")


@pytest.mark.parametrize("how", [requeue, kill, warn_of_the_time_limit, preempt])
def test_a_task_that_is_stopped_runs_its_group_again(
    job: StubJob, how: Callable[[str, int], object]
) -> None:
    assert sorted(disturbed_run(job, how)) == ["ran a", "ran b", "ran wait"]


@pytest.fixture
def driver(job: StubJob, tmp_path: Path) -> list[str]:
    (tmp_path / "driver.py").write_text(DRIVER)
    return [sys.executable, str(tmp_path / "driver.py"), str(job.folder), str(job.marks)]


GROUPS = [("a",), ("wait1",), ("b",), ("wait2",)]


def plan_times(job: StubJob) -> list[int]:
    """When drivers wrote their plans, in ns."""
    plans = job.folder.glob(f"{layout.SLURM}/*/plan.json")
    return [plan.stat().st_mtime_ns for plan in plans]


@pytest.mark.parametrize("stop_signal", [signal.SIGINT, signal.SIGKILL])
def test_a_driver_that_is_stopped_continues(
    driver: list[str], job: StubJob, stop_signal: signal.Signals
) -> None:
    """Ctrl-C cancels the tasks; a kill leaves them, and the next driver takes what they did."""
    with subprocess.Popen(driver, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        wait_for((job.marks / "wait1").exists)
        wait_for((job.marks / "wait2").exists)
        process.send_signal(stop_signal)
        output = process.communicate(timeout=WAIT_SECONDS)[0].splitlines()
    assert process.returncode == (130 if stop_signal == signal.SIGINT else -signal.SIGKILL)
    if stop_signal == signal.SIGINT:
        wait_for(lambda: not live_tasks())
    else:
        assert len(live_tasks()) == 2
    before, planned = tasks(), plan_times(job)

    def go_on() -> None:
        wait_for(lambda: plan_times(job) != planned)  # the next driver has found the tasks
        (job.marks / GO).touch()

    going_on = threading.Thread(target=go_on, daemon=True)
    going_on.start()
    missing = [group for group in GROUPS if f"ran {group[0]}" not in output]
    assert {*output, *run(job, missing, count=2)} == {f"ran {item}" for (item,) in GROUPS}
    going_on.join()
    if stop_signal == signal.SIGKILL:
        assert tasks() == before, "the tasks of the first driver did all the rest"


def test_the_next_run_of_an_equal_job_begins_while_the_tasks_of_the_last_end(
    job: StubJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the batches of a screening do."""
    monkeypatch.setattr(slurm_workers, "END_SECONDS", 0.0)  # so the task is cancelled
    for item in ("a", "b", "c"):
        assert run(job, [(item,)]) == [f"ran {item}"]


def test_tasks_that_someone_cancels_stop_the_search(job: StubJob) -> None:
    def cancel() -> None:
        wait_for((job.marks / "wait").exists)
        run_command("scancel", *tasks("RUNNING"))

    canceller = threading.Thread(target=cancel, daemon=True)
    canceller.start()
    with pytest.raises(WorkersError, match="the tasks on SLURM were cancelled by someone else"):
        run(job, [("wait",)])
    canceller.join()


def test_tasks_of_a_partition_without_time_are_not_waited_for(job: StubJob) -> None:
    workers = SlurmCluster(time=500).workers(1, "cpu", lambda cores, gpus: 1, job.folder)
    with pytest.raises(WorkersError, match=r"would wait for ever \(PartitionTimeLimit\)"):
        list(workers.run(job, [("a",)]))
    wait_for(lambda: not live_tasks())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--slurm-partition", "nope"), "SLURM refuses a task (partition nope, 60 minutes, 1 CPU)"),
        (("--slurm-time", "1-0"), "partition usual of SLURM has a time limit of 60 minutes"),
        (("--slurm-cpus", 99), "99 CPUs): Requested node configuration is not available"),
        (("--slurm-gpus", 1), "its tasks on SLURM cannot have gpus"),
    ],
)
def test_tasks_that_slurm_refuses_leave_no_study(
    options: tuple[object, ...], sentence: str, tmp_path: Path
) -> None:
    out = tmp_path / "study"
    words = ("--data", "digits", "--budget", "0.9x", "--out", out, "--workers-on", "slurm")
    fails(invoke("search", *words, *options), sentence)
    assert not out.exists()


def test_more_gpus_than_a_node_has_are_refused() -> None:
    SlurmCluster(gpus=1, cpus=1).check("cuda")
    with pytest.raises(WorkersError, match=r"3 GPUs\): Requested node configuration is not avail"):
        SlurmCluster(gpus=3, cpus=1).check("cuda")


SEARCHES = """
import sys
from pathlib import Path
from test_workers import scores, search
folder = Path(sys.argv[1])
local = search(folder / "local", workers=2)
tasks = search(folder / "slurm", workers=1, workers_on="slurm")
assert scores(local.folder) == scores(tasks.folder)
print("equal", flush=True)
"""


def test_a_search_in_an_allocation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tasks of the allocation are no workers of the search, which starts its own."""
    tests = Path(__file__).parent
    paths = (str(tests), str(tests.parent), os.environ.get("PYTHONPATH", ""))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    script, output = tmp_path / "searches.py", tmp_path / "output"
    script.write_text(SEARCHES)
    # One CPU for two tasks, so that a task of the search finds the other CPU.
    words = f"--ntasks=2 --overcommit --output={output} --wrap"
    command = f"{sys.executable} {script} {tmp_path}"
    (submitted,) = run_command("sbatch", "--parsable", *words.split(), command)
    wait_for(lambda: submitted not in live_tasks(), 3 * WAIT_SECONDS)
    assert output.read_text().splitlines()[-1] == "equal", output.read_text()
