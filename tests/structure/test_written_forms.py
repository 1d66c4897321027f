"""Both written forms convert without loss, and no text whatsoever breaks their readers."""

import random
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genets.core.errors import StructureError
from genets.structure import (
    Structure,
    SuperBlock,
    parse_super_block,
    zoo,
)

RATIOS = {
    "XX": st.just(1.0),
    "BL": st.floats(0, 1, exclude_min=True) | st.sampled_from([1 / 3, 0.25, 5e-324, 1]),
    "DW": st.floats(1, 64) | st.sampled_from([10 / 3, 6, 64]),
}


@st.composite
def super_blocks(draw: st.DrawFn) -> SuperBlock:
    block_type = draw(st.sampled_from(sorted(RATIOS)))
    return SuperBlock(
        block_type,
        depth=draw(st.integers(1, 1000)),
        width=8 * draw(st.integers(1, 8192)),
        stride=draw(st.integers(1, 2)),
        kernel=draw(st.sampled_from(range(1, 16, 2))),
        ratio=draw(RATIOS[block_type]),
    )


@st.composite
def structures(draw: st.DrawFn) -> Structure:
    widths = st.integers(1, 65536)
    stem = SuperBlock("Conv", 1, draw(widths), stride=2, kernel=3)
    head = SuperBlock("Conv", 1, draw(widths), stride=1, kernel=1)
    middle = draw(st.lists(super_blocks(), min_size=2, max_size=9))
    return Structure((stem, *middle, head), draw(st.integers(1024, 8192)))


@given(structures())
def test_conversions_lose_nothing(structure):
    assert Structure.parse(str(structure)) == structure
    assert Structure.parse_toml(structure.to_toml()) == structure
    through_both = Structure.parse_toml(Structure.parse(str(structure)).to_toml())
    assert through_both == structure
    assert str(through_both) == str(structure)
    assert through_both.to_toml() == structure.to_toml()


@given(super_blocks())
def test_single_stages_lose_nothing(super_block):
    assert parse_super_block(str(super_block)) == super_block


@given(st.text() | st.text(alphabet="ConvXBLDWsrx*@.0123456789 \n"))
def test_any_text_gives_a_structure_or_a_spot(text):
    read_or_point(Structure.parse, text)
    read_or_point(Structure.parse_toml, text)


def test_100_000_notations_give_a_structure_or_a_spot():
    originals = [str(structure) for structure in zoo.values()]
    pieces = [
        "@224",
        "@",
        "*2",
        "r0.25",
        "s2",
        "nan",
        "inf",
        "1e400",
        "-1",
        "\0",
        "\u0663",
        "9" * 30,
    ]
    pieces += [token for text in originals for token in text.split()]
    outcomes = Counter(
        read_or_point(Structure.parse, text)
        for text in garbled(originals, pieces, count=100_000, seed=0)
    )
    assert outcomes.total() == 100_000
    assert min(outcomes["structure"], outcomes["error"]) > 5_000


def test_5_000_toml_texts_give_a_structure_or_a_spot():
    originals = [structure.to_toml() for structure in zoo.values()]
    pieces = [
        "[[stage]]\n",
        "[stage]\n",
        "stage = 1\n",
        "=",
        "[[[",
        '"""',
        "nan",
        "1e400",
        "-",
        "\0",
    ]
    pieces += [
        "0x" + "f" * 4000,
        "9" * 4301,
        "1979-05-27",
        "true",
        '"BL"',
        "\n",
        "ratio = 3\n",
        "{}",
    ]
    outcomes = Counter(
        read_or_point(Structure.parse_toml, text)
        for text in garbled(originals, pieces, count=5_000, seed=1)
    )
    assert outcomes.total() == 5_000
    assert min(outcomes["structure"], outcomes["error"]) > 100


def read_or_point(parse: Callable[[str], Structure], text: str) -> str:
    try:
        structure = parse(text)
    except StructureError as error:
        if error.position is None or not 1 <= error.position <= max(1, len(text)):
            pytest.fail(f"{text!r} has its fault at {error.position}: {error}")
        return "error"
    except Exception as error:  # noqa: BLE001 - any other error is what the test looks for
        pytest.fail(f"{text!r} raised {error!r}")
    assert isinstance(structure, Structure)
    return "structure"


def garbled(originals: list[str], pieces: list[str], *, count: int, seed: int) -> Iterator[str]:
    """Texts of three kinds: loose pieces, loose characters, and originals with 1 to 3 edits."""
    rng = random.Random(seed)
    alphabet = "".join(sorted(set("".join(originals)))) + "@*.-+_#'\"\\\t\n\0\u00e9\u0663\U0001f600"
    for number in range(count):
        kind = number % 10
        if kind == 0:
            yield " ".join(rng.choices(pieces, k=rng.randrange(9)))
        elif kind == 1:
            yield "".join(rng.choices(alphabet, k=rng.randrange(40)))
        else:
            text = rng.choice(originals)
            for _ in range(rng.randrange(1, 4)):
                text = edited(text, rng, alphabet, pieces)
            yield text


def edited(text: str, rng: random.Random, alphabet: str, pieces: list[str]) -> str:
    """One edit: some characters are dropped, replaced, or joined by new ones."""
    start = rng.randrange(len(text) + 1)
    stop = start + rng.choice((0, 0, 1, 1, 1, 2, 5, 20))
    new = rng.choice(("", rng.choice(alphabet), rng.choice("0123456789"), rng.choice(pieces)))
    return text[:start] + new + text[stop:]
