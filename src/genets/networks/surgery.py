"""Cutting networks into parts, and handing weights from one to another."""

from __future__ import annotations

from collections.abc import Collection

import torch
from timm.models.byobnet import ByobNet
from torch import Tensor, nn


@torch.no_grad()
def inherit_weights(net: ByobNet, source: nn.Module, *, fresh_stages: Collection[int] = ()) -> None:
    """Copy `source`'s weights into `net`, except into the stages in `fresh_stages`.

    They are named by index as in `Structure.indices`: -1 is the stem, super-blocks count from 0.

    Where a width differs, the channels that both have are copied and the others keep what
    they were initialised with. Tensors that only one network has, or whose number of
    dimensions or kernel size differs, are left alone.
    """
    known = source.state_dict()
    names = ["stem.", *(f"stages.{index}." for index in range(len(net.stages))), "final_conv."]
    skipped = tuple(names[1 + index] for index in fresh_stages)
    for name, tensor in net.state_dict().items():
        if name.startswith(skipped):
            continue
        other = known.get(name)
        if other is not None and tensor.shape[2:] == other.shape[2:] and tensor.ndim == other.ndim:
            _copy_overlap(tensor, other)


def _copy_overlap(tensor: Tensor, source: Tensor) -> None:
    overlap = tuple(
        slice(0, min(own, other)) for own, other in zip(tensor.shape, source.shape, strict=True)
    )
    tensor[overlap] = source[overlap]


def split_at(net: ByobNet, index: int) -> tuple[nn.Sequential, nn.Sequential]:
    """What of a ByobNet comes before the stage `index` (see `Structure.indices`), and the rest.

    The parts share the network's modules. The first maps images (N, 3, H, W) to what the stage
    reads, the second that to logits (N, classes).
    """
    stages = (net.stem, *net.stages, net.final_conv)
    before, after = stages[: 1 + index], stages[1 + index :]
    return nn.Sequential(*before), nn.Sequential(*after, net.head)
