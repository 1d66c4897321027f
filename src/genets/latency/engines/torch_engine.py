"""Engine `torch`: PyTorch without compilation."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from genets.core.errors import TargetError
from genets.core.gpu import has_bf16
from genets.core.host import keep_freed_memory
from genets.latency.engines.base import (
    Prepared,
    Run,
    Stopwatch,
    check_precision,
    explain_failures,
    make_shape,
    normal_images,
)
from genets.latency.engines.devices import (
    CpuClock,
    CudaClock,
    check_device,
    forget_peak,
    make_wait,
    watch_memory,
)
from genets.latency.engines.memory import (
    LAYOUT_COPIES,
    MAP_COPIES,
    VALUE_BYTES,
    Footprint,
    check_memory,
)
from genets.networks import fold_batchnorm

if TYPE_CHECKING:
    from genets.latency.target import Target

MAX_GAP_BYTES = 2**18  # between tensors that are moved in memory

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

Step = Callable[[Tensor], Tensor]
Shape = tuple[int, int, int, int]


class TorchEngine:
    """Batch norm folded, inference mode, static shapes; channels last except for fp32 on CUDA."""

    precisions = tuple(DTYPES)
    packages: tuple[str, ...] = ()

    def check(self, target: Target) -> None:
        """See `Engine.check`."""
        if target.is_cpu:
            _check_cpu_precision(target.precision)
            check_precision(target, tuple(p for p in self.precisions if p != "fp16"))
            return
        check_precision(target, self.precisions)
        check_device(target.device)
        if target.precision == "bf16" and not has_bf16(torch, target.device):
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

    def prepare(
        self,
        network: nn.Module,
        target: Target,
        resolution: int,
        calibration: Tensor | None = None,
        *,
        latency_only: bool = False,
    ) -> Prepared:
        """See `Engine.prepare`. This engine quantises nothing and has no slow step to skip."""
        shape, device = make_shape(network, target, resolution), self.place(target)
        watch = Stopwatch(make_wait(device))
        with explain_failures(target, resolution), watch_memory(device) as memory:
            with watch.step("fold"):
                folded = fold_batchnorm(network)
            with watch.step("load"):
                layout, dtype = _layout(target), DTYPES[target.precision]
                folded = folded.to(device, dtype).to(memory_format=layout)
                if target.is_cpu:
                    check_memory(folded, shape, dtype)
                inputs = self.make_inputs(shape, target, latency_only=latency_only)
            run, predict = self.start(folded, inputs, watch, latency_only=latency_only)
        move = run.move if isinstance(run, EagerRun) and target.is_cpu else None
        return Prepared(run, predict, shape, watch.seconds, memory_bytes=memory.bytes, move=move)

    def place(self, target: Target) -> str:
        """See `Engine.place`."""
        return target.device

    def footprint(self, target: Target) -> Footprint:
        """See `Engine.footprint`: one copy of the weights, in the precision of the target."""
        value_bytes, copies = VALUE_BYTES[target.precision], MAP_COPIES
        if _layout(target) is not torch.channels_last:
            copies += LAYOUT_COPIES
        return Footprint(value_bytes, value_bytes, copies, shares_maps=True)

    def table_source(self, target: Target) -> Target | None:
        """See `Engine.table_source`: a network is ready in milliseconds."""
        return None

    def make_inputs(self, shape: Shape, target: Target, *, latency_only: bool) -> Tensor:
        """Normal images on the device; latency_only: nobody will write other images into them."""
        images = normal_images(shape, self.place(target))
        return images.to(DTYPES[target.precision], memory_format=_layout(target))

    def start(
        self, network: nn.Module, inputs: Tensor, watch: Stopwatch, *, latency_only: bool = False
    ) -> tuple[Run, Step]:
        """Run the inputs once; return a function that runs them and a function that predicts."""
        with watch.step("first_run"):
            network(inputs)
        forget_peak(inputs.device)
        if inputs.is_cuda:
            network(inputs)  # a run without a search for algorithms shows the memory of later runs
        predict = partial(predict_eagerly, network, inputs=inputs)
        return EagerRun(network, inputs), predict


class EagerRun:
    """A run of fixed inputs."""

    def __init__(self, network: nn.Module, inputs: Tensor) -> None:
        self._network, self._inputs = network, inputs
        self._rng = random.Random(0)

    def __call__(self) -> Tensor:
        outputs: Tensor = self._network(self._inputs)
        return outputs

    def tensors(self) -> list[Tensor]:
        """The weights and the inputs."""
        return [*self._network.parameters(), *self._network.buffers(), self._inputs]

    def move(self) -> None:
        """Move weights and inputs to other addresses; see `Prepared.move`."""
        gaps = []  # kept until all is moved
        for each in self.tensors():
            gaps.append(torch.empty(self._rng.randrange(MAX_GAP_BYTES), dtype=torch.uint8))
            each.data = each.data.clone()


def predict_eagerly(step: Step, images: Tensor, inputs: Tensor) -> Tensor:
    """Return the outputs of a step for images of the shape of `inputs`, in fp32 on the CPU."""
    with torch.inference_mode():
        return step(place_like(images, inputs)).float().cpu()


def place_like(images: Tensor, inputs: Tensor) -> Tensor:
    """Copy images to the device, type and layout of `inputs`."""
    placed = torch.empty_like(inputs)  # keeps the layout, also for one image
    return placed.copy_(images)


def _layout(target: Target) -> torch.memory_format:
    """Tensor cores and oneDNN read channels last."""
    if target.is_cpu or target.precision != "fp32":
        return torch.channels_last
    return torch.preserve_format


def _check_cpu_precision(precision: str) -> None:
    if precision == "fp16":
        raise TargetError("precision fp16 is for CUDA devices; on a CPU use fp32 or bf16")
    if precision == "bf16" and not cpu_has_bf16():
        raise TargetError("precision bf16 is not supported by this CPU; use fp32")


def cpu_has_bf16() -> bool:
    """Whether oneDNN computes bf16 on this CPU; otherwise PyTorch uses a slow reference."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


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
    """Let cuDNN search for its fastest algorithm in the warm-up; the shapes are static."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
