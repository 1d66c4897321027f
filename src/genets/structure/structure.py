"""Structures: a network's shape as a frozen value, without weights."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

from genets.core.errors import StructureError, shown
from genets.structure.block import Block, check_integer

WIDTH_STEP = 8
IMAGE_CHANNELS = 3
MAX_DEPTH = 1000
MAX_WIDTH = 65536
MAX_RESOLUTION = 8192


@dataclass(frozen=True, slots=True, order=True)
class SuperBlock:
    """`depth` equal blocks of one type and `width`; the first carries the `stride`.

    `width` is the number of channels handed on. Outside Conv it is a multiple of 8,
    because timm's ByobNet rounds block widths to 8.
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


@dataclass(frozen=True, slots=True)
class Structure:
    """Stem Conv, super-blocks, head Conv, and the input resolution in pixels."""

    stages: tuple[SuperBlock, ...]
    resolution: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", tuple(self.stages))
        check_integer("resolution", self.resolution, 1, MAX_RESOLUTION)
        if len(self.stages) < 4:  # timm's ByobNet asserts two super-blocks
            raise StructureError(
                f"a structure needs a stem, at least two super-blocks and a head, "
                f"not {len(self.stages)} stage(s)"
            )
        self._check_ends()
        for number, stage in enumerate(self.super_blocks, start=2):
            if stage.type == "Conv":
                raise StructureError(
                    f"stage {number} is a Conv; only the stem and the head may be",
                    field="type",
                    stage=number,
                )
        if self.resolution < self.reduction:
            raise StructureError(
                f"resolution must be at least {shown(self.reduction)}, the product of the strides, "
                f"not {self.resolution}",
                field="resolution",
            )

    def _check_ends(self) -> None:
        # What timm's ByobNet can express: a 3x3 stem of stride 2 and a 1x1 head.
        _check_conv("the first stage must be the stem", self.stem, 1, kernel=3, stride=2)
        _check_conv(
            "the last stage must be the head", self.head, len(self.stages), kernel=1, stride=1
        )

    @property
    def stem(self) -> SuperBlock:
        return self.stages[0]

    @property
    def super_blocks(self) -> tuple[SuperBlock, ...]:
        return self.stages[1:-1]

    @property
    def head(self) -> SuperBlock:
        return self.stages[-1]

    @property
    def reduction(self) -> int:
        """Input pixels per pixel of the last feature map, along one side."""
        return math.prod(stage.stride for stage in self.stages)

    @property
    def indices(self) -> range:
        """Of all stages: super-blocks count from 0, so the stem is -1 and the head comes last."""
        return range(-1, len(self.stages) - 1)

    def stage(self, index: int) -> SuperBlock:
        """The stage of one of the `indices`. Raises ValueError for another number."""
        return self.stages[self.indices.index(index)]

    def stage_label(self, index: int) -> str:
        """`stem`, `head`, or the number of a super-block, counted from 1."""
        ends = {self.indices[0]: "stem", self.indices[-1]: "head"}
        return ends.get(index, str(index + 1))

    def stage_name(self, index: int) -> str:
        """`stem`, `head`, or `super-block 3`."""
        label = self.stage_label(index)
        return f"super-block {label}" if label.isdigit() else label

    def input_width(self, index: int) -> int:
        """Channels that the stage `index` reads; the stem reads the 3 of an image."""
        return self.stage(index - 1).width if index >= 0 else IMAGE_CHANNELS

    def with_stage(self, index: int, stage: SuperBlock) -> Structure:
        """The structure with the stage `index` replaced. Raises ValueError as `stage` does."""
        stages = list(self.stages)
        stages[self.indices.index(index)] = stage
        return replace(self, stages=tuple(stages))

    def with_resolution(self, resolution: int) -> Structure:
        return replace(self, resolution=resolution)

    def scale_width(self, factor: float) -> Structure:
        """Every width times `factor`: blocks to a multiple of 8, stem and head to an integer."""

        def scaled(stage: SuperBlock) -> SuperBlock:
            step = 1 if stage.type == "Conv" else WIDTH_STEP
            return replace(stage, width=max(step, round(stage.width * factor / step) * step))

        return replace(self, stages=tuple(scaled(stage) for stage in self.stages))

    def __str__(self) -> str:
        from genets.structure.notation import format_notation

        return format_notation(self)

    @classmethod
    def parse(cls, text: str) -> Structure:
        """Read the one-line notation. Raises StructureError with the place of the fault."""
        from genets.structure.notation import parse_notation

        return parse_notation(text)

    @classmethod
    def load(cls, path: str | Path) -> Structure:
        """Read a TOML structure file. Raises StructureError."""
        from genets.structure.toml_file import load_structure

        return load_structure(Path(path))

    def save(self, path: str | Path) -> None:
        """Write the TOML form."""
        from genets.structure.toml_file import format_toml

        Path(path).write_text(format_toml(self), encoding="utf-8")


def _check_conv(rule: str, stage: SuperBlock, number: int, *, kernel: int, stride: int) -> None:
    wanted = {"type": "Conv", "kernel": kernel, "stride": stride, "depth": 1}
    for field, value in wanted.items():
        if getattr(stage, field) != value:
            raise StructureError(
                f"{rule}, a Conv of kernel {kernel}, stride {stride} and depth 1, "
                f"but its {field} is {getattr(stage, field)}",
                field=field,
                stage=number,
            )
