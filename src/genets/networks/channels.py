"""The channels of all structures around a trained MasterNet, numbered alike.

The channels of a stage have fixed numbers: those of the MasterNet count from 0, and the channels
that a wider stage adds follow. A narrower stage keeps the most important channels; stages that an
identity shortcut links keep the same ones. So all structures around a MasterNet agree on the
meaning of their channels, and a super-block that was trained inside the MasterNet fits into a
network in which other stages have changed too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from timm.layers import ConvNormAct
from timm.models.byobnet import ByobNet
from torch import Tensor, nn

from genets.networks.surgery import blocks_of, branch_of, classifier_of, projection_of, stage_of
from genets.structure import Structure, SuperBlock

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
        return most_important(self._orders[index], width)

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
        is_block = not isinstance(stage_of(self.net, index), ConvNormAct)
        input_width = self.structure.input_width(index)
        return is_block and self.structure.stage(index).keeps_shape(input_width)

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
        read = torch.stack([squared_by_input(reader) for reader in readers]).sum(0)
        return relu_energy(shift, scale) * read

    def _readers(self, index: int) -> list[Tensor]:
        """The weights that read the channels of a stage, (outputs, width, ...)."""
        following = [*blocks_of(stage_of(self.net, index))[1:]]
        if index + 1 in self.structure.indices:
            following += blocks_of(stage_of(self.net, index + 1))[:1]
        else:
            return [classifier_of(self.net).weight.detach().cpu()]
        readers = []
        for block in following:
            if isinstance(block, ConvNormAct):
                readers.append(_effective(block))
                continue
            readers += [_effective(conv) for conv in branch_of(block).values()][:1]
            projection = projection_of(block)
            readers += [] if projection is None else [_effective(projection)]
        width = self.structure.stage(index).width
        return [reader for reader in readers if reader.shape[1] == width]


def _output_norms(stage: nn.Module) -> list[nn.BatchNorm2d]:
    """The batch norms whose outputs are added up to the output of a stage."""
    norms: list[nn.BatchNorm2d] = []
    for block in blocks_of(stage):
        if isinstance(block, ConvNormAct):
            norms.append(block.bn)
            continue
        projection, layers = projection_of(block), [*branch_of(block).values()]
        norms += [] if projection is None else [projection.bn]
        norms += [layer.bn for layer in layers[-1:]]
    return norms


def _by_importance(importances: Sequence[Tensor]) -> Tensor:
    """The numbers of the channels that several stages share, the most important one first."""
    return torch.stack([*importances]).sum(0).argsort(descending=True, stable=True)


def most_important(order: Tensor, width: int) -> Tensor:
    """The first `width` channels of an order, ascending; added channels follow the known ones."""
    return order[:width].sort().values if width < len(order) else torch.arange(width)


def relu_energy(shift: Tensor, scale: Tensor) -> Tensor:
    """The mean square of ReLU(z), where z is normal with this mean and deviation."""
    shift, scale = shift.cpu().double(), scale.cpu().double().abs().clamp_min(1e-12)
    ratio = shift / scale
    density = (-ratio.square() / 2).exp() / math.sqrt(2 * math.pi)
    positive: Tensor = torch.special.ndtr(ratio)
    energy: Tensor = (shift.square() + scale.square()) * positive + shift * scale * density
    return energy


def squared_by_input(kernel: Tensor) -> Tensor:
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
