"""Convolutions, and those of a user's own block type as a function of its widths.

The convolutions of the paper's four types are closed forms in `cost`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from genets.structure.block import WIDTH_STEP

if TYPE_CHECKING:
    import numpy as np

Number = TypeVar("Number", float, "np.ndarray[tuple[int, ...], np.dtype[np.float64]]")


def divisible(channels: Number) -> Number:
    """timm's `make_divisible`: the nearest multiple of 8, but never below 0.9 times the value."""
    rounded = (channels + WIDTH_STEP // 2) // WIDTH_STEP * WIDTH_STEP
    return rounded + WIDTH_STEP * (rounded < 0.9 * channels)


class Convolution(NamedTuple):
    """One convolution of a network in its deployed form.

    Attributes:
        inputs, outputs: Input and output channels.
        per_group: Input channels that one output channel reads; 1 in a depth-wise convolution.
        window: Values that an output reads of each of these channels; 9 for a 3x3 kernel.
        side_in, side_out: Pixels along one side of the input and output feature maps.
    """

    inputs: int
    outputs: int
    per_group: int
    window: int
    side_in: int
    side_out: int

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds for one image."""
        return self.side_out**2 * self.window * self.outputs * self.per_group

    @property
    def largest_values(self) -> int:
        """Values that the convolution, or the batch norm after it, reads and writes: one image."""
        written = self.outputs * self.side_out**2
        return written + max(written, self.inputs * self.side_in**2)


@dataclass(frozen=True, slots=True)
class Channels:
    """A number of channels: `by_input * input width + by_width * width + constant`.

    A number that grows with a width by a factor other than 1 is an inner width. timm's blocks
    round inner widths to a multiple of 8.
    """

    by_input: float
    by_width: float
    constant: float

    def at(self, input_width: Number, width: int) -> Number:
        """The number of channels at one input width, or at each width of an array."""
        exact = self.by_input * input_width + (self.by_width * width + self.constant)
        plain = self.constant or (self.by_input, self.by_width) in ((1, 0), (0, 1))
        return exact if plain else divisible(exact)


@dataclass(frozen=True, slots=True)
class Layer:
    """One convolution (or linear layer) of a block.

    Attributes:
        inputs, outputs: input and output channels.
        per_group: input channels that one output channel reads; 1 in a depth-wise layer.
        window: values that an output reads of each of these channels; 9 for a 3x3 kernel.
        side_in, side_out: pixels along one side of the input and output feature maps.
    """

    inputs: Channels
    outputs: Channels
    per_group: Channels
    window: int
    side_in: int
    side_out: int

    @property
    def depth_wise(self) -> bool:
        return self.per_group == Channels(0, 0, 1)

    def at(self, input_width: int, width: int) -> Convolution:
        """The layer at one pair of widths."""
        inputs, outputs, per_group = (
            round(each.at(float(input_width), width))
            for each in (self.inputs, self.outputs, self.per_group)
        )
        return Convolution(inputs, outputs, per_group, self.window, self.side_in, self.side_out)


@dataclass(frozen=True, slots=True)
class BlockLayers:
    """The layers of one block at one stride and resolution, in its deployed form.

    Attributes:
        changing: the layers where the input width differs from the width.
        keeping: the layers where the two are equal; such a block often has no projection.
    """

    changing: tuple[Layer, ...]
    keeping: tuple[Layer, ...]

    def at(self, input_width: int, width: int) -> tuple[Layer, ...]:
        return self.keeping if input_width == width else self.changing
