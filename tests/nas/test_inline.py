"""Worker processes run groups, and end when the driver ends, also when it is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from genets.core.errors import StudyError
from genets.nas.study.records import Trial, TrialResult
from genets.nas.workers import local
from genets.structure import SuperBlock

# Replaces the real runner in the driver, and in the workers, which get the job.
STUBS = """
import os, time
class Job:
    def __init__(self, seconds): self.seconds = seconds
    def runner(self, worker=0): return Runner(self, worker)
class Runner:
    def __init__(self, job, worker): self.job, self.worker = job, worker
    def run(self, group):
        print(os.getpid(), self.worker, flush=True)
        time.sleep(self.job.seconds)
        return [f"{name} is done" for name in group]
"""
# No `if __name__ == "__main__"`: the workers must not run the user's script again.
# A shell lets its background processes ignore Ctrl-C, and the tests may run in the background.
DRIVER = """
import signal, sys, stubs
from genets.nas.workers import local
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    print(*local.run_inline(stubs.Job(float(sys.argv[1])), [("a",), ("b",)], 2), sep="; ")
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.fixture
def driver(tmp_path: Path) -> list[str]:
    """A command without its last argument, the number of seconds that a trial takes."""
    (tmp_path / "stubs.py").write_text(STUBS)
    (tmp_path / "torch.py").write_text("def set_num_threads(count): pass")  # quick to import
    (tmp_path / "driver.py").write_text(DRIVER)
    return [sys.executable, str(tmp_path / "driver.py")]


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
    except FileNotFoundError:
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


class KilledRunner:
    def __init__(self, job: object) -> None:
        pass

    def run(self, group: tuple[Trial, ...]) -> list[TrialResult]:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def begin_killed_worker(job: object, *_: object) -> None:
    local._runner = KilledRunner(job)  # type: ignore[assignment]


def test_a_killed_worker_is_named_in_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_begin_worker", begin_killed_worker)
    groups = [(Trial(0, SuperBlock("XX", 1, 8), k),) for k in range(2)]
    with pytest.raises(StudyError, match=r"a worker process died .* every finished trial is kept"):
        list(local.run_inline(None, groups, 2))
