"""Block types: what a super-block repeats (paper, section 3.1 and Figure 1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from genets.core.errors import StructureError, shown, unknown_name

if TYPE_CHECKING:
    from genets.structure.layers import BlockLayers


@dataclass(frozen=True, slots=True)
class BlockType:
    """What the ratio of a block type may be; its layers are in `genets.networks.build`.

    layers_at: of a type of the user's own, the layers of a block at (stride, resolution), which
        its costs are counted from; None for the paper's types, whose costs are written down.
    """

    name: str
    layers: str
    ratio_rule: str
    allows_ratio: Callable[[float], bool]
    layers_at: Callable[[Block, int, int], BlockLayers] | None = None


# The paper's; `genets.networks.register_block` adds those of the user's own.
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


@dataclass(frozen=True, slots=True, order=True)
class Block:
    """One choice of type, kernel size and ratio.

    The paper calls this triple a block type as well: blocks of another kernel size
    or ratio have their own pseudo-gradient (section 4.2).
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

    def __str__(self) -> str:
        """The block in the one-line notation, without a width: `BL3r0.25`."""
        ratio = "" if self.ratio == 1 else f"r{format_ratio(self.ratio)}"
        return f"{self.type}{self.kernel}{ratio}"


def unknown_type(name: str) -> str:
    """One sentence for a block type that is not known."""
    sentence = unknown_name("block type", name, BLOCK_TYPES)
    if sentence.endswith("?"):
        return sentence
    return (
        f"{sentence} (for a type of your own give its file: genets --own-blocks FILE, or "
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
