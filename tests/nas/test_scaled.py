"""The MasterNet with all widths scaled by one factor."""

from __future__ import annotations

from typing import Any

import pytest

from genets.nas.selection.scaled import scale_to_latency
from genets.structure import Block, DesignSpace, SearchSpace, Structure

MASTER = Structure.parse("Conv3x16s2 XX3x32 DW3x64s2r3*2 Conv1x128 @32")
SPACE = DesignSpace((Block("XX"), Block("DW", 3, 3)), resolutions=(24,)).around(MASTER)


def channel_ms(structure: Structure) -> float:
    """A latency in which every channel of a super-block costs 1 ms, at 32 pixels."""
    return sum(stage.width for stage in structure.super_blocks) * structure.resolution / 32


def scaled(aim_ms: float, space: SearchSpace = SPACE, resolution: int = 32) -> Structure | None:
    return scale_to_latency(space, channel_ms, aim_ms, resolution)


def widths(structure: Structure | None) -> list[int]:
    assert structure is not None
    return [stage.width for stage in structure.stages]


@pytest.mark.parametrize(
    ("aim_ms", "expected"),
    [(96, [32, 64]), (95, [32, 56]), (87, [24, 56]), (80, [24, 56]), (79, [24, 48]), (48, [16, 32]),
     (111, [32, 72]), (120, [40, 80]), (1000, [64, 128])],
)  # fmt: skip
def test_the_widest_structure_up_to_the_latency_is_given(aim_ms: float, expected: Any) -> None:
    assert widths(scaled(aim_ms)) == [16, *expected, 128], "the space leaves stem and head alone"


def test_everything_but_the_widths_is_the_master_nets() -> None:
    structure = scaled(60, resolution=24)
    assert structure is not None
    assert structure.resolution == 24
    for own, stage in zip(MASTER.stages, structure.stages, strict=True):
        assert (stage.block, stage.depth, stage.stride) == (own.block, own.depth, own.stride)


def test_stem_and_head_are_scaled_where_the_space_changes_them() -> None:
    space = DesignSpace(stem_width_range=(0.5, 1.0), head_width_range=(0.25, 1.0)).around(MASTER)
    assert widths(scaled(48, space)) == [8, 16, 32, 80]


def test_no_structure_is_given_where_all_are_slower() -> None:
    assert scaled(47) is None


def test_widths_are_those_of_the_space() -> None:
    narrow = DesignSpace(width_range=(0.9, 1.0), width_step=16).around(MASTER)
    assert widths(scaled(1000, narrow)) == [16, 32, 64, 128]
    assert scaled(95, narrow) is None


@pytest.mark.parametrize(("aim_ms", "expected"), [(56, [24, 32]), (55, [16, 32])])
def test_a_projection_stays_unless_nothing_else_is_fast_enough(
    aim_ms: float, expected: list[int]
) -> None:
    """With the width of the stem, the first super-block would have an identity as its shortcut."""
    assert widths(scaled(aim_ms))[1:3] == expected


@pytest.mark.parametrize("master", ["XX3x32 XX3x32 XX3x32 XX3x32s2 XX3x64", "XX3x16 XX3x32"])
def test_every_shortcut_keeps_its_kind(master: str) -> None:
    """At any latency; stages with a common identity have one width."""
    whole = Structure.parse(f"Conv3x16s2 {master} Conv1x128 @32")
    space = DesignSpace((Block("XX"),), stem_width_range=(0.5, 1.5)).around(whole)
    total = sum(widths(whole)[1:-1])
    for aim_ms in range(total * 5 // 8, total * 2, 3):
        structure = scaled(aim_ms, space)
        assert structure is not None
        assert identities(structure) == identities(whole)


def identities(structure: Structure) -> list[bool]:
    return [
        structure.stage(index).keeps_shape(structure.input_width(index))
        for index in structure.indices
    ]


def test_widths_that_fit_take_the_next_step() -> None:
    """No latency leaves more than a step of the widest super-block unused."""
    wide = Structure.parse("Conv3x16s2 XX3x32 XX3x64s2 XX3x128s2 XX3x256s2 Conv1x128 @32")
    space = DesignSpace((Block("XX"),), width_step=8).around(wide)
    for aim_ms in range(250, 480, 7):
        structure = scaled(aim_ms, space)
        assert structure is not None
        unused = aim_ms - channel_ms(structure)
        assert 0 <= unused < 16


def test_an_identity_stays_an_identity() -> None:
    linked = Structure.parse("Conv3x32s2 XX3x32 DW3x64s2r3*2 Conv1x128 @32")
    space = DesignSpace((Block("XX"), Block("DW", 3, 3))).around(linked)
    assert widths(scaled(96, space))[:2] == [32, 32]
