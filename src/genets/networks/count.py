"""The size of a network: parameters and multiply-adds."""

from __future__ import annotations

import copy
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
    """`multiply_adds` of one image in convolutions and matrix products, classifier included.

    Tables that say "FLOPs" mostly mean multiply-adds, the paper's Table 2 among them.
    """

    parameters: int
    multiply_adds: int


def count(net: nn.Module | Structure, resolution: int | None = None) -> Count:
    """Count a structure (with 1000 classes, at its own resolution by default) or a network.

    Of a structure the form that is deployed is counted, multi-branch blocks merged; a network
    is counted as it is. No arithmetic is done: the network runs on torch's meta device, the
    caller's is untouched.
    Raises GenetsError: a network without a resolution.
    """
    if isinstance(net, Structure):
        resolution = resolution or net.resolution
        with torch.device("meta"):
            network: nn.Module = reparameterize_model(build(net), inplace=True)
    else:
        network = copy.deepcopy(net).to("meta")
    if resolution is None:
        raise GenetsError("counting a network needs a resolution in pixels, and none was given")
    network.eval()
    images = torch.empty(1, input_channels(network), resolution, resolution, device="meta")
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network(images)
    return Count(
        parameters=sum(p.numel() for p in network.parameters()),
        multiply_adds=counter.get_total_flops() // 2,
    )


def input_channels(net: nn.Module) -> int:
    """Channels that the first convolution reads; 3 for a network without one."""
    first = next((m for m in net.modules() if isinstance(m, nn.Conv2d)), None)
    return 3 if first is None else first.in_channels
