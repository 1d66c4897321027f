"""The one-line notation of structures: `Conv3x32s2 BL3x640s2r0.25*6 Conv1x2560 @256`.

Spaces separate the stages. Each stage is `<type><kernel>x<width>`, then, in this order and
only where not 1, `s<stride>`, `r<ratio>`, `*<depth>`. `@<resolution>` comes last.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

from genets.core.errors import StructureError, shown
from genets.structure.block import BLOCK_TYPES, SuperBlock, unknown_type

Made = TypeVar("Made")

_TOKEN = re.compile(r"[^ \t\r\n]+")
_LETTERS = re.compile(r"[A-Za-z]+")
_INTEGER = re.compile(r"[0-9]+")
_DECIMAL = re.compile(r"[0-9]+(\.[0-9]+)?")
_MAX_DIGITS = 18  # far above every allowed integer, far below what int() refuses to read
_MARKS = {"s": "stride", "r": "ratio", "*": "depth"}  # in the order of the notation


def read_notation(text: str, make: Callable[[tuple[SuperBlock, ...], int], Made]) -> Made:
    """Read the notation of a structure; see `Structure.parse`.

    Args:
        text: The notation.
        make: Makes the result from the stages and the resolution. A StructureError that it
            raises gets the place of its stage in the text.
    """
    tokens = list(_TOKEN.finditer(text))
    if not tokens:
        raise StructureError("the notation of a structure is empty", position=1)
    resolution: int | None = None
    if tokens[-1].group().startswith("@"):
        resolution = _read_resolution(tokens[-1])
        del tokens[-1]
    readers = [_StageReader(token, number) for number, token in enumerate(tokens, start=1)]
    stages = tuple(reader.read() for reader in readers)
    if resolution is None:
        spot = tokens[-1].end()
        raise StructureError(
            f"character {spot}: the notation of a structure must end with @<resolution>, "
            f"such as @224, not with {shown(tokens[-1].group())}",
            field="resolution",
            position=spot,
        )
    try:
        return make(stages, resolution)
    except StructureError as error:
        if error.stage is not None:
            raise readers[error.stage - 1].fault(error) from None
        spot = text.rindex("@") + 1
        raise StructureError(
            f"character {spot}: {error}", field=error.field, position=spot
        ) from None


def parse_super_block(text: str) -> SuperBlock:
    """Read one stage, such as `BL3x640s2r0.25*6`. Raises StructureError with its position."""
    tokens = list(_TOKEN.finditer(text))
    if len(tokens) != 1:
        spot = tokens[1].start() + 1 if tokens else 1
        raise StructureError(f"the text must hold one stage, not {shown(text)}", position=spot)
    return _StageReader(tokens[0], 1).read()


def _read_resolution(token: re.Match[str]) -> int:
    digits = token.group()[1:]
    if not _INTEGER.fullmatch(digits) or len(digits) > _MAX_DIGITS:
        spot = token.start() + 1
        raise StructureError(
            f"character {spot}: @ must be followed by the resolution, a whole number of pixels, "
            f"not by {shown(digits)}",
            field="resolution",
            position=spot,
        )
    return int(digits)


class _StageReader:
    """Reads one stage from left to right and records the position of each field."""

    def __init__(self, token: re.Match[str], number: int) -> None:
        self.text, self.number = token.group(), number
        self.start = token.start() + 1  # position of the stage in the whole text, from 1
        self.at = 0  # number of characters of the stage that have been read
        self.spots: dict[str, int] = {}

    def read(self) -> SuperBlock:
        block_type = self._read_type()
        kernel = self._read_integer("kernel")
        if not self.text.startswith("x", self.at):
            raise self._fault("width", f"x and the width must follow the kernel {kernel}")
        self.at += 1
        width = self._read_integer("width")
        optional: dict[str, float] = {}
        for mark, field in _MARKS.items():
            if self.text.startswith(mark, self.at):
                self.at += 1
                read = self._read_decimal if field == "ratio" else self._read_integer
                optional[field] = read(field)
        if self.at < len(self.text):
            raise self._left_over()
        try:
            return SuperBlock(
                block_type,
                depth=int(optional.get("depth", 1)),
                width=width,
                stride=int(optional.get("stride", 1)),
                kernel=kernel,
                ratio=optional.get("ratio", 1.0),
            )
        except StructureError as error:
            raise self.fault(error) from None

    def fault(self, error: StructureError) -> StructureError:
        """The same error with its position in the text."""
        spot = self.spots.get(error.field or "type", 0)
        return self._fault(error.field, str(error), spot)

    def _fault(self, field: str | None, message: str, spot: int | None = None) -> StructureError:
        # The fault of a text that ends too early is at its last character.
        offset = min(self.at if spot is None else spot, len(self.text) - 1)
        position = self.start + offset
        return StructureError(
            f"stage {self.number} {shown(self.text)}, character {position}: {message}",
            field=field,
            stage=self.number,
            position=position,
        )

    def _left_over(self) -> StructureError:
        rest = self.text[self.at :]
        return self._fault(
            _MARKS.get(rest[0]),
            f"{shown(rest)} cannot be read; after the width, s<stride>, r<ratio> and *<depth> may "
            "follow, in this order and each at most once",
        )

    def _read_type(self) -> str:
        letters = _LETTERS.match(self.text)
        if letters is None:
            message = f"a stage must begin with a block type ({', '.join(BLOCK_TYPES)})"
            if self.text.startswith("@"):
                message = "@<resolution> must appear once, after the last stage"
            raise self._fault("type", message)
        name = letters.group()
        if name.removesuffix("x") in BLOCK_TYPES:
            name = name.removesuffix("x")  # the x of a width whose kernel is missing
        if name not in BLOCK_TYPES:
            raise self._fault("type", unknown_type(name))
        self.at = len(name)
        return name

    def _read_integer(self, field: str) -> int:
        digits = self._read_number(field, _INTEGER, "a whole number")
        if len(digits) > _MAX_DIGITS:
            message = f"{field} has {len(digits)} digits, far more than is allowed"
            raise self._fault(field, message, self.spots[field])
        return int(digits)

    def _read_decimal(self, field: str) -> float:
        return float(self._read_number(field, _DECIMAL, "a decimal number such as 0.25"))

    def _read_number(self, field: str, pattern: re.Pattern[str], kind: str) -> str:
        match = pattern.match(self.text, self.at)
        if match is None:
            got = (
                shown(self.text[self.at :]) if self.at < len(self.text) else "the end of the stage"
            )
            raise self._fault(field, f"{field} must be {kind}, not {got}")
        self.spots[field] = self.at
        self.at = match.end()
        return match.group()
