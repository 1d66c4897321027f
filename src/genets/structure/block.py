"""Blocks and super-blocks: the parts of a structure (paper, section 3.1 and Figure 1)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from genets.core.errors import StructureError, shown, unknown_name

if TYPE_CHECKING:
    from genets.structure.layers import BlockLayers


@dataclass(frozen=True, slots=True)
class BlockType:
    """A block type and the rule for its ratio; `genets.networks.build` has its layers.

    Attributes:
        name: such as "XX".
        layers: the layers in words.
        ratio_rule: the allowed ratios in words.
        allows_ratio: whether a ratio is allowed.
        layers_at: gives the layers of a block at (stride, resolution), from which the costs of a
            user's own type are counted; None for the paper's types, whose costs are in `cost`.
    """

    name: str
    layers: str
    ratio_rule: str
    allows_ratio: Callable[[float], bool]
    layers_at: Callable[[Block, int, int], BlockLayers] | None = None


# The paper's types; `genets.networks.register_block` adds the types of a user.
BLOCK_TYPES: dict[str, BlockType] = {
    t.name: t
    for t in (
        BlockType("Conv", "one k x k convolution", "exactly 1", lambda r: r == 1),
        BlockType("XX", "two k x k convolutions", "exactly 1", lambda r: r == 1),
        BlockType("BL", "1x1, k x k, 1x1", "above 0 and at most 1", lambda r: 0 < r <= 1),
        BlockType("DW", "1x1, depth-wise k x k, 1x1", "from 1 to 64", lambda r: 1 <= r <= 64),
    )
}

MAX_KERNEL = 15
MAX_DEPTH = 1000
MAX_WIDTH = 65536
WIDTH_STEP = 8

_BLOCK = re.compile(r"([A-Za-z]+)([0-9]{1,9})(?:r([0-9]+(?:\.[0-9]+)?))?")


@dataclass(frozen=True, slots=True, order=True)
class Block:
    """One choice of type, kernel size and ratio.

    The paper also calls this triple a block type: blocks of another kernel size or ratio have
    their own pseudo-gradient (section 4.2).

    Attributes:
        type: a name in BLOCK_TYPES.
        kernel: size k of the k x k convolution, odd, at most 15.
        ratio: inner width over width of a BL or DW block; 1 for other types.

    Raises:
        StructureError: a field breaks its rule.
    """

    type: str
    kernel: int = 3
    ratio: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.type, str):
            raise StructureError(f"type must be a text, not {shown(self.type)}", field="type")
        if self.type not in BLOCK_TYPES:
            raise StructureError(unknown_type(self.type), field="type")
        check_integer("kernel", self.kernel, 1, MAX_KERNEL)
        if self.kernel % 2 == 0:
            raise StructureError(f"kernel must be odd, not {self.kernel}", field="kernel")
        rule = BLOCK_TYPES[self.type]
        number = isinstance(self.ratio, int | float) and not isinstance(self.ratio, bool)
        if not (number and rule.allows_ratio(self.ratio)):
            raise StructureError(
                f"ratio of a {self.type} block must be {rule.ratio_rule}, not {shown(self.ratio)}",
                field="ratio",
            )
        object.__setattr__(self, "ratio", float(self.ratio))

    @classmethod
    def parse(cls, text: str) -> Block:
        """Read a block as `str` writes it, such as `XX3` or `BL3r0.25`.

        Raises:
            StructureError: The text is no block, or the type, kernel or ratio is not allowed.
        """
        match = _BLOCK.fullmatch(text)
        if match is None:
            raise StructureError(f"a block is written as XX3, BL3r0.25 or DW5r6, not {shown(text)}")
        name, kernel, ratio = match.groups()
        return cls(name, int(kernel), float(ratio or 1))

    def __str__(self) -> str:
        """The block in the one-line notation, without a width, such as `BL3r0.25`."""
        ratio = "" if self.ratio == 1 else f"r{format_ratio(self.ratio)}"
        return f"{self.type}{self.kernel}{ratio}"


@dataclass(frozen=True, slots=True, order=True)
class SuperBlock:
    """`depth` equal blocks of one type and width; the first has the stride.

    Attributes:
        type: a name in BLOCK_TYPES.
        depth: number of blocks.
        width: output channels; a multiple of 8 except for Conv, because timm's ByobNet rounds
            the widths of blocks to 8.
        stride: 1 or 2.
        kernel: size of the k x k convolutions.
        ratio: inner width over width of a BL or DW block; 1 for other types.

    Raises:
        StructureError: a field breaks its rule.
    """

    type: str
    depth: int
    width: int
    stride: int = 1
    kernel: int = 3
    ratio: float = 1.0

    def __post_init__(self) -> None:
        block = Block(self.type, self.kernel, self.ratio)
        object.__setattr__(self, "ratio", block.ratio)
        check_integer("depth", self.depth, 1, MAX_DEPTH)
        check_integer("width", self.width, 1, MAX_WIDTH)
        check_integer("stride", self.stride, 1, 2)
        if self.type != "Conv" and self.width % WIDTH_STEP:
            raise StructureError(
                f"width of a {self.type} super-block must be a multiple of {WIDTH_STEP}, "
                f"not {self.width}",
                field="width",
            )

    @property
    def block(self) -> Block:
        return Block(self.type, self.kernel, self.ratio)

    def keeps_shape(self, input_width: int) -> bool:
        """Whether inputs and outputs have one shape; the first shortcut is then an identity."""
        return self.stride == 1 and self.width == input_width

    def __str__(self) -> str:
        """The one-line notation, such as `BL3x640s2r0.25*6`. Values of 1 are not written."""
        stride = f"s{self.stride}" if self.stride != 1 else ""
        ratio = f"r{format_ratio(self.ratio)}" if self.ratio != 1 else ""
        depth = f"*{self.depth}" if self.depth != 1 else ""
        return f"{self.type}{self.kernel}x{self.width}{stride}{ratio}{depth}"


def unknown_type(name: str) -> str:
    """One sentence for an unknown block type."""
    sentence = unknown_name("block type", name, BLOCK_TYPES)
    if "did you mean" in sentence:
        return sentence
    return (
        f"{sentence} (load a block type of your own with genets --own-blocks FILE, or with "
        "genets.load_blocks(FILE))"
    )


def format_ratio(ratio: float) -> str:
    """The shortest decimal text that reads back as the same float, without an exponent."""
    return format(Decimal(repr(float(ratio))), "f").removesuffix(".0")


def check_integer(field: str, value: object, low: int, high: int) -> None:
    """Raise StructureError unless `value` is an integer from `low` to `high`."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise StructureError(
            f"{field} must be an integer from {low} to {high}, not {shown(value)}", field=field
        )
