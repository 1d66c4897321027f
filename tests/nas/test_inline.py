"""Worker processes run groups, and end when the driver ends, also when it is killed."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest
from workers_lab import GO, INPUT, StubJob, StubResult

from genets.core.errors import StudyError
from genets.nas.workers import local, local_process
from genets.nas.workers.monitor import Monitor
from genets.nas.workers.schedule import TimeLimit

# Replaces the real runner in the driver, and in the workers, which get the job.
STUBS = """
import os, time
class Result(str):
    lacks_memory = False
    seconds = 0.0
class Job:
    def __init__(self, seconds): self.seconds = seconds
    def runner(self, worker=0): return Runner(self, worker)
class Runner:
    def __init__(self, job, worker): self.job, self.worker = job, worker
    def run(self, group):
        print(f"{os.getpid()} {self.worker}\\n", end="", flush=True)  # one write
        time.sleep(self.job.seconds)
        return [Result(f"{name} is done") for name in group]
"""
# No `if __name__ == "__main__"`: the workers must not run the user's script again.
# A shell lets its background processes ignore Ctrl-C, and the tests may run in the background.
DRIVER = """
import signal, sys, stubs
from genets.nas.workers import local, local_process
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    print(*local.run_inline(stubs.Job(float(sys.argv[1])), [("a",), ("b",)], 2), sep="; ")
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.fixture
def driver(tmp_path: Path, quick_torch: Path) -> list[str]:
    """A command without its last argument, the number of seconds that a trial takes."""
    (tmp_path / "stubs.py").write_text(STUBS)
    (tmp_path / "driver.py").write_text(DRIVER)
    return [sys.executable, str(tmp_path / "driver.py")]


def test_the_server_imports_the_code_of_the_jobs() -> None:
    """A module that is missing would only make each start slow."""
    assert importlib.util.find_spec(local_process.CODE_OF_JOBS) is not None


