"""Structure: the shape of a network as a frozen value, without weights."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from genets.core.errors import StructureError, counted, shown
from genets.structure.block import WIDTH_STEP, SuperBlock, check_integer
from genets.structure.notation import read_notation
from genets.structure.toml_file import format_toml, read_toml, read_toml_file

IMAGE_CHANNELS = 3
MAX_RESOLUTION = 8192


@dataclass(frozen=True, slots=True)
class Structure:
    """A stem Conv, super-blocks, a head Conv, and the input resolution.

    Attributes:
        stages: the stem, at least two super-blocks, and the head.
        resolution: pixels along one side of the input image.

    Raises:
        StructureError: a stage or the resolution breaks its rule.
    """

    stages: tuple[SuperBlock, ...]
    resolution: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", tuple(self.stages))
        check_integer("resolution", self.resolution, 1, MAX_RESOLUTION)
        if len(self.stages) < 4:  # timm's ByobNet asserts two super-blocks
            raise StructureError(
                f"a structure needs a stem, at least two super-blocks and a head, "
                f"not {counted(len(self.stages), 'stage')}"
            )
        self._check_ends()
        for number, stage in enumerate(self.super_blocks, start=2):
            if stage.type == "Conv":
                raise StructureError(
                    f"stage {number} is a Conv; only the stem and the head may be a Conv",
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
        # Limits of timm's ByobNet: a 3x3 stem of stride 2 and a 1x1 head.
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
        """Pixels of the input per pixel of the last feature map, along one side."""
        return math.prod(stage.stride for stage in self.stages)

    @property
    def indices(self) -> range:
        """Indices of all stages: the stem is -1, super-blocks count from 0, the head is last."""
        return range(-1, len(self.stages) - 1)

    def stage(self, index: int) -> SuperBlock:
        """The stage at an index of `indices`. Raises ValueError for any other index."""
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
        """Input channels of the stage at `index`; the stem reads the 3 channels of an image."""
        return self.stage(index - 1).width if index >= 0 else IMAGE_CHANNELS

    def with_stage(self, index: int, stage: SuperBlock) -> Structure:
        """A copy with another stage at `index`. Raises ValueError for an index not in `indices`."""
        stages = list(self.stages)
        stages[self.indices.index(index)] = stage
        return replace(self, stages=tuple(stages))

    def with_resolution(self, resolution: int) -> Structure:
        return replace(self, resolution=resolution)

    def scale_width(self, factor: float) -> Structure:
        """A copy with every width times `factor`, rounded to 8 (stem and head: to 1)."""

        def scaled(stage: SuperBlock) -> SuperBlock:
            step = 1 if stage.type == "Conv" else WIDTH_STEP
            return replace(stage, width=max(step, round(stage.width * factor / step) * step))

        return replace(self, stages=tuple(scaled(stage) for stage in self.stages))

    def __str__(self) -> str:
        """The one-line notation; `parse` reads it back as an equal value."""
        return f"{' '.join(map(str, self.stages))} @{self.resolution}"

    @classmethod
    def parse(cls, text: str) -> Structure:
        """Read the one-line notation, such as `Conv3x32s2 XX3x64s2 XX3x64*2 Conv1x256 @64`.

        Raises:
            StructureError: The text is faulty; `position` is the place of the fault, from 1.
        """
        return read_notation(text, cls)

    def to_toml(self) -> str:
        """The TOML form; `parse_toml` reads it back as an equal value."""
        return format_toml(self.stages, self.resolution)

    @classmethod
    def parse_toml(cls, text: str) -> Structure:
        """Read the TOML form.

        Fields of a stage for which SuperBlock has a default may be missing.

        Raises:
            StructureError: The text is faulty; `position` is the place of the fault, from 1.
        """
        return read_toml(text, cls)

    @classmethod
    def load(cls, path: str | Path) -> Structure:
        """Read a TOML structure file.

        Raises:
            StructureError: The file cannot be read; the message names the file and the line.
        """
        return read_toml_file(path, cls)

    def save(self, path: str | Path) -> None:
        """Write the TOML form to a file."""
        Path(path).write_text(self.to_toml(), encoding="utf-8")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """Let pydantic store a structure as its notation."""
        from genets.core.validation import text_schema  # pydantic takes long to import

        return text_schema(cls, cls.parse)


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
