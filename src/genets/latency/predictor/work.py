"""Work: operation counts of a block; its time grows with its widths roughly as they do."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from genets.structure import BLOCK_TYPES, Block, SuperBlock
from genets.structure.cost import middle_width
from genets.structure.layers import Layer

Array = NDArray[np.float64]

# Wide vector units and tensor cores compute whole tiles: 24 channels cost as much as 32.
CHANNEL_TILE = 16

WORK = (
    "1x1", "1x1 tiled", "kxk", "kxk tiled", "5x5 and more tiled", "depth-wise",
    "depth-wise 5x5 and more", "1x1 ragged", "kxk ragged", "depth-wise ragged",
    "moved", "written", "layers",
)  # fmt: skip
# Multiply-adds and values are counted in millions per image; layers are counted one by one.
_MILLION = 1e-6


def block_work(
    block: Block, input_width: ArrayLike, width: int, stride: int, resolution: int
) -> Array:
    """Count the work of one block for one image.

    Args:
        block: The block. Its layers are those of timm's BasicBlock and BottleneckBlock, or of a
            user's own block type.
        input_width: Channels that the block reads, a number or an array.
        width: Channels that the block writes.
        stride: The stride of the block.
        resolution: Pixels along one side of the feature map that the block reads.

    Returns:
        Shape (len(WORK), *shape of input_width).
    """
    inputs = np.asarray(input_width, dtype=np.float64)
    layers_at = BLOCK_TYPES[block.type].layers_at
    if layers_at is not None:
        layers = layers_at(block, stride, resolution)
        changing = _layers_work(layers.changing, inputs, width)
        return np.where(inputs == width, _layers_work(layers.keeping, inputs, width), changing)
    work = _Work(inputs.shape)
    side = -(-resolution // stride)
    _shortcut(work, inputs, width, stride, resolution)
    if block.type == "XX":
        work.convolution(inputs, width, block.kernel, resolution, side)
        work.convolution(width, width, block.kernel, side, side)
        return work.counts
    middle = middle_width(SuperBlock(block.type, 1, width, 1, block.kernel, block.ratio))
    work.convolution(inputs, middle, 1, resolution, resolution)
    if block.type == "DW":
        work.depth_wise(middle, block.kernel, resolution, side)
    else:
        work.convolution(middle, middle, block.kernel, resolution, side)
    work.convolution(middle, width, 1, side, side)
    return work.counts


def _layers_work(layers: Sequence[Layer], input_width: Array, width: int) -> Array:
    """The work of a user's own block type: only its convolutions."""
    work = _Work(input_width.shape)
    for layer in layers:
        outputs = layer.outputs.at(input_width, width)
        shape = math.sqrt(layer.window), layer.side_in, layer.side_out
        if layer.depth_wise:
            work.depth_wise(outputs, *shape)
        else:
            work.convolution(layer.per_group.at(input_width, width), outputs, *shape)
    return work.counts


def _shortcut(work: _Work, inputs: Array, width: int, stride: int, resolution: int) -> None:
    """A projection where the shapes differ, by a convolution with the stride of the block."""
    side = -(-resolution // stride)
    projected = np.ones_like(inputs) if stride != 1 else (inputs != width).astype(np.float64)
    work.convolution(inputs, width, 1, resolution, side, share=projected)


class _Work:
    """Counts of all kinds of WORK, for an array of input widths."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.counts = np.zeros((len(WORK), *shape))

    def add(self, kind: str, amount: ArrayLike) -> None:
        self.counts[WORK.index(kind)] += amount

    def convolution(
        self,
        inputs: ArrayLike,
        width: float | Array,
        kernel: float,
        side_in: int,
        side_out: int,
        share: float | Array = 1.0,
    ) -> None:
        inputs = np.asarray(inputs, dtype=np.float64)
        window = share * np.float64(side_out**2 * kernel**2) * _MILLION
        tiled = window * tiles(inputs) * tiles(width)
        kind = "1x1" if kernel == 1 else "kxk"
        self.add(kind, window * inputs * width)
        self.add("5x5 and more tiled" if kernel > 3 else f"{kind} tiled", tiled)
        self.add(f"{kind} ragged", tiled * ((tiles(inputs) != inputs) | (tiles(width) != width)))
        self._move(inputs, width, side_in, side_out, share)

    def depth_wise(self, width: float | Array, kernel: float, side_in: int, side_out: int) -> None:
        kind = "depth-wise 5x5 and more" if kernel > 3 else "depth-wise"
        tiled = side_out**2 * kernel**2 * _MILLION * tiles(width)
        self.add(kind, tiled)
        self.add("depth-wise ragged", tiled * (tiles(width) != width))
        self._move(width, width, side_in, side_out, 1.0)

    def _move(
        self,
        inputs: ArrayLike,
        width: float | Array,
        side_in: int,
        side_out: int,
        share: float | Array,
    ) -> None:
        written = side_out**2 * np.asarray(width, dtype=np.float64) * _MILLION
        self.add("moved", share * (np.asarray(inputs) * float(side_in**2) * _MILLION + written))
        self.add("written", share * written)
        self.add("layers", share)


def tiles(width: ArrayLike) -> Array:
    """The width, rounded up to whole tiles of channels."""
    return np.ceil(np.asarray(width, dtype=np.float64) / CHANNEL_TILE) * CHANNEL_TILE
