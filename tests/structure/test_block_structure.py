"""Rules of blocks, super-blocks and structures."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genets.core import errors
from genets.core.errors import StructureError
from genets.structure import Block, Structure, SuperBlock
from genets.structure.block import format_ratio

STEM = SuperBlock("Conv", 1, 32, stride=2)
HEAD = SuperBlock("Conv", 1, 128, kernel=1)
MIDDLE = SuperBlock("BL", 3, 64, stride=2, ratio=0.25)
LAST = SuperBlock("XX", 1, 64)
SMALL = Structure((STEM, MIDDLE, LAST, HEAD), 32)


@pytest.mark.parametrize(
    ("arguments", "field", "message"),
    [
        (("Ghost",), "type", "unknown block type 'Ghost'; valid names are BL, Conv, DW, XX"),
        (("bl",), "type", "unknown block type 'bl'; did you mean BL?"),
        ((["XX"],), "type", "type must be a text, not ['XX']"),
        (("XX", 4), "kernel", "kernel must be odd, not 4"),
        (("XX", 17), "kernel", "kernel must be an integer from 1 to 15, not 17"),
        (("XX", 3.0), "kernel", "kernel must be an integer from 1 to 15, not 3.0"),
        (("XX", True), "kernel", "kernel must be an integer from 1 to 15, not True"),
        (("XX", 1 << 99_999), "kernel", "kernel must be an integer from 1 to 15, not a huge int"),
        (("XX", 3, 2), "ratio", "ratio of a XX block must be exactly 1, not 2"),
        (("BL", 3, 0), "ratio", "ratio of a BL block must be above 0 and at most 1, not 0"),
        (("BL", 3, 1.5), "ratio", "ratio of a BL block must be above 0 and at most 1, not 1.5"),
        (("DW", 3, 0.5), "ratio", "ratio of a DW block must be from 1 to 64, not 0.5"),
        (("DW", 3, 10**400), "ratio", "ratio of a DW block must be from 1 to 64, not 10000"),
        (("DW", 3, float("nan")), "ratio", "ratio of a DW block must be from 1 to 64, not nan"),
        (("DW", 3, "6"), "ratio", "ratio of a DW block must be from 1 to 64, not '6'"),
    ],
)
def test_block_rules(arguments, field, message):
    with pytest.raises(StructureError) as caught:
        Block(*arguments)
    assert str(caught.value).startswith(message)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("fields", "field", "message"),
    [
        ({"depth": 0}, "depth", "depth must be an integer from 1 to 1000, not 0"),
        ({"width": -8}, "width", "width must be an integer from 1 to 65536, not -8"),
        ({"width": 12}, "width", "width of a BL super-block must be a multiple of 8, not 12"),
        ({"stride": 3}, "stride", "stride must be an integer from 1 to 2, not 3"),
    ],
)
def test_super_block_rules(fields, field, message):
    with pytest.raises(StructureError) as caught:
        SuperBlock(**({"type": "BL", "depth": 1, "width": 64} | fields))
    assert str(caught.value) == message
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("stages", "resolution", "stage", "field", "message"),
    [
        ((STEM, MIDDLE, HEAD), 32, None, None, "a structure needs a stem, at least two super-blo"),
        (
            (MIDDLE, MIDDLE, MIDDLE, HEAD),
            32,
            1,
            "type",
            "the first stage must be the stem, a Conv of kern",
        ),
        (
            (STEM, MIDDLE, MIDDLE, MIDDLE),
            32,
            4,
            "type",
            "the last stage must be the head, a Conv of kernel",
        ),
        (
            (STEM, MIDDLE, MIDDLE, STEM),
            32,
            4,
            "kernel",
            "the last stage must be the head, a Conv of kernel",
        ),
        (
            (STEM, MIDDLE, HEAD, HEAD),
            32,
            3,
            "type",
            "stage 3 is a Conv; only the stem and the head",
        ),
        (
            (STEM, MIDDLE, LAST, HEAD),
            3,
            None,
            "resolution",
            "resolution must be at least 4, the product",
        ),
        (
            (STEM, MIDDLE, LAST, HEAD),
            0,
            None,
            "resolution",
            "resolution must be an integer from 1 to 8192",
        ),
        ((STEM, *[MIDDLE] * 20_000, HEAD), 32, None, "resolution", "resolution must be at least a"),
    ],
)
def test_structure_rules(stages, resolution, stage, field, message):
    with pytest.raises(StructureError) as caught:
        Structure(stages, resolution)
    assert str(caught.value).startswith(message)
    assert (caught.value.stage, caught.value.field) == (stage, field)


def test_integer_ratios_equal_float_ratios():
    assert SuperBlock("DW", 1, 64, ratio=3) == SuperBlock("DW", 1, 64, ratio=3.0)
    assert str(SuperBlock("DW", 1, 64, ratio=3).block) == "DW3r3"
    assert str(Block("XX", 5)) == "XX5"


@given(st.floats(0, 64, exclude_min=True))
def test_ratios_are_written_without_loss_and_without_an_exponent(ratio):
    text = format_ratio(ratio)
    assert float(text) == ratio
    assert set(text) <= set("0123456789.")


def test_shortest_ratio_text():
    assert [format_ratio(r) for r in (1, 0.25, 1e-5, 1 / 3)] == [
        "1",
        "0.25",
        "0.00001",
        "0.3333333333333333",
    ]


def test_parts_of_a_structure():
    assert (SMALL.stem, SMALL.super_blocks, SMALL.head) == (STEM, (MIDDLE, LAST), HEAD)
    assert SMALL.reduction == 4
    assert SMALL.with_resolution(64).resolution == 64


def test_stages_by_index():
    assert [SMALL.stage(index) for index in SMALL.indices] == [STEM, MIDDLE, LAST, HEAD]
    widths = [3, STEM.width, MIDDLE.width, LAST.width]
    assert [SMALL.input_width(index) for index in SMALL.indices] == widths
    names = ["stem", "super-block 1", "super-block 2", "head"]
    assert [SMALL.stage_name(index) for index in SMALL.indices] == names


def test_replacing_a_stage():
    other, narrow = SuperBlock("XX", 1, 48), SuperBlock("Conv", 1, 4, stride=2)
    assert SMALL.with_stage(0, other).stages == (STEM, other, LAST, HEAD)
    assert SMALL.with_stage(-1, narrow).stages == (narrow, MIDDLE, LAST, HEAD)
    for beyond in (-2, 3):
        with pytest.raises(ValueError, match="not in range"):
            SMALL.with_stage(beyond, other)


def test_scaling_widths():
    assert [s.width for s in SMALL.scale_width(0.3).stages] == [10, 16, 16, 38]
    assert [s.width for s in SMALL.scale_width(1e-9).stages] == [1, 8, 8, 1]
    assert SMALL.scale_width(1) == SMALL


def test_every_error_is_a_value_error_with_an_exit_status():
    assert StructureError("x", stage=2).exit_status == 2
    assert errors.InfeasibleBudgetError("x").exit_status == 3
    assert issubclass(errors.StudyError, errors.GenetsError)
    assert issubclass(errors.GenetsError, ValueError)


def test_unknown_names_show_the_nearest_in_their_own_spelling():
    few = errors.unknown_name("part", "steem", ["Stem", "Head"])
    assert few.endswith("did you mean Stem? Valid names are Head, Stem")
    assert errors.unknown_name("part", "steem", ["Stem"]).endswith("did you mean Stem?")
    many = errors.unknown_name("part", "?", map(str, range(20)))
    assert many.endswith("valid names are 0, 1, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, ...")
