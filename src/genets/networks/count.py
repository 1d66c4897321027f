"""The size of a network: parameters and multiply-adds."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from timm.models import reparameterize_model
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from genets.core.errors import GenetsError
from genets.networks.build import build
from genets.structure import Structure


@dataclass(frozen=True, slots=True)
class Count:
    """The size of a network.

    Attributes:
        parameters: The number of parameters.
        multiply_adds: Multiply-adds for one image, in convolutions and matrix products, with the
            classifier. Most tables that say "FLOPs" mean multiply-adds, as the paper's Table 2.
    """

    parameters: int
    multiply_adds: int


@dataclass(slots=True)
class FeatureMaps:
    """The sizes of the feature maps of a run, in values.

    Attributes:
        largest: Values that the largest layer reads and writes.
        written: Values that all layers write.
    """

    largest: int = 0
    written: int = 0


def count(net: nn.Module | Structure, resolution: int | None = None) -> Count:
    """Count the parameters and multiply-adds of a structure or a network.

    The network runs on torch's meta device, so nothing is computed, and the caller's network does
    not change.

    Args:
        net: A structure is counted with 1000 classes, in the form that is deployed: multi-branch
            blocks are merged. A network is counted as it is.
        resolution: Pixels along one side of the input; None is the structure's own resolution.

    Returns:
        The size.

    Raises:
        GenetsError: A network was given without a resolution.
    """
    if isinstance(net, Structure):
        resolution = resolution or net.resolution
        with torch.device("meta"):
            network: nn.Module = reparameterize_model(build(net), inplace=True)
    else:
        network = copy.deepcopy(net).to("meta")
    if resolution is None:
        raise GenetsError("counting a network needs a resolution in pixels, and none was given")
    return count_on_meta(network, resolution)[0]


def count_on_meta(network: nn.Module, resolution: int) -> tuple[Count, FeatureMaps]:
    """Count a network on torch's meta device, in one run; it is set to eval mode.

    Args:
        network: The network.
        resolution: Pixels along one side of the input.

    Returns:
        The size, and the sizes of the feature maps of one image.
    """
    images = torch.empty(1, input_channels(network), resolution, resolution, device="meta")
    counter = FlopCounterMode(display=False)
    network.eval()
    with note_feature_maps(network) as maps, counter, torch.no_grad():
        network(images)
    parameters = sum(p.numel() for p in network.parameters())
    return Count(parameters, counter.get_total_flops() // 2), maps


@contextmanager
def note_feature_maps(network: nn.Module) -> Iterator[FeatureMaps]:
    """Note the sizes of the feature maps of a run inside the block."""
    maps = FeatureMaps()

    def note(_: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        read = sum(each.numel() for each in inputs if isinstance(each, torch.Tensor))
        written = output.numel() if isinstance(output, torch.Tensor) else 0
        maps.largest = max(maps.largest, read + written)
        maps.written += written

    leaves = (module for module in network.modules() if not any(module.children()))
    hooks = [module.register_forward_hook(note) for module in leaves]
    try:
        yield maps
    finally:
        for hook in hooks:
            hook.remove()


def input_channels(net: nn.Module) -> int:
    """The input channels of the first convolution; 3 for a network without convolutions."""
    first = next((m for m in net.modules() if isinstance(m, nn.Conv2d)), None)
    return 3 if first is None else first.in_channels
