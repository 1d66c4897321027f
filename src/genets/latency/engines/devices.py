"""The one place that talks to a CUDA device's clock, memory and graphs.

The CPU as a device: its clock.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from genets.core.errors import TargetError

Run = Callable[[], object]

ENQUEUE_RUNS = 11
GRAPH_WARM_UP_RUNS = 3


class CudaClock:
    """A pair of CUDA events on the current stream, waited for."""

    # The device idles about 10 us between the first event and the first kernel.
    min_window_s = 10e-3

    def time_runs(self, run: Run, count: int) -> float:
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
        """Host seconds that handing one run to an idle device takes, the median of several.

        One at a time: a full queue would make the host wait for the device, and look slow.
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

    For engines with streams of their own, on which events of ours would mean nothing.
    """

    def time_runs(self, run: Run, count: int) -> float:
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(count):
            run()
        torch.cuda.synchronize()
        return time.perf_counter() - start


def wait_for(device: str) -> Callable[[], None]:
    """What returns when `device` has done all it was given; on a CPU that is at once."""
    return (lambda: None) if device == "cpu" else (lambda: torch.cuda.synchronize(device))


class PeakMemory:
    """Device memory that PyTorch took, at its peak, since `watch_memory` began."""

    bytes: int | None = None


@contextmanager
def watch_memory(device: str) -> Iterator[PeakMemory]:
    """Fill in the peak of what is allocated inside; None on a CPU."""
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
    """The number of a CUDA device that is here. Raises TargetError."""
    if not torch.cuda.is_available():
        raise TargetError(f"device {device!r} asked for, but there is no CUDA device here")
    number = torch.device(device).index or 0
    if number >= torch.cuda.device_count():
        raise TargetError(
            f"device {device!r} asked for, but there are "
            f"{torch.cuda.device_count()} CUDA device(s) here, counted from 0"
        )
    return number


def has_bf16(device: str) -> bool:
    """True if the device computes bf16 rather than emulating it."""
    with torch.cuda.device(device):
        return bool(torch.cuda.is_bf16_supported(False))


def captured(step: Callable[[Tensor], Tensor], inputs: Tensor) -> tuple[Run, Tensor]:
    """A CUDA graph of `step(inputs)`: what replays it, and where its output then lies."""
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # lazy initialisations may not be part of a graph
        for _ in range(GRAPH_WARM_UP_RUNS):
            step(inputs)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = step(inputs)
    return graph.replay, output


class CpuClock:
    """`perf_counter`: on a CPU a run returns when it is done."""

    # 1 ms is 10,000 times what reading perf_counter costs.
    min_window_s = 1e-3

    def time_runs(self, run: Callable[[], object], count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            run()
        return time.perf_counter() - start

    def enqueue_s(self, run: Callable[[], object]) -> None:
        """None: the host itself computes."""
