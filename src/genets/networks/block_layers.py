"""The convolutions of an own block type, found by running a few blocks of it.

A latency table and the accuracy model need the cost of a block at thousands of pairs of widths. So
blocks of a few widths are built on torch's meta device, which needs no memory and no arithmetic,
and linear equations give the channels of each convolution as a function of the two widths.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from timm.models import reparameterize_model
from torch import Tensor, nn

from genets.core.errors import GenetsError
from genets.networks.build import build
from genets.structure import Block, Structure, SuperBlock
from genets.structure.layers import BlockLayers, Channels, Layer

# Pairs of input width and width: of blocks that change the width, and of blocks that keep it. They
# are multiples of 64, for which inner widths need no rounding at the usual ratios.
CHANGING = ((128, 256), (192, 256), (128, 320))
KEEPING = ((128, 128), (192, 192))

# For one convolution (inputs, outputs, inputs of a group) and (window, side_in, side_out).
_Seen = tuple[tuple[int, int, int], tuple[int, int, int]]


def read_layers(block: Block, stride: int, resolution: int) -> BlockLayers:
    """Find the convolutions of a block in the form that is deployed.

    Args:
        block: The block.
        stride: Its stride.
        resolution: Pixels along one side of its input.

    Raises:
        GenetsError: The block runs no convolution, or it has other layers at other widths.
    """
    return BlockLayers(
        *(
            _solve(block, widths, [_run_block(block, *pair, stride, resolution) for pair in widths])
            for widths in (CHANGING, KEEPING)
        )
    )


def block_stage(
    block: Block, input_width: int, width: int, stride: int, depth: int = 1
) -> nn.Sequential:
    """Build a super-block as it is in a network, with fresh weights."""
    own = SuperBlock(block.type, depth, width, stride, block.kernel, block.ratio)
    stem = SuperBlock("Conv", 1, input_width, stride=2)
    # Only `own` is used, but ByobNet demands a second super-block and a head.
    end = (SuperBlock("XX", 1, 8, kernel=1), SuperBlock("Conv", 1, 8, kernel=1))
    stage: nn.Sequential = build(Structure((stem, own, *end), resolution=64), 1).stages[0]
    return stage


def _run_block(
    block: Block, input_width: int, width: int, stride: int, resolution: int
) -> list[_Seen]:
    """The convolutions of the deployed block, in the order in which they run."""
    with torch.device("meta"):
        trained = block_stage(block, input_width, width, stride).eval()
        stage = reparameterize_model(trained, inplace=True)
    seen: list[_Seen] = []

    def record(conv: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(conv, nn.Conv2d)
        outputs, per_group, *window = conv.weight.shape
        channels = (conv.in_channels, outputs, per_group)
        seen.append((channels, (window[0] * window[1], inputs[0].shape[-1], output.shape[-1])))

    for module in stage.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(record)
    with torch.no_grad():
        stage(torch.empty(1, input_width, resolution, resolution, device="meta"))
    return seen


def _solve(
    block: Block, widths: Sequence[tuple[int, int]], seen: Sequence[list[_Seen]]
) -> tuple[Layer, ...]:
    if not any(seen) and widths == KEEPING:
        return ()  # such as an identity
    if not seen[0]:
        raise GenetsError(f"{block} runs no nn.Conv2d, so its cost cannot be counted")
    sizes = [[size for _, size in convolutions] for convolutions in seen]
    if any(other != sizes[0] for other in sizes):
        raise GenetsError(
            f"{block} has other layers at other widths, so its cost cannot be counted"
        )
    equations = np.array([[*pair, 1.0] for pair in widths])
    if widths == KEEPING:
        equations[:, 0] = 0  # both widths are equal, so the input width needs no coefficient
    layers = []
    for convolutions in zip(*seen, strict=True):
        counts = np.array([channels for channels, _ in convolutions], np.float64)
        solved = np.linalg.lstsq(equations, counts)[0].T.round(6)
        inputs, outputs, per_group = (Channels(*map(float, line)) for line in solved)
        layers.append(Layer(inputs, outputs, per_group, *convolutions[0][1]))
    return tuple(layers)
