"""The TOML form: what it accepts, and where it points when it does not."""

import pytest

from genets.core.errors import StructureError
from genets.structure import Structure, zoo

STRUCTURE = Structure.parse("Conv3x32s2 BL5x64s2r0.3*2 XX3x32 Conv1x96 @64")
TEXT = """\
resolution = 64

[[stage]]
type = "Conv"
depth = 1
width = 32
stride = 2
kernel = 3
ratio = 1

[[stage]]
type = "BL"
depth = 2
width = 64
stride = 2
kernel = 5
ratio = 0.3

[[stage]]
type = "XX"
depth = 1
width = 32
stride = 1
kernel = 3
ratio = 1

[[stage]]
type = "Conv"
depth = 1
width = 96
stride = 1
kernel = 1
ratio = 1
"""


def test_every_field_is_spelled_out():
    assert STRUCTURE.to_toml() == TEXT
    assert Structure.parse_toml(TEXT) == STRUCTURE


@pytest.mark.parametrize(
    "text",
    [
        TEXT.replace("stride = 1\n", "").replace("ratio = 1\n", "").replace("kernel = 3\n", ""),
        TEXT.replace("\n", "\r\n"),
        TEXT.replace("resolution", "# a comment\n'resolution'"),
    ],
)
def test_defaults_may_be_missing_and_any_toml_will_do(text):
    assert Structure.parse_toml(text) == STRUCTURE


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("resolution = 64\n", "", 1, "resolution is missing"),
        ("resolution", "resolutoin", 1, "unknown key 'resolutoin'; did you mean resolution?"),
        ("resolution = 64", "resolution = 3", 1, "resolution must be at least 4, the product of"),
        ("resolution = 64", "resolution = 6.4", 1, "resolution must be an integer from 1 to 8192"),
        (TEXT, "resolution = 64", 1, "stage is missing"),
        (TEXT, "resolution = 64\nstage = 3", 2, "stage must be written as tables [[stage]], one"),
        (TEXT, "resolution = 64\nstage = [{}]", 2, "stage 1: type is missing"),
        (TEXT, "resolution = 64\nstage = []", 2, "a structure needs a stem, at least two super-bl"),
        ('"BL"', '"B"', 12, "stage 2: unknown block type 'B'; did you mean BL?"),
        ('"BL"', '["BL"]', 12, "stage 2: type must be a text, not ['BL']"),
        ('"BL"', '"Conv"', 17, "stage 2: ratio of a Conv block must be exactly 1"),
        ("width = 64\n", "", 11, "stage 2: width is missing"),
        ("depth = 2\n", "", 11, "stage 2: depth is missing"),
        ("kernel = 5", "kernal = 5", 16, "stage 2: unknown field 'kernal'; did you mean kernel?"),
        ("kernel = 5", "kernel = 4", 16, "stage 2: kernel must be odd, not 4"),
        ("kernel = 5", "kernel = true", 16, "stage 2: kernel must be an integer from 1 to 15, not"),
        ("kernel = 5", "kernel" + ".a" * 1500 + " = 1", 11, "stage 2: kernel must be an integer"),
        ("kernel = 5", f"kernel = {'9' * 5000}", 16, "an integer is too long"),
        ("kernel = 5", f"kernel = 0x{'f' * 5000}", 16, "stage 2: kernel must be an integer from 1"),
        ("0.3", "nan", 17, "stage 2: ratio of a BL block must be above 0 and at most 1, not nan"),
        ("0.3", "1e400", 17, "stage 2: ratio of a BL block must be above 0 and at most 1, not inf"),
        ("0.3", "-0.3", 17, "stage 2: ratio of a BL block must be above 0 and at most 1, not -0.3"),
        ("kernel = 1", "kernel = 3", 32, "the last stage must be the head, a Conv of kernel 1"),
        ("0.3", "", 17, "this is not TOML: invalid value"),
        ("0.3", "\0", 17, "this is not TOML: invalid value"),
        ("resolution = 64", "[" * 100_000, 1, "this is not TOML: "),
        ("resolution = 64", "a = " + "[" * 100_000, 1, "the TOML is nested too deeply"),
        (TEXT, "a =", 1, "this is not TOML: invalid value (at end of document)"),
    ],
)
def test_faults_name_line_stage_and_field(old, new, line, message):
    text = TEXT.replace(old, new, 1)
    with pytest.raises(StructureError) as caught:
        Structure.parse_toml(text)
    error = caught.value
    assert str(error).startswith(f"line {line}: {message}")
    assert text.count("\n", 0, error.position - 1) + 1 == line
    assert len(str(error)) < 300


def test_files(tmp_path):
    path = tmp_path / "large.toml"
    zoo["genet_large"].save(path)
    assert Structure.load(path) == Structure.load(str(path)) == zoo["genet_large"]
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())  # as Windows editors write it
    assert Structure.load(path) == zoo["genet_large"]


def test_faulty_files_are_named(tmp_path):
    def fault(data: bytes) -> str:
        path = tmp_path / "my.toml"
        path.write_bytes(data)
        with pytest.raises(StructureError) as caught:
            Structure.load(path)
        return str(caught.value).replace(str(path), "FILE")

    wrong = TEXT.replace("kernel = 5", "kernel = 4").encode()
    assert fault(wrong) == "FILE, line 16: stage 2: kernel must be odd, not 4"
    assert fault(b"a = 1\n\xff\xfe") == "FILE, line 2: this is not UTF-8 text"
    assert fault(b"") == "FILE, line 1: resolution is missing"
    assert fault(b"\x7fELF\x02\0\0\0").startswith("FILE, line 1: this is not TOML: invalid")
    assert fault(b"#" * (1 << 20) + b"#").startswith("FILE is not a structure file: it is larger")


def test_unreadable_files(tmp_path):
    with pytest.raises(
        StructureError, match=r"cannot read .*nope.toml': No such file or directory"
    ):
        Structure.load(tmp_path / "nope.toml")
    with pytest.raises(StructureError, match=r"cannot read structure file .*: Is a directory"):
        Structure.load(tmp_path)
    with pytest.raises(StructureError, match=r"cannot read structure file .*: embedded null byte"):
        Structure.load("a\0b")
