"""Weights that a network inherits from a trained MasterNet of another structure.

The channels of a stage have fixed numbers: those of the MasterNet count from 0, and the channels
that a wider stage adds follow. A narrower stage keeps the most important channels; stages that an
identity shortcut links keep the same ones. So all structures around a MasterNet agree on the
meaning of their channels, and a super-block that was trained inside the MasterNet fits into a
network in which other stages have changed too.

A wider or deeper network computes the same function as the MasterNet (Net2Net, Chen et al. 2016),
except that nothing is duplicated: added channels are not read yet, and added blocks add zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from timm.layers import ConvNormAct
from timm.models.byobnet import ByobNet
from torch import Tensor, nn

from genets.networks.surgery import stage_of
from genets.structure import Structure, SuperBlock

TIMM_TYPES = ("XX", "BL", "DW")  # timm's blocks, whose convolutions are known by name
Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class TrainedSuperBlock:
    """A super-block that was trained inside the MasterNet, in place of the MasterNet's own.

    Attributes:
        super_block: The super-block.
        tensors: Its weights, by their names within the stage.
    """

    super_block: SuperBlock
    tensors: Tensors


class MasterChannels:
    """The channels of all structures around a trained MasterNet.

    Args:
        net: The MasterNet, with its weights.
        structure: Its structure.
    """

    def __init__(self, net: ByobNet, structure: Structure) -> None:
        self.net = net
        self.structure = structure
        self._orders = {
            index: _by_importance([self._importance(one) for one in self._linked(index)])
            for index in structure.indices
        }

    def of_stage(self, index: int, width: int) -> Tensor:
        """The numbers of the channels that a stage of this width gives: (width,), ascending.

        Index -2 stands for the channels of the image.
        """
        if index < self.structure.indices[0]:
            return torch.arange(width)
        return _most_important(self._orders[index], width)

    def own(self, index: int) -> TrainedSuperBlock:
        """The MasterNet's own weights of a stage."""
        return TrainedSuperBlock(
            self.structure.stage(index), stage_of(self.net, index).state_dict()
        )

    def _linked(self, index: int) -> list[int]:
        """The stages whose channels are those of a stage, because identity shortcuts add them."""
        indices = [*self.structure.indices]
        position = indices.index(index)
        first = last = position
        while first > 0 and self._begins_with_identity(indices[first]):
            first -= 1
        while last + 1 < len(indices) and self._begins_with_identity(indices[last + 1]):
            last += 1
        return indices[first : last + 1]

    def _begins_with_identity(self, index: int) -> bool:
        """Whether the first block of a stage adds its inputs to its outputs as they are."""
        stage = self.structure.stage(index)
        return (
            not isinstance(stage_of(self.net, index), ConvNormAct)
            and stage.stride == 1
            and stage.width == self.structure.input_width(index)
        )

    def _importance(self, index: int) -> Tensor:
        """The importance of each channel of a stage: (width,).

        It is the mean square of a channel's values, as the batch norms state it, times the sum of
        the squared weights that read the channel. All channels of a stage without such norms or
        readers, such as one of the user's own type, count the same.
        """
        width = self.structure.stage(index).width
        readers = self._readers(index)
        norms = _output_norms(stage_of(self.net, index))
        if not readers or not norms:
            return torch.zeros(width, dtype=torch.float64)
        scale = torch.stack([norm.weight.detach().cpu().square() for norm in norms]).sum(0).sqrt()
        shift = torch.stack([norm.bias.detach().cpu() for norm in norms]).sum(0)
        read = torch.stack([_squared_by_input(reader) for reader in readers]).sum(0)
        return _relu_energy(shift, scale) * read

    def _readers(self, index: int) -> list[Tensor]:
        """The weights that read the channels of a stage, (outputs, width, ...)."""
        following = [*_blocks(stage_of(self.net, index))[1:]]
        if index + 1 in self.structure.indices:
            following += _blocks(stage_of(self.net, index + 1))[:1]
        else:
            return [_classifier(self.net).weight.detach().cpu()]
        readers = []
        for block in following:
            if isinstance(block, ConvNormAct):
                readers.append(_effective(block))
                continue
            readers += [_effective(conv) for conv in _branch(block).values()][:1]
            projection = _projection(block)
            readers += [] if projection is None else [_effective(projection)]
        width = self.structure.stage(index).width
        return [reader for reader in readers if reader.shape[1] == width]


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
    classifier, source_classifier = _classifier(net), _classifier(channels.net)
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
            _copy_branch(_branch(block), inside, block_reads, gives)


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
        energy = _relu_energy(source[f"{name}.bn.bias"], source[f"{name}.bn.weight"])
        order = (energy * _squared_by_input(kernel)).argsort(descending=True, stable=True)
        matches.insert(0, _Match(torch.arange(len(order)), _most_important(order, width)))
    return matches


