"""One stage of `gpu_campaign` in progress: its device, its time box and its figures."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from typing import Any

import torch

from conditions import write_result
from genets.latency import Target
from genets.structure import Structure

TINY_MASTER = Structure.parse("Conv3x8s2 XX3x16s2 DW3x16r3 Conv1x16 @8")

STORE_S = 3.0  # before the end of its box, a stage is interrupted and stores what it has


class OutOfTime(BaseException):
    """The time box of a stage ends; no `except Exception` of the measured code may catch this."""


@dataclass
class Session:
    """One stage in progress: its device, and the figures so far.

    Attributes:
        tiny: Whether to run for seconds only; the figures then mean nothing.
        end_s: When the time box ends, on the clock `time.monotonic`.
        failures: One sentence for each part that failed. The stage continues, stores the figures of
            the other parts, and then ends as failed.
    """

    stage: str
    device: str
    tiny: bool
    end_s: float
    figures: dict[str, Any] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    start_s: float = field(default_factory=time.monotonic)

    @property
    def is_cpu(self) -> bool:
        return self.device == "cpu"

    def target(self, batch_size: int, engine: str = "torch-graph") -> Target:
        """Fp16 on a GPU; on a CPU engine torch and fp32, because the CPU has no graphs."""
        if self.is_cpu:
            return Target("cpu", "torch", "fp32", batch_size, threads=1)
        return Target(self.device, engine, "fp16", batch_size)

    @property
    def seconds_left(self) -> float:
        """The seconds until the stage must store what it has; 0 after that time."""
        return max(0.0, self.end_s - STORE_S - time.monotonic())

    @contextmanager
    def time_box(self) -> Iterator[None]:
        """Raise OutOfTime inside the block when no seconds are left."""

        def stop(number: int, frame: object) -> None:
            raise OutOfTime

        before = signal.signal(signal.SIGALRM, stop)
        # The signal comes again, because an exception inside a destructor ends nothing.
        signal.setitimer(signal.ITIMER_REAL, max(self.seconds_left, 1e-3), STORE_S / 2)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def store(self, *, complete: bool = False, **figures: Any) -> None:
        """Add figures and write all of them."""
        self.figures |= figures
        seconds = time.monotonic() - self.start_s
        record = {"complete": complete, "tiny": self.tiny, "seconds": seconds,
                  "failures": self.failures, **self.figures}  # fmt: skip
        with redirect_stdout(StringIO()):
            write_result(f"gpu/{self.stage}", record, self.target(1))

    def wait(self) -> None:
        if not self.is_cpu:
            torch.cuda.synchronize(self.device)


def seconds_per_call(session: Session, call: Callable[[], object], times: int) -> float:
    for _ in range(3):
        call()
    session.wait()
    start = time.perf_counter()
    for _ in range(times):
        call()
    session.wait()
    return (time.perf_counter() - start) / times
