"""The clocks of CPU and CUDA devices, and the memory and graphs of CUDA devices."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from genets.core.errors import TargetError, counted
from genets.latency.engines.activity import Activity, SystemActivity
from genets.latency.engines.base import Run

ENQUEUE_RUNS = 11
GRAPH_WARM_UP_RUNS = 3


class CpuClock:
    """`perf_counter`: on a CPU a run has finished when it returns."""

    # 1 ms is 10,000 times as long as reading perf_counter takes.
    min_window_s = 1e-3

    def __init__(self) -> None:
        self.activity: Activity | None = SystemActivity()

    def time_runs(self, run: Run, count: int) -> float:
        """See `DeviceClock.time_runs`."""
        start = time.perf_counter()
        for _ in range(count):
            run()
        return time.perf_counter() - start

    def enqueue_s(self, run: Run) -> None:
        """None, because the host itself computes."""


class CudaClock:
    """A pair of CUDA events on the current stream; the host waits for the second one."""

    # The device idles for about 10 us between the first event and the first kernel.
    min_window_s = 10e-3
    activity: Activity | None = None

    def time_runs(self, run: Run, count: int) -> float:
        """See `DeviceClock.time_runs`."""
        start = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
        start.record()
        for _ in range(count):
            run()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / 1e3

    def enqueue_s(self, run: Run) -> float:
        """Median host seconds to launch one run on an idle device.

        The device is idle before each run: with a full queue the host would wait for the device
        and look slow.
        """
        seconds = []
        for _ in range(ENQUEUE_RUNS):
            torch.cuda.synchronize()
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)
        torch.cuda.synchronize()
        return statistics.median(seconds)


class CudaHostClock(CudaClock):
    """`perf_counter` between two waits for the whole device.

    For engines with their own streams, where events on the current stream measure nothing.
    """

    def time_runs(self, run: Run, count: int) -> float:
        """See `DeviceClock.time_runs`."""
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(count):
            run()
        torch.cuda.synchronize()
        return time.perf_counter() - start


def make_wait(device: str) -> Callable[[], None]:
    """A function that returns when `device` has finished all its work; at once on a CPU."""
    return (lambda: None) if device == "cpu" else (lambda: torch.cuda.synchronize(device))


class PeakMemory:
    """Peak device memory that PyTorch allocated inside `watch_memory`; None on a CPU."""

    bytes: int | None = None


@contextmanager
def watch_memory(device: str) -> Iterator[PeakMemory]:
    """Measure the peak memory that is allocated inside the block."""
    peak = PeakMemory()
    if device == "cpu":
        yield peak
        return
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    yield peak
    torch.cuda.synchronize(device)
    peak.bytes = torch.cuda.max_memory_allocated(device) - before


def check_device(device: str) -> int:
    """Return the number of a CUDA device of this machine. Raises TargetError."""
    if not torch.cuda.is_available():
        raise TargetError(f"device {device!r} is not available: this machine has no CUDA device")
    number = torch.device(device).index or 0
    if number >= torch.cuda.device_count():
        raise TargetError(
            f"device {device!r} is not available: this machine has "
            f"{counted(torch.cuda.device_count(), 'CUDA device')}, numbered from 0"
        )
    return number


def has_bf16(device: str) -> bool:
    """Whether the CUDA device computes bf16 instead of emulating it."""
    with torch.cuda.device(device):
        return bool(torch.cuda.is_bf16_supported(False))


def capture_graph(step: Callable[[Tensor], Tensor], inputs: Tensor) -> tuple[Run, Tensor]:
    """Capture `step(inputs)` as a CUDA graph; return the replay and the tensor of its output."""
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # lazy initialisations must not be part of the graph
        for _ in range(GRAPH_WARM_UP_RUNS):
            step(inputs)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = step(inputs)
    return graph.replay, output