def _copy_projection(block: nn.Module, source: Tensors, reads: _Match, gives: _Match) -> None:
    """Copy the shortcut of a block; an identity becomes the projection that computes it."""
    projection = _projection(block)
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


def _by_importance(importances: Sequence[Tensor]) -> Tensor:
    """The numbers of the channels that several stages share, the most important one first."""
    return torch.stack([*importances]).sum(0).argsort(descending=True, stable=True)


def _most_important(order: Tensor, width: int) -> Tensor:
    """The first `width` channels of an order, ascending; added channels follow the known ones."""
    return order[:width].sort().values if width < len(order) else torch.arange(width)


def _relu_energy(shift: Tensor, scale: Tensor) -> Tensor:
    """The mean square of ReLU(z), where z is normal with this mean and deviation."""
    shift, scale = shift.cpu().double(), scale.cpu().double().abs().clamp_min(1e-12)
    ratio = shift / scale
    density = (-ratio.square() / 2).exp() / math.sqrt(2 * math.pi)
    positive: Tensor = torch.special.ndtr(ratio)
    energy: Tensor = (shift.square() + scale.square()) * positive + shift * scale * density
    return energy


def _squared_by_input(kernel: Tensor) -> Tensor:
    """For each input channel the sum of its squared weights."""
    squares = kernel.double().cpu().square()
    return squares.sum((0, 2, 3)) if kernel.ndim == 4 else squares.sum(0)


def _effective(layer: ConvNormAct) -> Tensor:
    """The kernel of a convolution, times the factors of its batch norm."""
    norm = layer.bn
    weight, scale, variance = (
        tensor.detach().cpu() for tensor in (layer.conv.weight, norm.weight, norm.running_var)
    )  # on the CPU, so that every device finds the same order
    factors = scale / (variance + norm.eps).sqrt()
    kernel: Tensor = weight * factors[:, None, None, None]
    return kernel


def _classifier(net: ByobNet) -> nn.Linear:
    classifier = net.get_submodule("head.fc")
    assert isinstance(classifier, nn.Linear)
    return classifier


def _blocks(stage: nn.Module) -> list[nn.Module]:
    return [stage] if isinstance(stage, ConvNormAct) else [*stage.children()]


def _branch(block: nn.Module) -> dict[str, ConvNormAct]:
    """The convolutions of a block beside its shortcut, in the order in which they run."""
    return {
        name: layer
        for name, layer in block.named_children()
        if name.startswith("conv") and isinstance(layer, ConvNormAct)
    }


def _projection(block: nn.Module) -> ConvNormAct | None:
    shortcut = getattr(block, "shortcut", None)
    return shortcut if isinstance(shortcut, ConvNormAct) else None


def _output_norms(stage: nn.Module) -> list[nn.BatchNorm2d]:
    """The batch norms whose outputs are added up to the output of a stage."""
    norms: list[nn.BatchNorm2d] = []
    for block in _blocks(stage):
        if isinstance(block, ConvNormAct):
            norms.append(block.bn)
            continue
        projection, layers = _projection(block), [*_branch(block).values()]
        norms += [] if projection is None else [projection.bn]
        norms += [layer.bn for layer in layers[-1:]]
    return norms
