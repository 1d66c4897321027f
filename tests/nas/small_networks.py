"""Small MasterNets, and checks of planned trials, that several tests share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from genets.nas.study.records import Trial
from genets.structure import SearchSpace, Structure

# Two, three and four super-blocks.
TINY = Structure.parse("Conv3x8s2 XX3x8s2 DW3x16r3 Conv1x16 @8")
TWO_XX = Structure.parse("Conv3x16s2 XX3x32*2 XX3x64s2*3 Conv1x64 @16")
THREE = Structure.parse("Conv3x16s2 XX3x24 XX3x32s2*2 DW3x64s2r3*2 Conv1x128 @32")
FOUR = Structure.parse("Conv3x16s2 XX3x24 XX3x32s2*2 BL3x96s2r0.25*3 DW3x64s2r3*2 Conv1x128 @32")


def assert_balanced(planned: Sequence[Trial], space: SearchSpace) -> None:
    """Each block, depth and width of a super-block has as many trials as any other, or one more."""
    for index in range(len(space.master.super_blocks)):
        super_blocks = [trial.super_block for trial in planned if trial.index == index]
        for values, drawn in (
            (space.blocks[index], [s.block for s in super_blocks]),
            (space.depths[index], [s.depth for s in super_blocks]),
            (space.widths[index], [s.width for s in super_blocks]),
        ):
            counts = Counter(drawn)
            assert max(counts.values()) - min(counts[value] for value in values) <= 1
