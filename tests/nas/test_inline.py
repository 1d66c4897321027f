"""Worker processes: they run the groups, and end with the driver whatever happens to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from genets.errors import StudyError
from genets.nas.executors import inline
from genets.nas.trial import Trial, TrialResult
from genets.structure import SuperBlock

# A driver whose trials take for ever; it tells the process numbers of its workers.
DRIVER = """
import os, sys, time, types
sys.modules["torch"] = types.SimpleNamespace(set_num_threads=str)  # quick to start
from genets.nas.executors import inline
class Runner:
    def __init__(self, job): pass
    def run(self, group):
        print(os.getpid(), flush=True)
        time.sleep(600)
inline._runner_of = Runner
if __name__ == "__main__":
    try:
        list(inline.run_inline(None, [("a",), ("b",)], 2))
    except KeyboardInterrupt:
        sys.exit(130)
"""


def alive(process: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_the_driver(tmp_path: Path, how: signal.Signals) -> None:
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    with subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as driver:
        assert driver.stdout is not None
        workers = [int(driver.stdout.readline()) for _ in range(2)]
        assert all(map(alive, workers))
        driver.send_signal(how)
        assert driver.wait(timeout=30) == (130 if how == signal.SIGINT else -signal.SIGKILL)
    deadline = time.monotonic() + 30
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, workers))


class Dying:
    def __init__(self, job: object) -> None:
        pass

    def run(self, group: tuple[Trial, ...]) -> list[TrialResult]:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def begin_dying(job: object, life: object) -> None:
    inline._runner = Dying(job)  # type: ignore[assignment]


def test_a_worker_that_dies_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inline, "_begin_worker", begin_dying)
    groups = [(Trial(0, SuperBlock("XX", 1, 8), k),) for k in range(2)]
    with pytest.raises(StudyError, match=r"a worker process died .* every finished trial is kept"):
        list(inline.run_inline(None, groups, 2))
