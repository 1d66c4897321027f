"""Engine `torch-compile`: PyTorch through Inductor, on CUDA replayed as a CUDA graph."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn

from genets.latency.engines.base import Run, Stopwatch
from genets.latency.engines.devices import captured
from genets.latency.engines.torch_engine import Step, TorchEngine, like
from genets.networks.onnx_export import quiet

_NUMBERS = itertools.count()


class TorchCompileEngine(TorchEngine):
    """Compiled for one shape, weights frozen into the code."""

    def start(self, network: nn.Module, inputs: Tensor, watch: Stopwatch) -> tuple[Run, Step]:
        """See `TorchEngine.start`; compiling happens in the first run."""
        from torch._inductor import config  # slow to import

        step = _compiled(network)
        # Set here and not as an option of torch.compile: Dynamo must know of it as well, or it
        # hands the weights over as inputs, which are then not frozen, and says nothing.
        with watch.step("compile"), quiet(), config.patch(freezing=True):
            step(inputs)
        if not inputs.is_cuda:
            return lambda: step(inputs), lambda images: _predict(step, images, inputs)
        with watch.step("graph"):
            replay, output = captured(step, inputs)

        def predict(images: Tensor) -> Tensor:
            with torch.inference_mode():
                resident = inputs.clone()
                inputs.copy_(images)
                replay()
                logits = output.float().cpu()
                inputs.copy_(resident)
            return logits

        return replay, predict


def _predict(step: Step, images: Tensor, inputs: Tensor) -> Tensor:
    with torch.inference_mode():
        return step(like(images, inputs)).float()


def _compiled(network: nn.Module) -> Step:
    """`network` compiled, as a function whose code is no other network's.

    Dynamo keeps what it compiled by code, not by module: after the eighth network of one class
    it would run them uncompiled, without an error, and look through all of them at every run.
    """

    def step(images: Tensor) -> Any:
        return network(images)

    step.__code__ = step.__code__.replace(co_name=f"step_{next(_NUMBERS)}")
    return torch.compile(step, dynamic=False)