def test_a_script_without_main_guard_runs(driver: list[str]) -> None:
    done = subprocess.run([*driver, "0"], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert set(done.stdout.splitlines()[-1].split("; ")) == {"a is done", "b is done"}


FAULT = "from genets.core.errors import GenetsError; raise GenetsError('no weights file')"


def test_an_error_at_the_start_of_a_worker_is_the_error_of_the_driver(driver: list[str]) -> None:
    stubs = Path(driver[1]).with_name("stubs.py")
    stubs.write_text(STUBS.replace("return Runner(self, worker)", FAULT))
    done = subprocess.run([*driver, "0"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "genets.core.errors.GenetsError: no weights file"
    assert "Exception in initializer" not in done.stderr


def is_alive(process: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):  # the second, where it ends during the read
        return False


@pytest.mark.parametrize("stop_signal", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_the_driver(driver: list[str], stop_signal: signal.Signals) -> None:
    with subprocess.Popen(
        [*driver, "600"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        lines = [map(int, process.stdout.readline().split()) for _ in range(2)]
        workers, numbers = zip(*lines, strict=True)
        assert sorted(numbers) == [0, 1]
        assert all(map(is_alive, workers))
        process.send_signal(stop_signal)
        try:
            ended = process.wait(timeout=60)
        finally:
            process.kill()
    assert ended == (130 if stop_signal == signal.SIGINT else -signal.SIGKILL)
    deadline = time.monotonic() + 30
    while any(map(is_alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_alive, workers))


def test_workers_import_the_files_that_the_driver_imports(
    driver: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Files of the current folder have names of packages, and the driver is elsewhere."""
    folder = tmp_path_factory.mktemp("current")
    (folder / "torch.py").write_text("raise SystemExit('the wrong file')")
    done = subprocess.run([*driver, "0"], capture_output=True, text=True, timeout=60, cwd=folder)
    assert done.stderr == ""
    assert "a is done" in done.stdout


def test_a_server_that_cannot_start_is_one_sentence(driver: list[str]) -> None:
    script = Path(driver[1])
    script.with_name("faulty_code.py").write_text("raise ZeroDivisionError")
    cause = "from genets.nas.workers import local_process as p; p.CODE_OF_JOBS = 'faulty_code'\n"
    script.write_text(cause + DRIVER)
    done = subprocess.run([*driver, "0"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "WorkersError: a worker process could not be started" in done.stderr.splitlines()[-1]


def test_workers_start_also_where_their_server_cannot(
    driver: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The socket of the server has a short path."""
    long = tmp_path / ("x" * 120)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    done = subprocess.run([*driver, "0"], capture_output=True, text=True, timeout=60)
    assert "a is done" in done.stdout, done.stderr


@pytest.fixture
def quick_server(quick_torch: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The server of the workers finds a stand-in for PyTorch, and ends with the test."""
    server: Any = vars(forkserver)["_forkserver"]
    server._stop()
    monkeypatch.syspath_prepend(quick_torch)
    monkeypatch.setattr(local_process, "CODE_OF_JOBS", "workers_lab")
    yield
    server._stop()


def run_of(tmp_path: Path, groups: Sequence[tuple[str, ...]], **options: Any) -> list[StubResult]:
    for name in ("study", "marks"):
        (tmp_path / name).mkdir()
    (tmp_path / "study" / INPUT).write_text("ran")
    job = StubJob(tmp_path / "study", tmp_path / "marks", **options.pop("job", {}))
    return list(local.run_inline(job, groups, 2, **options))


KILLED = "(it was killed, perhaps because memory ran out)"


@pytest.mark.usefixtures("quick_server")
def test_an_item_that_kills_its_workers_fails_alone(tmp_path: Path) -> None:
    faults: list[str] = []
    groups = [("die-once", "a"), ("b", "die")]
    results = run_of(tmp_path, groups, monitor=Monitor(on_fault=faults.append))
    by_text = {each.text: each.reason for each in results}
    done = {f"ran {item}": "" for item in ("die-once", "a", "b")}
    assert by_text == done | {"die": f"its worker died 2 times {KILLED}"}
    assert len(faults) == 1 + 3  # the group twice, and the item alone
    assert f"a worker process died {KILLED} while it ran 2 trainings" in faults


has_server = pytest.mark.skipif(not local_process.IS_FORKED, reason="workers have no server")


def run_with_killed_server(place: Path, on_fault: Callable[[str], None]) -> list[str]:
    """Kill the server of two workers while both run a group, and give the sorted results."""

    def kill_server() -> None:
        while not all((place / "marks" / name).exists() for name in ("wait1", "wait2")):
            time.sleep(0.05)
        server: Any = vars(forkserver)["_forkserver"]
        os.kill(server._forkserver_pid, signal.SIGKILL)

    killing = threading.Thread(target=kill_server, daemon=True)
    killing.start()
    results = run_of(place, [("wait1",), ("wait2",)], monitor=Monitor(on_fault=on_fault))
    killing.join()
    return sorted(each.text for each in results)


@pytest.mark.usefixtures("quick_server")
@has_server
def test_workers_whose_server_is_killed_are_replaced(tmp_path: Path) -> None:
    """The old ones end, so that no group runs twice at a time."""
    faults: list[str] = []

    def keep(fault: str) -> None:
        faults.append(fault)
        if len(faults) == 2:
            (tmp_path / "marks" / GO).touch()

    assert run_with_killed_server(tmp_path, keep) == ["ran wait1", "ran wait2"]
    assert len(faults) == 2
    assert all("the server of the processes was killed" in fault for fault in faults)


@pytest.mark.usefixtures("quick_server")
@has_server
def test_a_worker_that_has_lost_its_server_gets_no_further_group(tmp_path: Path) -> None:
    """Its answer counts, and no group is lost with it."""
    faults: list[str] = []

    def let_the_other_end(fault: str) -> None:
        faults.append(fault)
        (tmp_path / "marks" / GO).touch()
        while not any((tmp_path / "study").glob("wait*.out")):
            time.sleep(0.05)
        time.sleep(0.2)  # for its answer

    assert run_with_killed_server(tmp_path, let_the_other_end) == ["ran wait1", "ran wait2"]
    assert len(faults) == 1


@pytest.mark.usefixtures("quick_server")
def test_workers_that_die_at_once_stop_the_search(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"died before its first group .* every finished trial"):
        run_of(tmp_path, [("a",)] * 9, job={"fault": "die"})


@pytest.mark.usefixtures("quick_server")
def test_a_group_that_hangs_is_ended_and_runs_again(tmp_path: Path) -> None:
    limit = TimeLimit(times=0, min_ended=1, min_seconds=0.3)
    faults: list[str] = []
    groups = [("a",), ("hang-once",), ("b",), ("hang",), ("c",)]
    results = run_of(tmp_path, groups, monitor=Monitor(on_fault=faults.append), limit=limit)
    by_text = {each.text: each.reason for each in results}
    failed = by_text.pop("hang")
    assert by_text == {f"ran {item}": "" for item in ("a", "hang-once", "b", "c")}
    assert failed.startswith("it did not end, 2 times (no result after ")
    assert len(faults) == 3
    assert all(each.startswith("a worker process was ended (no result after") for each in faults)


def test_a_fault_of_ours_names_its_place(driver: list[str]) -> None:
    stubs = Path(driver[1]).with_name("stubs.py")
    stubs.write_text(STUBS.replace("return [Result(f", "raise ZeroDivisionError('ours') #"))
    done = subprocess.run([*driver, "0"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "ZeroDivisionError: ours\nin a worker process:" in done.stderr
    assert "stubs.py" in done.stderr


# The trainings of the two workers end when the file `go` exists.
INTERRUPTED = """
import os, signal, sys, time
from pathlib import Path
from genets.nas.workers import local, local_process
from genets.nas.workers.monitor import Monitor
import stubs
signal.signal(signal.SIGINT, signal.default_int_handler)
monitor = Monitor(lambda sentence: print(sentence, flush=True))
try:
    with monitor.stoppable():
        for result in local.run_inline(stubs.Job(Path("go")), [(x,) for x in "abcdef"],
                                       int(sys.argv[1]), monitor):
            print(result, flush=True)
except KeyboardInterrupt:
    print("stopped", flush=True)
    sys.exit(130)
"""
WAITING_STUBS = """
import time
class Result(str):
    lacks_memory = False
    seconds = 0.0
class Job:
    def __init__(self, go): self.go = go
    def runner(self, worker=0): return self
    def run(self, group):
        print(f"runs {group[0]}\\n", end="", flush=True)  # one write, as two processes print
        while not self.go.exists(): time.sleep(0.01)
        return [Result(f"{name} is done") for name in group]
"""


@pytest.mark.usefixtures("quick_torch")
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_once_finishes_what_runs_and_twice_stops_now(
    tmp_path: Path, workers: int, times: int
) -> None:
    """The signal goes to all processes, as that of a terminal does."""
    (tmp_path / "stubs.py").write_text(WAITING_STUBS)
    (tmp_path / "driver.py").write_text(INTERRUPTED)
    with subprocess.Popen(
        [sys.executable, "driver.py", str(workers)], stdout=subprocess.PIPE, text=True,
        cwd=tmp_path, start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            begun = {process.stdout.readline().strip() for _ in range(workers)}
            assert begun == {f"runs {name}" for name in "ab"[:workers]}
            os.killpg(process.pid, signal.SIGINT)
            noun = "1 running training" if workers == 1 else "2 running trainings"
            assert process.stdout.readline() == (
                f"The search stops after {noun}; press Ctrl-C again to stop now.\n"
            )
            if times == 2:
                os.killpg(process.pid, signal.SIGINT)
            else:
                (tmp_path / "go").touch()
            rest = process.stdout.read().splitlines()
            assert process.wait(timeout=60) == 130
        finally:
            process.kill()
    results = [f"{name} is done" for name in "ab"[:workers]] if times == 1 else []
    assert sorted(rest) == [*results, "stopped"]


@pytest.fixture
def usual_ctrl_c() -> Iterator[None]:
    """Python's own reaction to Ctrl-C; another test of this process may have left another one."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("usual_ctrl_c")
def test_ctrl_c_stops_at_once_where_nothing_runs() -> None:
    sentences: list[str] = []
    monitor = Monitor(sentences.append)
    with pytest.raises(KeyboardInterrupt), monitor.stoppable():
        signal.raise_signal(signal.SIGINT)
    assert (sentences, signal.getsignal(signal.SIGINT)) == ([], signal.default_int_handler)


def test_a_program_keeps_its_own_reaction_to_ctrl_c() -> None:
    received: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: received.append(number))
    try:
        with Monitor(print).stoppable():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert received == [signal.SIGINT]
