"""Engine `torch`: PyTorch as it is, without compilation."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from genets.errors import TargetError
from genets.latency.engines.host_memory import available_bytes, keep_freed_memory
from genets.latency.target import Target
from genets.networks import fold_batchnorm
from genets.networks.count import input_channels

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
INPUT_SEED = 0
SAFE_BYTES_PER_INPUT = 256  # no network here holds more at once for one input value


class CpuClock:
    """`perf_counter`: on a CPU a run returns when it is done."""

    # 1 ms is 10,000 times what reading perf_counter costs.
    min_window_s = 1e-3

    def time_runs(self, run: Callable[[], object], count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            run()
        return time.perf_counter() - start


class CudaClock:
    """A pair of CUDA events on the current stream, waited for."""

    # The device idles about 10 us between the first event and the first kernel.
    min_window_s = 10e-3

    def time_runs(self, run: Callable[[], object], count: int) -> float:
        start = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
        start.record()
        for _ in range(count):
            run()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / 1e3


class TorchEngine:
    """BN folded, inference mode, static shapes, channels last on a CPU."""

    def check(self, target: Target) -> None:
        if target.is_cpu:
            _check_cpu_precision(target.precision)
            return
        if not torch.cuda.is_available():
            raise TargetError(
                f"device {target.device!r} asked for, but there is no CUDA device here"
            )
        number = torch.device(target.device).index or 0
        if number >= torch.cuda.device_count():
            raise TargetError(
                f"device {target.device!r} asked for, but there are "
                f"{torch.cuda.device_count()} CUDA device(s) here, counted from 0"
            )
        with torch.cuda.device(number):
            if target.precision == "bf16" and not torch.cuda.is_bf16_supported(False):
                raise TargetError(f"precision bf16 is not supported by device {target.device!r}")

    @contextmanager
    def open(self, target: Target) -> Iterator[CpuClock | CudaClock]:
        """See `Engine.open`. Raises TargetError."""
        self.check(target)
        if target.is_cpu:
            keep_freed_memory()
            with torch.inference_mode(), _threads(target.resolved().threads):
                yield CpuClock()
        else:
            with torch.inference_mode(), torch.cuda.device(target.device), _cudnn_benchmark():
                yield CudaClock()

    def prepare(self, network: nn.Module, target: Target, resolution: int) -> Callable[[], object]:
        """See `Engine.prepare`; inputs are (batch, channels, resolution, resolution), normal."""
        _check_resolution(network, resolution)
        shape = (input_channels(network), resolution, resolution)
        layout = torch.channels_last if target.is_cpu else torch.preserve_format
        dtype = DTYPES[target.precision]
        try:
            folded = fold_batchnorm(network).to(target.device, dtype).to(memory_format=layout)
            if target.is_cpu:
                _check_memory(folded, shape, target)
            generator = torch.Generator().manual_seed(INPUT_SEED)
            inputs = torch.randn((target.batch_size, *shape), generator=generator)
            inputs = inputs.to(target.device, dtype, memory_format=layout)
            folded(inputs)
            if not target.is_cpu:
                torch.cuda.synchronize()
        except (RuntimeError, MemoryError) as error:
            raise TargetError(_reason(error, target, resolution)) from error
        return lambda: folded(inputs)


def _check_cpu_precision(precision: str) -> None:
    if precision == "fp16":
        raise TargetError("precision fp16 is for CUDA devices; on a CPU use fp32 or bf16")
    if precision == "bf16" and not cpu_has_bf16():
        raise TargetError("precision bf16 is not supported by this CPU; use fp32")


def cpu_has_bf16() -> bool:
    """True if oneDNN computes bf16 on this CPU, rather than PyTorch's slow reference."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _check_resolution(network: nn.Module, resolution: int) -> None:
    """Refuse images that the network's strides would shrink below one pixel."""
    if not isinstance(resolution, int) or isinstance(resolution, bool) or resolution < 1:
        raise TargetError(f"resolution must be an integer above 0, not {resolution!r}")
    info = getattr(network, "feature_info", None)  # timm's list of stages, deepest last
    reduction = int(info[-1]["reduction"]) if info else 1
    if resolution < reduction:
        raise TargetError(
            f"resolution must be at least {reduction}, the product of the network's strides, "
            f"not {resolution}"
        )


def _check_memory(network: nn.Module, shape: tuple[int, ...], target: Target) -> None:
    """Raise MemoryError before the system, short of memory, would kill the process."""
    free = available_bytes()
    values = target.batch_size * math.prod(shape)
    if free is None or values * SAFE_BYTES_PER_INPUT < free:
        return
    largest = 0

    def note(_: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        nonlocal largest
        tensors = (t for t in (*inputs, output) if isinstance(t, torch.Tensor))
        largest = max(largest, sum(t.numel() * t.element_size() for t in tensors))

    hooks = [m.register_forward_hook(note) for m in network.modules() if not any(m.children())]
    network(torch.zeros((1, *shape), dtype=DTYPES[target.precision]))
    for hook in hooks:
        hook.remove()
    if largest * target.batch_size > free:
        raise MemoryError("not enough memory")


def _reason(error: Exception, target: Target, resolution: int) -> str:
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    short = isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in text
    if short or "out of memory" in text:
        return (
            f"batch_size {target.batch_size} at resolution {resolution} does not fit "
            f"into the memory of {target.device}; use a smaller one"
        )
    return f"the network does not run on {target.name} at resolution {resolution}: {text}"


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    assert count is not None
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _cudnn_benchmark() -> Iterator[None]:
    """Shapes are static, so cuDNN may look for its fastest algorithm in the warm-up."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
