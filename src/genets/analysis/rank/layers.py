"""The layers of Figure 4: the last k x k convolution of every stage of a network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn
from torch.func import functional_call

from genets.core.errors import GenetsError, first_line
from genets.networks.count import input_channels

FULL, BOTTLENECK, GROUPED, DEPTH_WISE = "full", "bottleneck", "grouped", "depth-wise"
STEM = "stem."


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """A k x k convolution and its place in a network.

    Attributes:
        stage: Number of its stage.
        reduction: Input pixels of the network per output pixel, along one side.
        kind: `full`; `bottleneck`, which follows a 1x1 convolution that reduces the channels, as
            in a BL block; `grouped`; or `depth-wise`.
    """

    name: str
    conv: nn.Conv2d
    stage: int
    reduction: int
    kind: str


def last_layers(net: nn.Module, resolution: int, ends: Sequence[str] | None = None) -> list[Layer]:
    """Find the last convolution with a kernel above 1 of every stage, without the stem.

    A stage ends with a module that timm's `feature_info` names (the last one of a resolution).
    Without `feature_info`, a stage ends where the k x k convolutions change resolution. Stages
    without such a convolution are left out. The stem consists of the first convolution, of modules
    with names that begin with `stem`, and of everything before the first module of
    `feature_info`.

    The network runs on PyTorch's meta device, so nothing is computed and `net` is not changed.

    Args:
        net: The network.
        resolution: Input size in pixels.
        ends: Name of the last module of each stage; these names override `feature_info`.

    Returns:
        The layers in the order in which they run, with stages counted from 1.

    Raises:
        GenetsError: There is no such convolution, or the network does not run.
    """
    modules = dict(net.named_modules())
    ends = [name for name in (_feature_ends(net) if ends is None else ends) if name in modules]
    trace = _trace(net, resolution, ends)
    last = {layer.stage: layer for layer in _layers(trace, ends)}
    if not last:
        raise GenetsError("it has no convolution with a kernel above 1 after its stem")
    return [replace(layer, stage=number) for number, layer in enumerate(last.values(), start=1)]


def _feature_ends(net: nn.Module) -> list[str]:
    info: Any = getattr(net, "feature_info", None) or []
    return [feature["module"] for feature in info]


@dataclass(slots=True)
class _Step:
    name: str
    conv: nn.Conv2d
    size: int  # of its output, in pixels along one side
    before: nn.Conv2d | None
    stages_ended: int  # before this convolution


@dataclass(slots=True)
class _Trace:
    """The convolutions of a network in the order in which they run."""

    resolution: int
    steps: list[_Step] = field(default_factory=list)
    stages_ended: int = 0

    def add(self, name: str, conv: nn.Conv2d, output: torch.Tensor) -> None:
        before = self.steps[-1].conv if self.steps else None
        self.steps.append(_Step(name, conv, output.shape[-1], before, self.stages_ended))

    def end_stage(self, number: int) -> None:
        self.stages_ended = max(self.stages_ended, number)


def _trace(net: nn.Module, resolution: int, ends: Sequence[str]) -> _Trace:
    trace = _Trace(resolution)
    tensors = {
        name: tensor.to("meta") for name, tensor in (*net.named_parameters(), *net.named_buffers())
    }
    images = torch.empty(1, input_channels(net), resolution, resolution, device="meta")
    try:
        with _hooks(net, trace, ends), _evaluation_mode(net), torch.no_grad():
            functional_call(net, tensors, (images,))
    except (RuntimeError, AssertionError, ValueError, NotImplementedError) as error:
        raise GenetsError(
            f"it does not run at resolution {resolution}: {first_line(error)}"
        ) from error
    return trace


@contextmanager
def _hooks(net: nn.Module, trace: _Trace, ends: Sequence[str]) -> Iterator[None]:
    """Hooks that fill the trace while the network runs."""

    def on_convolution(name: str) -> Any:
        return lambda conv, _, output: trace.add(name, conv, output)

    def on_end(number: int) -> Any:
        return lambda *_: trace.end_stage(number)

    with ExitStack() as stack:
        for name, module in net.named_modules():
            if isinstance(module, nn.Conv2d):
                stack.callback(module.register_forward_hook(on_convolution(name)).remove)
        for number, name in enumerate(ends, start=1):
            module = net.get_submodule(name)
            stack.callback(module.register_forward_hook(on_end(number)).remove)
        yield


@contextmanager
def _evaluation_mode(net: nn.Module) -> Iterator[None]:
    training = [module for module in net.modules() if module.training]
    net.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _layers(trace: _Trace, ends: Sequence[str]) -> Iterator[Layer]:
    """The k x k convolutions after the stem; layers of one stage share a number."""
    for position, step in enumerate(trace.steps):
        if max(step.conv.kernel_size) == 1 or position == 0 or step.name.startswith(STEM):
            continue
        if ends and step.stages_ended == 0 and not step.name.startswith(f"{ends[0]}."):
            continue
        if ends and step.stages_ended >= len(ends):
            continue  # after the last stage
        stage = step.stages_ended if ends else step.size
        reduction = round(trace.resolution / step.size)
        yield Layer(step.name, step.conv, stage, reduction, _kind(step))


def _kind(step: _Step) -> str:
    conv, before = step.conv, step.before
    if conv.groups > 1:
        return DEPTH_WISE if conv.groups == conv.in_channels else GROUPED
    narrowed = (
        before is not None
        and max(before.kernel_size) == 1
        and before.out_channels == conv.in_channels < before.in_channels
    )
    return BOTTLENECK if narrowed and conv.out_channels <= conv.in_channels else FULL
