"""Engine `torch-compile`: PyTorch with Inductor; on CUDA replayed as a CUDA graph.

It relies on two details of PyTorch that are not documented: Inductor's `freezing` option, and
Dynamo's cache that is keyed by code object. If either changes, tests in `test_engines.py` fail.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from genets.core.errors import TargetError
from genets.latency.engines.base import Run, Stopwatch
from genets.latency.engines.memory import Footprint
from genets.latency.engines.torch_engine import Step, predict_eagerly
from genets.latency.engines.torch_graph import GraphEngine
from genets.networks.onnx_export import quiet

if TYPE_CHECKING:
    from genets.latency.target import Target

_NUMBERS = itertools.count()


class TorchCompileEngine(GraphEngine):
    """Compiled for one shape; the weights are constants of the code."""

    def check(self, target: Target) -> None:
        """See `Engine.check`. On a CPU, Inductor writes C++."""
        super().check(target)
        compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
        if target.is_cpu and shutil.which(compiler) is None:
            raise TargetError(
                f"engine torch-compile needs a C++ compiler on a CPU, and {compiler!r} is not "
                "installed; install it, or name another compiler in the variable CXX"
            )

    def footprint(self, target: Target) -> Footprint:
        """See `Engine.footprint`: the compiled code has its own copy of the weights."""
        footprint = super().footprint(target)
        return replace(footprint, weight_bytes=2 * footprint.weight_bytes)

    def table_source(self, target: Target) -> Target:
        """See `Engine.table_source`: PyTorch without the compiler."""
        return replace(target, engine="torch" if target.is_cpu else "torch-graph")

    def start(
        self, network: nn.Module, inputs: Tensor, watch: Stopwatch, *, latency_only: bool = False
    ) -> tuple[Run, Step]:
        """See `TorchEngine.start`; the first run compiles."""
        from torch._inductor import config  # slow to import

        step = _compile(network)
        # The option must be set globally. As an option of torch.compile, Dynamo does not see it
        # and passes the weights as inputs; they are then not frozen, without any message.
        with watch.step("compile"), quiet(), config.patch(freezing=True):
            step(inputs)
        if inputs.is_cuda:
            return self.capture(step, inputs, watch, latency_only=latency_only)
        return lambda: step(inputs), lambda images: predict_eagerly(step, images, inputs)


def _compile(network: nn.Module) -> Step:
    """Compile `network` as a function with its own code object.

    Dynamo caches compiled code by code object, not by module. After the eighth network of one
    class it would run further networks uncompiled, without an error, and search the whole cache
    at every run.
    """

    def step(images: Tensor) -> Any:
        return network(images)

    step.__code__ = step.__code__.replace(co_name=f"step_{next(_NUMBERS)}")
    return torch.compile(step, dynamic=False)
