"""The clocks of CPU and CUDA devices, and the memory and graphs of CUDA devices."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from genets.core.gpu import check_gpu
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
    """A function that returns when a CUDA device has finished all its work; else at once."""
    if torch.device(device).type != "cuda":
        return lambda: None
    return lambda: torch.cuda.synchronize(device)


class PeakMemory:
    """Peak memory of a CUDA device that PyTorch allocated inside `watch_memory`; else None."""

    bytes: int | None = None


@contextmanager
def watch_memory(device: str) -> Iterator[PeakMemory]:
    """Measure the peak memory of a run inside the block, with the memory that the block leaves.

    The block calls `forget_peak` before this run.
    """
    peak = PeakMemory()
    if torch.device(device).type != "cuda":
        yield peak
        return
    before = torch.cuda.memory_allocated(device)
    yield peak
    torch.cuda.synchronize(device)
    peak.bytes = torch.cuda.max_memory_allocated(device) - before


def forget_peak(device: str | torch.device) -> None:
    """Forget the peak memory of the steps so far, such as the search for algorithms."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)


def check_device(device: str) -> int:
    """Return the number of a CUDA device of this machine. Raises TargetError."""
    return check_gpu(torch, device)


class GraphMemory:
    """The memory and the stream of CUDA graphs that run one at a time.

    Graphs that share memory overwrite each other's feature maps and outputs. PyTorch refuses a
    pool whose graphs have all been deleted, so the first graph lives as long as this object.
    """

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Begin again, for later graphs: a capture that failed leaves its pool unusable."""
        self.pool = torch.cuda.graph_pool_handle()
        # The inputs that graphs share, by shape and precision, while a graph reads them.
        self.inputs: WeakValueDictionary[Hashable, Tensor] = WeakValueDictionary()
        self.stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self.first: torch.cuda.CUDAGraph | None = None


def capture_graph(
    step: Callable[[Tensor], Tensor], inputs: Tensor, memory: GraphMemory
) -> tuple[Run, Tensor]:
    """Capture `step(inputs)` as a CUDA graph.

    `torch.cuda.graph` is not used: it collects garbage (before PyTorch 2.9) and returns the cached
    memory to the driver before each capture, which takes longer than the capture itself.

    Args:
        step: The function to capture.
        inputs: Its inputs; the graph reads them at each replay.
        memory: Shared with other graphs.

    Returns:
        The replay, and the tensor of its output. The next replay of any graph in the same memory
        may overwrite the output.
    """
    side = memory.stream
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(GRAPH_WARM_UP_RUNS):  # lazy initialisations must not be part of the graph
            step(inputs)
        torch.cuda.synchronize()
        _free_cache_if_needed()
        # The capture allocates all memory that a replay uses.
        torch.cuda.reset_peak_memory_stats()
        graph = torch.cuda.CUDAGraph()
        with _no_garbage_collection():
            try:
                graph.capture_begin(pool=memory.pool)
                try:
                    output = step(inputs)
                except BaseException:
                    with suppress(RuntimeError):  # the first error says more
                        graph.capture_end()
                    raise
                graph.capture_end()
            except BaseException:
                memory.renew()
                raise
    torch.cuda.current_stream().wait_stream(side)
    memory.first = memory.first or graph
    return graph.replay, output


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """The deletion of an old graph during a capture would invalidate the capture."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _free_cache_if_needed() -> None:
    """Return cached memory to the driver where the graph might not find enough beside it."""
    cached = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    if cached > torch.cuda.mem_get_info()[0]:
        torch.cuda.empty_cache()
