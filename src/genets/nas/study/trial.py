"""One trial: a perturbed super-block of the MasterNet and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from genets.structure import Structure, SuperBlock


@dataclass(frozen=True, slots=True, order=True)
class Trial:
    """The MasterNet's stage `index` replaced by `super_block`.

    index: super-blocks count from 0; the stem is -1 and the head comes after the last of them.

    `repeat` tells apart trials of the same super-block with other seeds. A trial of the
    MasterNet's own super-block is a control trial: re-initialised like any other, it is
    the zero of that super-block's scale.
    """

    index: int
    super_block: SuperBlock
    repeat: int = 0

    def is_control(self, master: Structure) -> bool:
        return self.super_block == master.stage(self.index)

    def structure(self, master: Structure) -> Structure:
        return master.with_stage(self.index, self.super_block)


@dataclass(frozen=True, slots=True)
class TrialResult:
    """Scores on the validation split. A failed trial has a reason and no scores."""

    trial: Trial
    status: Literal["done", "failed"]
    top1: float | None = None  # share of correct images, 0 to 1
    cross_entropy: float | None = None  # nats per image
    seconds: float = 0.0
    reason: str = ""
