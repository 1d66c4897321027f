"""Networks cut into parts, and weights copied from one network to another."""

from __future__ import annotations

from collections.abc import Collection

import torch
from timm.layers import ConvNormAct
from timm.models.byobnet import ByobNet
from torch import Tensor, nn


@torch.no_grad()
def inherit_weights(net: ByobNet, source: nn.Module, *, fresh_stages: Collection[int] = ()) -> None:
    """Copy the weights of `source` into `net`.

    Where a width differs, the channels that both networks have are copied, and the other channels
    keep their initial values. Tensors that only one network has, or whose number of dimensions or
    kernel size differs, are not copied.

    Args:
        net: The network that is changed.
        source: The network whose weights are copied.
        fresh_stages: Stages of `net` that are not changed, by their indices as in
            `Structure.indices`: -1 is the stem, and super-blocks count from 0.
    """
    source_state = source.state_dict()
    names = ["stem.", *(f"stages.{index}." for index in range(len(net.stages))), "final_conv."]
    skipped = tuple(names[1 + index] for index in fresh_stages)
    for name, tensor in net.state_dict().items():
        if name.startswith(skipped):
            continue
        other = source_state.get(name)
        if other is not None and tensor.shape[2:] == other.shape[2:] and tensor.ndim == other.ndim:
            _copy_overlap(tensor, other)


def _copy_overlap(tensor: Tensor, source: Tensor) -> None:
    overlap = tuple(
        slice(0, min(own, other)) for own, other in zip(tensor.shape, source.shape, strict=True)
    )
    tensor[overlap] = source[overlap]


def stage_of(net: ByobNet, index: int) -> nn.Module:
    """The stage of a network at an index of `Structure.indices`."""
    stage: nn.Module = (net.stem, *net.stages, net.final_conv)[1 + index]
    return stage


def split_at(net: ByobNet, index: int) -> tuple[nn.Sequential, nn.Sequential]:
    """Cut a network before a stage.

    Args:
        net: The network; both parts share its modules.
        index: The index of the stage, as in `Structure.indices`.

    Returns:
        The part that maps images (N, 3, H, W) to the input of the stage, and the part that maps
        this input to logits (N, classes).
    """
    stages = (net.stem, *net.stages, net.final_conv)
    before, after = stages[: 1 + index], stages[1 + index :]
    return nn.Sequential(*before), nn.Sequential(*after, net.head)


def classifier_of(net: ByobNet) -> nn.Linear:
    classifier = net.get_submodule("head.fc")
    assert isinstance(classifier, nn.Linear)
    return classifier


def blocks_of(stage: nn.Module) -> list[nn.Module]:
    return [stage] if isinstance(stage, ConvNormAct) else [*stage.children()]


def branch_of(block: nn.Module) -> dict[str, ConvNormAct]:
    """The convolutions of a block beside its shortcut, in the order in which they run."""
    return {
        name: layer
        for name, layer in block.named_children()
        if name.startswith("conv") and isinstance(layer, ConvNormAct)
    }


def projection_of(block: nn.Module) -> ConvNormAct | None:
    shortcut = getattr(block, "shortcut", None)
    return shortcut if isinstance(shortcut, ConvNormAct) else None
