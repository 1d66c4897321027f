"""Engine `torch-graph`: the kernels of engine `torch`, replayed as a CUDA graph.

A replay takes the host a few microseconds, so that even a small network at batch size 1 is limited
by the device. Nothing is compiled, so that a network is prepared in milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from genets.core.errors import TargetError
from genets.latency.engines.base import Run, Stopwatch
from genets.latency.engines.devices import CpuClock, CudaClock, GraphMemory, capture_graph
from genets.latency.engines.memory import Footprint
from genets.latency.engines.torch_engine import Shape, Step, TorchEngine, predict_eagerly

if TYPE_CHECKING:
    from genets.latency.target import Target


class GraphEngine(TorchEngine):
    """An engine that replays graphs on CUDA; all graphs of one `open` share their memory.

    Graphs whose latency alone is needed also share inputs of the same shape. In the default table
    of genet_normal, the inputs of 700 items have 23 shapes.
    """

    _memory: GraphMemory | None = None

    @contextmanager
    def open(self, target: Target) -> Iterator[CpuClock | CudaClock]:
        """See `Engine.open`. Raises TargetError."""
        with super().open(target) as clock:
            outer, self._memory = self._memory, None if target.is_cpu else GraphMemory()
            try:
                yield clock
            finally:
                self._memory = outer

    def footprint(self, target: Target) -> Footprint:
        """See `Engine.footprint`."""
        return replace(super().footprint(target), shares_inputs=not target.is_cpu)

    def make_inputs(self, shape: Shape, target: Target, *, latency_only: bool) -> Tensor:
        """See `TorchEngine.make_inputs`."""
        if self._memory is None or not latency_only:
            return super().make_inputs(shape, target, latency_only=latency_only)
        inputs = self._memory.inputs.get((shape, target.precision))
        if inputs is None:
            inputs = super().make_inputs(shape, target, latency_only=True)
            self._memory.inputs[shape, target.precision] = inputs
        return inputs

    def capture(
        self, step: Step, inputs: Tensor, watch: Stopwatch, *, latency_only: bool
    ) -> tuple[Run, Step]:
        """Capture a step; return the replay, and a function that predicts with it.

        latency_only: Predict without the graph. The memory of the graph's output is then free for
            later graphs; the outputs of a latency table's probes are whole feature maps.
        """
        assert self._memory is not None, "graphs are captured inside `open`"
        with watch.step("graph"):
            graph, output = capture_graph(step, inputs, self._memory)

        # The graph holds addresses, and no tensors: whoever replays it must hold the weights and
        # the inputs.
        def replay(_held: tuple[Step, Tensor] = (step, inputs)) -> None:
            graph()

        if latency_only:
            return replay, lambda images: predict_eagerly(step, images, inputs)

        def predict(images: Tensor) -> Tensor:
            with torch.inference_mode():
                resident = inputs.clone()
                inputs.copy_(images)
                replay()
                # At once, because another graph in the same memory may overwrite the output.
                logits = output.float().cpu()
                inputs.copy_(resident)
            return logits

        return replay, predict


class TorchGraphEngine(GraphEngine):
    """See the module; the algorithms of cuDNN are searched in the first run, without a graph."""

    def check(self, target: Target) -> None:
        """See `Engine.check`."""
        if target.is_cpu:
            raise TargetError("engine torch-graph runs on CUDA devices; use engine torch")
        super().check(target)

    def start(
        self, network: nn.Module, inputs: Tensor, watch: Stopwatch, *, latency_only: bool = False
    ) -> tuple[Run, Step]:
        """See `TorchEngine.start`."""
        with watch.step("first_run"):
            network(inputs)
        return self.capture(network, inputs, watch, latency_only=latency_only)
