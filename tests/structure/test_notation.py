"""The one-line notation: what it accepts, and where it points when it does not."""

import pytest

from genets.core.errors import StructureError
from genets.structure import (
    Structure,
    SuperBlock,
    parse_super_block,
)

EXAMPLE = (
    "Conv3x32s2 XX3x128s2 XX3x192s2*2 BL3x640s2r0.25*6 DW3x640s2r3*5 DW3x640r3*4 Conv1x2560 @256"
)


def test_the_example_of_the_design():
    structure = Structure.parse(EXAMPLE)
    assert structure.resolution == 256
    assert structure.stages[3] == SuperBlock("BL", 6, 640, stride=2, kernel=3, ratio=0.25)
    assert structure.stages[-1] == SuperBlock("Conv", 1, 2560, kernel=1)
    assert str(structure) == str(structure) == EXAMPLE


@pytest.mark.parametrize(
    "text",
    [
        EXAMPLE.replace(" ", "  \t\r\n "),
        f"\n {EXAMPLE} \n",
        EXAMPLE.replace("DW3x640r3*4", "DW3x640s1r3.0*4"),
        EXAMPLE.replace("XX3x128s2", "XX3x128s2r1*1"),
    ],
)
def test_more_white_space_and_fields_of_one_are_read_too(text):
    assert Structure.parse(text) == Structure.parse(EXAMPLE)


def test_one_stage_alone():
    super_block = SuperBlock("BL", 6, 640, stride=2, ratio=0.25)
    assert str(super_block) == "BL3x640s2r0.25*6"
    assert parse_super_block(" BL3x640s2r0.25*6 ") == super_block


@pytest.mark.parametrize("text", ["", "XX3x64 XX3x64", EXAMPLE])
def test_one_stage_must_be_one(text):
    with pytest.raises(StructureError, match="the text must hold one stage, not "):
        parse_super_block(text)


WRONG_STAGES = [
    # stage, field, character counted from the start of the stage, message
    ("Xx3x64", "type", 1, "unknown block type 'Xx'; did you mean XX?"),
    ("Conf3x64", "type", 1, "unknown block type 'Conf'; did you mean Conv?"),
    ("3x64", "type", 1, "a stage must begin with a block type (Conv, XX, BL, DW)"),
    ("@64", "type", 1, "@<resolution> must appear once, after the last stage"),
    ("Conv3x64", "type", 1, "stage 2 is a Conv; only the stem and the head may be"),
    ("XXx64", "kernel", 3, "kernel must be a whole number, not 'x64'"),
    ("XX4x64", "kernel", 3, "kernel must be odd, not 4"),
    ("XX", "kernel", 2, "kernel must be a whole number, not the end of the stage"),
    ("XX\u0663x64", "kernel", 3, "kernel must be a whole number, not '\u0663x64'"),
    ("XX3", "width", 3, "x and the width must follow the kernel 3"),
    ("XX3X64", "width", 4, "x and the width must follow the kernel 3"),
    ("XX3x", "width", 4, "width must be a whole number, not the end of the stage"),
    ("XX3x-8", "width", 5, "width must be a whole number, not '-8'"),
    ("XX3x\0", "width", 5, r"width must be a whole number, not '\x00'"),
    ("XX3x60", "width", 5, "width of a XX super-block must be a multiple of 8, not 60"),
    ("XX3x99999999", "width", 5, "width must be an integer from 1 to 65536, not 99999999"),
    ("XX3x" + "9" * 5000, "width", 5, "width has 5000 digits, far more than is allowed"),
    ("XX3x64s3", "stride", 8, "stride must be an integer from 1 to 2, not 3"),
    ("XX3x64s", "stride", 7, "stride must be a whole number, not the end of the stage"),
    ("XX3x64*2s2", "stride", 9, "'s2' cannot be read; after the width, s<stride>"),
    ("XX3x64s2s2", "stride", 9, "'s2' cannot be read; after the width, s<stride>"),
    ("XX3x64r2", "ratio", 8, "ratio of a XX block must be exactly 1, not 2.0"),
    ("BL3x64r0.25r1", "ratio", 12, "'r1' cannot be read; after the width, s<stride>"),
    ("BL3x64r.5", "ratio", 8, "ratio must be a decimal number such as 0.25, not '.5'"),
    ("BL3x64rnan", "ratio", 8, "ratio must be a decimal number such as 0.25, not 'nan'"),
    ("BL3x64r1e400", None, 9, "'e400' cannot be read"),
    ("BL3x64r0." + "0" * 400 + "1", "ratio", 8, "ratio of a BL block must be above 0 and at most"),
    ("DW3x64r" + "9" * 400, "ratio", 8, "ratio of a DW block must be from 1 to 64, not inf"),
    ("XX3x64*0", "depth", 8, "depth must be an integer from 1 to 1000, not 0"),
    ("XX3x64*1.5", None, 9, "'.5' cannot be read"),
    ("XX3x64@64", None, 7, "'@64' cannot be read; after the width, s<stride>"),
    ("XX3x64;import os", None, 7, "';import' cannot be read"),
    ("XX3x64\u00a0XX3x64", None, 7, r"'\xa0XX3x64' cannot be read"),
]


