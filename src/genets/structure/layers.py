"""The convolutions of a user's own block type, from which its costs are counted.

The costs of the paper's four types are closed forms in `cost`, so they do not use this module.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from genets.structure.block import WIDTH_STEP

if TYPE_CHECKING:
    import numpy as np

Number = TypeVar("Number", float, "np.ndarray[tuple[int, ...], np.dtype[np.float64]]")


def divisible(channels: Number) -> Number:
    """timm's `make_divisible`: the nearest multiple of 8, but never below 0.9 times the value."""
    rounded = (channels + WIDTH_STEP // 2) // WIDTH_STEP * WIDTH_STEP
    return rounded + WIDTH_STEP * (rounded < 0.9 * channels)


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

    def multiply_adds(self, input_width: int, width: int) -> int:
        """Multiply-adds for one image."""
        outputs = round(self.outputs.at(float(input_width), width))
        per_group = round(self.per_group.at(float(input_width), width))
        return self.side_out**2 * self.window * outputs * per_group


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
