"""Which layers stand for a network in Figure 4: the last k x k convolution of every stage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.func import functional_call

from genets.core.errors import GenetsError
from genets.networks.count import input_channels

FULL, BOTTLENECK, GROUPED, DEPTH_WISE = "full", "bottleneck", "grouped", "depth-wise"
STEM = "stem."


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """A convolution as it was met on the way through a network.

    stage: from 1. reduction: input pixels per pixel of what it makes, along one side.
    kind: `full`; `bottleneck`: behind a 1x1 convolution that narrows to its input, as in a BL
        block; `grouped`; or `depth-wise`.
    """

    name: str
    conv: nn.Conv2d
    stage: int
    reduction: int
    kind: str


def last_layers(net: nn.Module, resolution: int, ends: Sequence[str] | None = None) -> list[Layer]:
    """The last convolution with a kernel above 1 of every stage, the stem excluded.

    A stage ends where the feature map that timm's `feature_info` names ends (the last one of a
    resolution); without `feature_info`, where the k x k convolutions change resolution. Stages
    without such a convolution are left out. The stem is the first convolution, all that is
    named `stem`, and what comes before the first module of `feature_info`.
    ends: names of the modules that end the stages, instead.
    No arithmetic is done, and `net` is as it was afterwards.
    Raises GenetsError: there is no such convolution, or the network does not run.
    """
    modules = dict(net.named_modules())
    ends = [name for name in (_feature_ends(net) if ends is None else ends) if name in modules]
    walk = _walk(net, resolution, ends)
    last = dict[int, Layer]()
    for layer in _staged(walk, ends):
        last[layer.stage] = layer
    if not last:
        raise GenetsError("it has no convolution with a kernel above 1 behind its stem")
    return [
        Layer(one.name, one.conv, number, one.reduction, one.kind)
        for number, one in enumerate(last.values(), start=1)
    ]


def _feature_ends(net: nn.Module) -> list[str]:
    info: Any = getattr(net, "feature_info", None) or []
    return [feature["module"] for feature in info]


@dataclass(slots=True)
class _Step:
    name: str
    conv: nn.Conv2d
    size: int  # pixels along one side of what it makes
    before: nn.Conv2d | None


@dataclass(slots=True)
class _Walk:
    """Convolutions in the order in which they run, each with how many stages ended before."""

    resolution: int
    steps: list[tuple[int, _Step]] = field(default_factory=list)
    ended: int = 0
    previous: nn.Conv2d | None = None

    def note(self, name: str, conv: nn.Conv2d, made: torch.Tensor) -> None:
        self.steps.append((self.ended, _Step(name, conv, made.shape[-1], self.previous)))
        self.previous = conv

    def end(self, count: int) -> None:
        self.ended = max(self.ended, count)


def _walk(net: nn.Module, resolution: int, ends: Sequence[str]) -> _Walk:
    walk = _Walk(resolution)
    tensors = {
        name: tensor.to("meta") for name, tensor in (*net.named_parameters(), *net.named_buffers())
    }
    images = torch.empty(1, input_channels(net), resolution, resolution, device="meta")
    try:
        with _noting(net, walk, ends), _evaluating(net), torch.no_grad():
            functional_call(net, tensors, (images,))
    except (RuntimeError, AssertionError, ValueError, NotImplementedError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise GenetsError(f"it does not run at resolution {resolution}: {reason}") from error
    return walk


@contextmanager
def _noting(net: nn.Module, walk: _Walk, ends: Sequence[str]) -> Iterator[None]:
    def noter(name: str) -> Any:
        return lambda conv, _, made: walk.note(name, conv, made)

    def ender(count: int) -> Any:
        return lambda *_: walk.end(count)

    with ExitStack() as hooks:
        for name, module in net.named_modules():
            if isinstance(module, nn.Conv2d):
                hooks.callback(module.register_forward_hook(noter(name)).remove)
        for count, name in enumerate(ends, start=1):
            module = net.get_submodule(name)
            hooks.callback(module.register_forward_hook(ender(count)).remove)
        yield


@contextmanager
def _evaluating(net: nn.Module) -> Iterator[None]:
    training = [module for module in net.modules() if module.training]
    net.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _staged(walk: _Walk, ends: Sequence[str]) -> Iterator[Layer]:
    """The k x k convolutions behind the stem, each with a number for its stage."""
    for position, (segment, step) in enumerate(walk.steps):
        if max(step.conv.kernel_size) == 1 or position == 0 or step.name.startswith(STEM):
            continue
        if ends and segment == 0 and not step.name.startswith(f"{ends[0]}."):
            continue
        if ends and segment >= len(ends):
            continue  # behind the last stage
        stage = segment if ends else step.size
        reduction = round(walk.resolution / step.size)
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
