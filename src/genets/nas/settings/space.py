"""Settings of a search: the search space."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from genets.core.errors import SettingsError
from genets.core.validation import StrictModel
from genets.structure import Block, DesignSpace

MAX_RESOLUTIONS = 16  # each resolution is timed, and candidates of each are trained


class SpaceSettings(StrictModel):
    """The search space; see `genets.structure.DesignSpace`. The ranges are those of the paper."""

    blocks: tuple[str, ...] = Field(
        default=("XX3", "BL3r0.5", "BL3r0.25", "DW3r3", "DW3r6"),
        description="Blocks that a super-block may use: type, kernel and ratio, such as XX3, "
        "BL5r0.25 or DW3r6.",
    )
    width_range: tuple[float, float] = Field(
        default=(0.5, 2.0),
        description="Smallest and largest width of a super-block, as factors of its width in the "
        "MasterNet.",
    )
    width_step: int = Field(
        default=8, description="Every width is a multiple of this number and of 8."
    )
    depth_change: int = Field(
        default=2, description="Largest number of blocks that a super-block may gain or lose."
    )
    resolutions: tuple[int, ...] = Field(
        default=(),
        description="Additional input sizes in pixels, such as 12, 16 and 20, beside the "
        "MasterNet's. The best candidates of each size are selected under the same budget and "
        "trained.",
    )
    stem_width_range: tuple[float, float] = Field(
        default=(1.0, 1.0),
        description="Smallest and largest width of the stem, as factors of its width in the "
        "MasterNet; 1 1 leaves the stem as it is. The paper does not change the stem.",
    )
    head_width_range: tuple[float, float] = Field(
        default=(1.0, 1.0),
        description="Smallest and largest width of the head, as factors of its width in the "
        "MasterNet; 1 1 leaves the head as it is. The paper does not change the head.",
    )

    @field_validator("blocks", "resolutions", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        """Split the text of a command line, such as `XX3,BL3r0.25`."""
        return value.replace(",", " ").split() if isinstance(value, str) else value

    @field_validator("resolutions")
    @classmethod
    def _check_resolutions(cls, resolutions: tuple[int, ...]) -> tuple[int, ...]:
        """Sort the resolutions in ascending order."""
        if len(set(resolutions)) < len(resolutions):
            twice = next(r for r in resolutions if resolutions.count(r) > 1)
            raise SettingsError(f"resolutions must name each input size once, not {twice} twice")
        if len(resolutions) > MAX_RESOLUTIONS:
            raise SettingsError(
                f"resolutions must be at most {MAX_RESOLUTIONS} input sizes, because candidates "
                f"of each size are trained, not {len(resolutions)}"
            )
        return tuple(sorted(resolutions))

    @model_validator(mode="after")
    def _is_a_space(self) -> Self:
        self.design_space()
        return self

    def design_space(self) -> DesignSpace:
        """Return the design space. Raises StructureError."""
        blocks = tuple(Block.parse(text) for text in self.blocks)
        return DesignSpace(
            blocks,
            self.width_range,
            self.width_step,
            self.depth_change,
            self.resolutions,
            self.stem_width_range,
            self.head_width_range,
        )