@pytest.mark.parametrize(("stage", "field", "character", "message"), WRONG_STAGES)
def test_faults_of_a_stage_name_stage_field_and_spot(stage, field, character, message):
    with pytest.raises(StructureError) as caught:
        Structure.parse(f"Conv3x32s2 {stage} XX3x8 Conv1x64 @64")
    error = caught.value
    position = len("Conv3x32s2 ") + character
    assert (error.stage, error.field, error.position) == (2, field, position)
    assert str(error).startswith("stage 2 ")
    assert f", character {position}: {message}" in str(error)
    assert len(str(error)) < 300
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("text", "position", "message"),
    [
        ("", 1, "the notation of a structure is empty"),
        (" \n", 1, "the notation of a structure is empty"),
        (
            "@224",
            1,
            "a structure needs a stem, at least two super-blocks and a head, not 0 stages",
        ),
        ("Conv3x8s2 Conv1x8 @64", 19, "at least two super-blocks and a head, not 2 stages"),
        ("Conv3x8s2 XX3x8 Conv1x8 @64", 25, "at least two super-blocks and a head, not 3 stages"),
        ("Conv3x8s2 XX3x8 Conv1x8", 23, "must end with @<resolution>, such as @224, not with 'Con"),
        (
            "Conv3x8s2 XX3x8 Conv1x8 @",
            25,
            "@ must be followed by the resolution, a whole number of",
        ),
        (
            "Conv3x8s2 XX3x8 Conv1x8 @6 4",
            25,
            "@<resolution> must appear once, after the last stage",
        ),
        ("Conv3x8s2 XX3x8 Conv1x8 @6x", 25, "a whole number of pixels, not by '6x'"),
        (
            "Conv3x8s2 XX3x8 XX3x8 Conv1x8 @0",
            31,
            "resolution must be an integer from 1 to 8192, not 0",
        ),
        ("Conv3x8s2 XX3x8 Conv1x8 @" + "9" * 5000, 25, "a whole number of pixels, not by '999"),
        (
            "Conv3x8s2 XX3x8s2 XX3x8 Conv1x8 @3",
            33,
            "resolution must be at least 4, the product of the",
        ),
        (
            "Conv3x8 XX3x8 XX3x8 Conv1x8 @64",
            1,
            "the first stage must be the stem, a Conv of kernel 3",
        ),
        ("Conv3x8s2 XX3x8 XX3x8 Conv3x8 @64", 27, "the last stage must be the head, a Conv of"),
    ],
)
def test_faults_of_the_whole(text, position, message):
    with pytest.raises(StructureError) as caught:
        Structure.parse(text)
    assert message in str(caught.value)
    assert caught.value.position == position
