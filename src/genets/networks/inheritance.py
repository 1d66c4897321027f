"""Weights that a network inherits from a trained MasterNet of another structure.

A wider or deeper network computes the same function as the MasterNet (Net2Net, Chen et al. 2016),
except that nothing is duplicated: added channels are not read yet, and added blocks add zero. All
networks number their channels alike; see `channels`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from timm.layers import ConvNormAct
from timm.models.byobnet import ByobNet
from torch import Tensor, nn

from genets.networks.channels import (
    MasterChannels,
    Tensors,
    TrainedSuperBlock,
    most_important,
    relu_energy,
    squared_by_input,
)
from genets.networks.surgery import branch_of, classifier_of, projection_of, stage_of
from genets.structure import Structure, SuperBlock

TIMM_TYPES = ("XX", "BL", "DW")  # timm's blocks, whose convolutions are known by name


@torch.no_grad()
def inherit(
    net: ByobNet,
    structure: Structure,
    channels: MasterChannels,
    trained: Mapping[int, TrainedSuperBlock] | None = None,
) -> None:
    """Give a network the weights of the MasterNet, stage by stage.

    Widths are cut to the most important channels, kernels are cropped or padded with zeros, and
    the blocks with the least effect are left out. Where a stage has another type than the weights
    it inherits, only its projection shortcut is inherited, and its blocks add zero at first.

    Args:
        net: The network, with fresh weights; it is changed in place. Its batch norm statistics fit
            only where nothing was cut; estimate them again for other networks.
        structure: Its structure, with as many stages as the MasterNet.
        channels: The channels of the MasterNet.
        trained: Super-blocks to inherit in place of the MasterNet's own, by their indices.
    """
    given = trained or {}
    master = channels.structure
    for index in structure.indices:
        source = given.get(index, channels.own(index))
        _inherit_stage(
            stage_of(net, index),
            structure.stage(index),
            source,
            reads=_Match(
                channels.of_stage(index - 1, master.input_width(index)),
                channels.of_stage(index - 1, structure.input_width(index)),
            ),
            gives=_Match(
                channels.of_stage(index, source.super_block.width),
                channels.of_stage(index, structure.stage(index).width),
            ),
        )
    last = structure.indices[-1]
    classifier, source_classifier = classifier_of(net), classifier_of(channels.net)
    reads = _Match(
        channels.of_stage(last, master.head.width), channels.of_stage(last, structure.head.width)
    )
    every = _Match(torch.arange(len(classifier.bias)), torch.arange(len(classifier.bias)))
    _copy_kernel(classifier.weight, source_classifier.weight, reads, every)
    classifier.bias.copy_(source_classifier.bias)


class _Match:
    """The channels of a source and of a target, by their numbers.

    Attributes:
        positions: For each channel of the target its position in the source, or -1.
        found: Which channels of the target the source has.
    """

    def __init__(self, source: Tensor, target: Tensor) -> None:
        place = {number: position for position, number in enumerate(source.tolist())}
        self.positions = torch.tensor([place.get(number, -1) for number in target.tolist()])
        self.found = self.positions >= 0
        self.source, self.target = source, target

    @property
    def is_equal(self) -> bool:
        return torch.equal(self.source, self.target)


def _inherit_stage(
    stage: nn.Module, own: SuperBlock, source: TrainedSuperBlock, *, reads: _Match, gives: _Match
) -> None:
    if isinstance(stage, ConvNormAct):  # stem or head
        _copy_layer(stage, source.tensors, "", reads, gives)
        return
    same_type = own.type == source.super_block.type
    if same_type and own.type not in TIMM_TYPES:
        if reads.is_equal and gives.is_equal:
            _copy_equal(stage, source.tensors)
        return
    blocks = _kept_blocks(source, own.depth) if same_type else [0]
    for block, number in zip(stage.children(), blocks, strict=False):
        prefix = f"{number}."
        inside = {name.removeprefix(prefix): tensor for name, tensor in source.tensors.items()
                  if name.startswith(prefix)}  # fmt: skip
        block_reads = reads if number == 0 else gives
        _copy_projection(block, inside, block_reads, gives)
        if same_type:
            _copy_branch(branch_of(block), inside, block_reads, gives)


def _kept_blocks(source: TrainedSuperBlock, depth: int) -> list[int]:
    """The blocks of a super-block that at most `depth` blocks inherit, in order.

    The first block changes width and resolution, so it always stays. The others are residual, and
    those stay whose branch has the largest mean square, as its last batch norm states it.
    """
    effects = []
    for number in range(1, source.super_block.depth):
        last = _last_layer(source.tensors, number)
        weight, bias = (source.tensors[f"{last}.bn.{name}"] for name in ("weight", "bias"))
        effects.append(float(weight.square().sum() + bias.square().sum()))
    by_effect = sorted(range(len(effects)), key=lambda n: effects[n], reverse=True)
    return [0, *sorted(1 + n for n in by_effect[: depth - 1])]


def _last_layer(tensors: Tensors, number: int) -> str:
    """The name of the last convolution of a block's branch, such as `1.conv2_kxk`."""
    return max(name.removesuffix(".conv.weight") for name in tensors
               if name.startswith(f"{number}.conv") and name.endswith(".conv.weight"))  # fmt: skip


