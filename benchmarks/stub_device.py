"""A stub of a CUDA device: everything of `prepare` except the kernels, on torch's meta device.

It shows what preparing a network costs the host, and which convolutions it runs. It is not in
ENGINES, because it measures nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from genets.latency.engines.activity import Activity
from genets.latency.engines.base import Run, Stopwatch
from genets.latency.engines.devices import GRAPH_WARM_UP_RUNS
from genets.latency.engines.memory import Footprint
from genets.latency.engines.torch_engine import Step, TorchEngine
from genets.latency.engines.torch_graph import TorchGraphEngine
from genets.structure.layers import Convolution

if TYPE_CHECKING:
    from genets.latency.target import Target

RUN_S = 1e-3


class StubClock:
    """Each run takes RUN_S."""

    min_window_s = RUN_S
    activity: Activity | None = None

    def time_runs(self, run: Run, count: int) -> float:
        """See `DeviceClock.time_runs`."""
        return RUN_S * count

    def enqueue_s(self, run: Run) -> float:
        """See `DeviceClock.enqueue_s`."""
        return 0.0


class StubEngine(TorchEngine):
    """Prepares as `torch-graph` does.

    Attributes:
        shapes: The distinct convolutions that ran, each with its batch size. They are the shapes
            for which cuDNN searches an algorithm.
    """

    def __init__(self) -> None:
        self.shapes: set[tuple[int, Convolution]] = set()

    def check(self, target: Target) -> None:
        """Accept every target."""

    @contextmanager
    def open(self, target: Target) -> Iterator[StubClock]:  # type: ignore[override]
        """See `Engine.open`."""
        with torch.inference_mode():
            yield StubClock()

    def place(self, target: Target) -> str:
        """See `TorchEngine.place`."""
        return "meta"

    def footprint(self, target: Target) -> Footprint:
        """See `Engine.footprint`."""
        return TorchGraphEngine().footprint(target)

    def start(
        self, network: nn.Module, inputs: Tensor, watch: Stopwatch, *, latency_only: bool = False
    ) -> tuple[Run, Step]:
        """Run as often as `torch-graph` does until its graph is captured."""

        def note(layer: nn.Module, images: tuple[Tensor, ...], output: Tensor) -> None:
            assert isinstance(layer, nn.Conv2d)
            outputs, per_group, *window = layer.weight.shape
            sides = images[0].shape[-1], output.shape[-1]
            shape = layer.in_channels, outputs, per_group, window[0] * window[1], *sides
            self.shapes.add((len(output), Convolution(*shape)))

        layers = [each for each in network.modules() if isinstance(each, nn.Conv2d)]
        hooks = [layer.register_forward_hook(note) for layer in layers]
        with watch.step("first_run"):
            network(inputs)
        for hook in hooks:
            hook.remove()
        with watch.step("graph"):
            for _ in range(GRAPH_WARM_UP_RUNS + 1):
                network(inputs)
        return lambda: None, lambda images: images
