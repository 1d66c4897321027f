"""A job whose items sleep, so that all other time is that of the workers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Slept:
    """The result of an item."""

    number: int
    reason: str = ""
    lacks_memory: bool = False
    seconds: float = 0.0


@dataclass(frozen=True)
class SleepingJob:
    """See `genets.nas.workers.job.Job`; an item is a number, and takes `seconds`."""

    seconds: float
    device: str = "cpu"
    precision: str = "fp32"
    data: str = "digits"

    @property
    def key(self) -> str:
        return repr(self)

    @property
    def result_type(self) -> type[Slept]:
        return Slept

    def runner(self, worker: int = 0) -> SleepingJob:
        return self

    def run(self, group: Sequence[int]) -> list[Slept]:
        time.sleep(self.seconds * len(group))
        return [Slept(number) for number in group]

    def inputs(self, items: Sequence[int]) -> dict[Path, bytes]:
        return {}

    def elsewhere(self, scratch: Path) -> SleepingJob:
        return self

    def with_data(self, data: str) -> SleepingJob:
        return self

    def store(self, path: Path, content: bytes) -> None:
        raise AssertionError("this job writes no files")

    def progress(self, item: int) -> int:
        return 0

    def failed(self, item: int, reason: str) -> Slept:
        return Slept(item, reason)