def _copy_branch(
    layers: Mapping[str, ConvNormAct], source: Tensors, reads: _Match, gives: _Match
) -> None:
    """Copy the convolutions of a block from a block of the same type."""
    names = [*layers]
    between = _inner_matches(names, layers, source)
    borders = [reads, *between, gives]
    for name, (inputs, outputs) in zip(names, pairwise(borders), strict=True):
        _copy_layer(layers[name], source, f"{name}.", inputs, outputs)


def _inner_matches(
    names: Sequence[str], layers: Mapping[str, ConvNormAct], source: Tensors
) -> list[_Match]:
    """The inner channels of a block, chosen by importance, from the last border to the first."""
    matches: list[_Match] = []
    for name, following in reversed([*pairwise(names)]):
        width = len(layers[name].conv.weight)
        kernel = source[f"{following}.conv.weight"]
        if layers[following].conv.groups > 1:  # depthwise: each output reads the same channel
            matches.insert(0, matches[0])
            continue
        energy = relu_energy(source[f"{name}.bn.bias"], source[f"{name}.bn.weight"])
        order = (energy * squared_by_input(kernel)).argsort(descending=True, stable=True)
        matches.insert(0, _Match(torch.arange(len(order)), most_important(order, width)))
    return matches


def _copy_projection(block: nn.Module, source: Tensors, reads: _Match, gives: _Match) -> None:
    """Copy the shortcut of a block; an identity becomes the projection that computes it."""
    projection = projection_of(block)
    if projection is None:
        return
    if "shortcut.conv.weight" in source:
        _copy_layer(projection, source, "shortcut.", reads, gives)
        return
    equal = gives.positions[:, None] == reads.positions[None, :]
    equal &= gives.found[:, None]
    projection.conv.weight.copy_(equal.to(projection.conv.weight)[:, :, None, None])
    norm = projection.bn
    norm.weight.fill_(1)
    norm.bias.zero_()
    norm.running_mean.zero_()
    norm.running_var.fill_(1 - norm.eps)


def _copy_layer(
    layer: ConvNormAct, source: Tensors, prefix: str, reads: _Match, gives: _Match
) -> None:
    """Copy a convolution with its batch norm."""
    is_depthwise = layer.conv.groups > 1
    kernel = source[f"{prefix}conv.weight"]
    _copy_kernel(layer.conv.weight, kernel, None if is_depthwise else reads, gives)
    for name in ("weight", "bias", "running_mean", "running_var"):
        values = source[f"{prefix}bn.{name}"].to(layer.conv.weight)
        getattr(layer.bn, name)[gives.found] = values[gives.positions[gives.found]]


def _copy_kernel(kernel: Tensor, source: Tensor, reads: _Match | None, gives: _Match) -> None:
    """Copy the channels that source and target have; the others are not read.

    Args:
        kernel: (outputs, inputs, ...), changed in place.
        source: A kernel, perhaps of other channels and another size.
        reads: The inputs; None for a depthwise convolution.
        gives: The outputs. Added outputs stay as they are.
    """
    taken = source.to(kernel)[gives.positions[gives.found]]
    if kernel.ndim == 4:
        grown = kernel.shape[-1] - taken.shape[-1]
        taken = F.pad(taken, (grown // 2, grown - grown // 2) * 2)  # a negative pad crops
    if reads is not None:
        read = taken.new_zeros(len(taken), *kernel.shape[1:])
        read[:, reads.found] = taken[:, reads.positions[reads.found]]
        taken = read
    kernel[gives.found] = taken


def _copy_equal(stage: nn.Module, source: Tensors) -> None:
    """Copy the tensors of equal names and shapes, for block types of the user's own."""
    for name, tensor in stage.state_dict().items():
        if name in source and source[name].shape == tensor.shape:
            tensor.copy_(source[name])
