"""Design space: the changes that a search may make to a MasterNet (paper, section 5)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING

from genets.core.errors import StructureError, shown
from genets.structure.block import WIDTH_STEP, Block, SuperBlock, check_integer
from genets.structure.structure import MAX_RESOLUTION, Structure

if TYPE_CHECKING:
    import numpy as np

WIDTH_RANGES = ("width_range", "stem_width_range", "head_width_range")

PAPER_BLOCKS = (
    *(Block("XX", kernel) for kernel in (3, 5)),
    *(Block("BL", kernel, ratio) for kernel in (3, 5) for ratio in (0.5, 0.25)),
    *(Block("DW", kernel, ratio) for kernel in (3, 5) for ratio in (3, 6, 9)),
)


@dataclass(frozen=True)
class DesignSpace:
    """The ranges of a search. With a MasterNet they give the choices of every stage.

    Defaults are the paper's: kernel 3 or 5, BL ratio 0.5 or 0.25, DW ratio 3, 6 or 9,
    width from 0.5c to 2c, depth from d - 2 to d + 2, resolution 192, 224 or 256.

    Attributes:
        blocks: types, kernels and ratios that a super-block may take.
        width_range: smallest and largest width of super-blocks, as factors of the MasterNet's.
        width_step: widths are multiples of this step, which is a multiple of 8.
        depth_change: number of blocks that may be removed or added; at least one block stays.
        resolutions: input sizes in pixels, beside the MasterNet's own.
        stem_width_range: smallest and largest stem width, as factors of the MasterNet's; fixed
            by default.
        head_width_range: smallest and largest head width, as factors of the MasterNet's; fixed
            by default.

    Raises:
        StructureError: a range breaks its rule.
    """

    blocks: tuple[Block, ...] = PAPER_BLOCKS
    width_range: tuple[float, float] = (0.5, 2.0)
    width_step: int = WIDTH_STEP
    depth_change: int = 2
    resolutions: tuple[int, ...] = (192, 224, 256)
    stem_width_range: tuple[float, float] = (1.0, 1.0)
    head_width_range: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        for name in ("blocks", "resolutions", *WIDTH_RANGES):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not self.blocks or len(set(self.blocks)) < len(self.blocks):
            named = ", ".join(map(str, self.blocks)) or "none"
            raise StructureError(
                f"blocks of a design space must be at least one, each named once, not {named}"
            )
        if any(block.type == "Conv" for block in self.blocks):
            raise StructureError(
                "blocks of a design space cannot be Conv: only the stem and the head are Conv"
            )
        for name in WIDTH_RANGES:
            _check_range(name, getattr(self, name))
        check_integer("width_step", self.width_step, WIDTH_STEP, 65536)
        if self.width_step % WIDTH_STEP:
            raise StructureError(
                f"width_step must be a multiple of {WIDTH_STEP}, not {self.width_step}"
            )
        check_integer("depth_change", self.depth_change, 0, 100)
        for resolution in self.resolutions:
            check_integer("resolution", resolution, 1, MAX_RESOLUTION)

    def around(self, master: Structure) -> SearchSpace:
        """The choices for each stage of the MasterNet `master`."""
        return SearchSpace(self, master)


def _check_range(name: str, value: object) -> None:
    match value:
        case (int() | float() as low, int() | float() as high) if 0 < low <= 1 <= high <= 64:
            pass
        case _:
            raise StructureError(
                f"{name} must hold two factors, one above 0 and at most 1 and one "
                f"from 1 to 64, not {shown(value)}",
                field=name,
            )


@dataclass(frozen=True)
class SearchSpace:
    """A design space applied to one MasterNet. Stages are numbered as in `Structure.indices`."""

    space: DesignSpace
    master: Structure

    def __post_init__(self) -> None:
        for resolution in self.resolutions:
            self.master.with_resolution(resolution)  # raises where the strides need more pixels

    @cached_property
    def blocks(self) -> Mapping[int, tuple[Block, ...]]:
        """The blocks of each stage, the MasterNet's own always included."""
        given = self.space.blocks
        return {
            index: (s.block,) if s.type == "Conv" else (*given, *({s.block} - set(given)))
            for index, s in self._stages()
        }

    @cached_property
    def widths(self) -> Mapping[int, tuple[int, ...]]:
        """The widths of each stage, ascending, the MasterNet's own always included."""
        space, indices = self.space, self.master.indices
        ends = {indices[0]: space.stem_width_range, indices[-1]: space.head_width_range}
        return {
            index: self._widths_around(s.width, ends.get(index, space.width_range))
            for index, s in self._stages()
        }

    def _widths_around(self, width: int, factors: tuple[float, float]) -> tuple[int, ...]:
        low, high = factors
        step = self.space.width_step
        # Rounded before ceil and floor: 0.28 * 200 is 56.00000000000001 in floating point.
        lowest = max(1, math.ceil(round(width * low / step, 6)))
        highest = math.floor(round(width * high / step, 6))
        return tuple(sorted({width, *(step * n for n in range(lowest, highest + 1))}))

    @cached_property
    def depths(self) -> Mapping[int, tuple[int, ...]]:
        """The depths of each stage, ascending."""
        return {
            index: tuple(range(max(1, s.depth - change), s.depth + change + 1))
            for index, s in self._stages()
            for change in [0 if s.type == "Conv" else self.space.depth_change]
        }

    def _stages(self) -> Iterator[tuple[int, SuperBlock]]:
        return zip(self.master.indices, self.master.stages, strict=True)

    @cached_property
    def resolutions(self) -> tuple[int, ...]:
        """Input sizes in pixels, ascending, the MasterNet's own always included."""
        return tuple(sorted({self.master.resolution, *self.space.resolutions}))

    def choices(self, index: int) -> tuple[SuperBlock, ...]:
        """Every choice for the stage at `index`, the MasterNet's own included."""
        stride = self.master.stage(index).stride
        return tuple(
            SuperBlock(block.type, depth, width, stride, block.kernel, block.ratio)
            for block, width, depth in product(
                self.blocks[index], self.widths[index], self.depths[index]
            )
        )

    @cached_property
    def size(self) -> int:
        """The number of structures in the space."""
        per_stage = (
            len(self.blocks[index]) * len(self.widths[index]) * len(self.depths[index])
            for index in self.master.indices
        )
        return math.prod(per_stage) * len(self.resolutions)

    def sample(self, rng: np.random.Generator) -> Structure:
        """Draw one structure, uniformly from the space."""
        stages = []
        for index, stage in self._stages():
            blocks, widths, depths = self.blocks[index], self.widths[index], self.depths[index]
            block = blocks[rng.integers(len(blocks))]
            stages.append(
                replace(
                    stage,
                    type=block.type,
                    kernel=block.kernel,
                    ratio=block.ratio,
                    width=widths[rng.integers(len(widths))],
                    depth=depths[rng.integers(len(depths))],
                )
            )
        resolution = self.resolutions[rng.integers(len(self.resolutions))]
        return Structure(tuple(stages), resolution)
