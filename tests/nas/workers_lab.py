"""A job for the contract of workers: it trains nothing, and its runner can fail and die.

Also job arrays that submitit runs on this machine, without SLURM.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import pytest

from genets.core.errors import GenetsError
from genets.nas.workers.files import read_files, scratch_path
from genets.nas.workers.slurm.arrays import TaskState
from genets.nas.workers.slurm.task import SlurmTask

INPUT, GO = "input.txt", "go"


def let_workers_find_labs(patch: pytest.MonkeyPatch) -> None:
    """Processes that this process starts can import the modules of this folder."""
    patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)


@dataclass(frozen=True)
class StubJob:
    """Items are words. `fail` raises an error, and `die` and `die-once` kill the worker.

    `starve` and `starve-once` get no memory.

    `hang` and `hang-once` never end. `wait` waits until the file `go` is in the folder of the
    marks, and `meet1` and `meet2` wait until both run.

    Attributes:
        folder: The study folder, with the file `INPUT`.
        marks: A folder for the marks of the workers that died; each worker sees it.
        fault: The error of the runner at its start; `die` kills the worker there.
    """

    folder: Path
    marks: Path
    fault: str = ""
    device: str = "cpu"
    precision: str = "fp32"
    data: str = "digits"

    @classmethod
    def within(cls, place: Path) -> Self:
        """Make a job with new folders in a place."""
        job = cls(place / "study", place / "marks")
        job.folder.mkdir()
        job.marks.mkdir()
        (job.folder / INPUT).write_text("ran")
        return job

    @property
    def key(self) -> str:
        return repr(self)

    @property
    def result_type(self) -> type[StubResult]:
        return StubResult

    def runner(self, worker: int = 0) -> StubRunner:
        if self.fault == "die":
            self.die()
        if self.fault:
            raise GenetsError(self.fault)
        return StubRunner(self)

    def inputs(self, items: Sequence[str]) -> dict[Path, bytes]:
        return read_files([self.folder / INPUT])

    def elsewhere(self, scratch: Path) -> Self:
        return replace(self, folder=scratch_path(scratch, self.folder))

    def with_data(self, data: str) -> Self:
        return replace(self, data=data)

    def store(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)

    def progress(self, item: str) -> int:
        return len([*self.marks.glob(f"{item}.epoch*")])

    def failed(self, item: str, reason: str) -> StubResult:
        return StubResult(item, 0, reason)

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def hang(self) -> None:
        time.sleep(3600)


@dataclass(frozen=True)
class StubResult:
    """The text of an item, and the process that made it; 0 for an item that failed."""

    text: str
    process: int
    reason: str = ""
    lacks_memory: bool = False
    seconds: float = 0.0


class StubRunner:
    """Writes a file for each item."""

    def __init__(self, job: StubJob) -> None:
        self.job = job
        self.text = (job.folder / INPUT).read_text()

    def run(self, group: Sequence[str]) -> list[StubResult]:
        for item in group:
            self._misbehave(item)
            (self.job.folder / f"{item}.out").write_text(f"{self.text} {item}")
        return [self._result(item) for item in group]

    def _result(self, item: str) -> StubResult:
        mark = self.job.marks / item
        if item == "starve" or (item == "starve-once" and not mark.exists()):
            mark.write_text(str(os.getpid()))
            return StubResult(item, os.getpid(), "memory ran out", lacks_memory=True)
        return StubResult(f"{self.text} {item}", os.getpid())

    def _misbehave(self, item: str) -> None:
        mark = self.job.marks / item
        if item == "fail":
            raise GenetsError("no luck today")
        if item.startswith(("wait", "meet")):
            mark.write_text(str(os.getpid()))
            awaited = [GO] if item.startswith("wait") else ["meet1", "meet2"]
            while not all((self.job.marks / name).exists() for name in awaited):
                time.sleep(0.05)
        if item == "die" or (item == "die-once" and not mark.exists()):
            mark.touch()
            self.job.die()
        if item == "hang" or (item == "hang-once" and not mark.exists()):
            mark.touch()
            self.job.hang()


class LocalArrays:
    """Job arrays that submitit runs in processes of this machine; see `Arrays`."""

    def __init__(self, name: str, folder: Path) -> None:
        self.folder = folder
        self.jobs: list[Any] = []

    def submit(self, task: SlurmTask, count: int) -> list[str]:
        from submitit import LocalExecutor

        executor = LocalExecutor(self.folder / uuid4().hex)
        executor.update_parameters(timeout_min=task.limit_seconds / 60)
        jobs = executor.submit_array([task] * count)
        self.jobs += jobs
        return [job.job_id for job in jobs]

    def states(self) -> dict[str, TaskState]:
        return {job.job_id: TaskState(self._state(job)) for job in self.jobs}

    def _state(self, job: Any) -> str:
        if job.state == "RUNNING":
            return "RUNNING"
        return "COMPLETED" if job.paths.result_pickle.exists() else "FAILED"

    def cancel(self) -> None:
        for job in self.jobs:
            job.cancel()
            job._process.wait()
