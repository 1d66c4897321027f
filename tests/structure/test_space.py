"""The design space against a brute-force enumeration from its definition."""

import math
from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from genets.core.errors import StructureError
from genets.structure import Block, DesignSpace, Structure, SuperBlock, zoo

MASTER = Structure.parse("Conv3x8s2 XX3x24s2*2 DW3x16s2r3 Conv1x32 @32")
SPACES = [
    DesignSpace((Block("XX", 3), Block("BL", 5, 0.5)), (0.5, 2.0), 8, 1, (32, 48)),
    DesignSpace((Block("DW", 3, 3), Block("DW", 3, 6)), (0.28, 1.4), 16, 2, ()),
    DesignSpace((Block("BL", 3, 0.25),), (1.0, 1.0), 8, 0, (16,)),
    DesignSpace((Block("XX", 3),), (0.5, 1.0), 8, 0, (), (0.5, 3.0), (0.75, 1.5)),
]


def brute_force(space: DesignSpace, master: Structure) -> list[set[SuperBlock]]:
    """For each stage its choices, by trying every width and depth there is."""
    choices = []
    middle = [space.width_range] * len(master.super_blocks)
    ranges = [space.stem_width_range, *middle, space.head_width_range]
    for old, factors in zip(master.stages, ranges, strict=True):
        low, high = (Fraction(str(factor)) for factor in factors)
        fixed = old.type == "Conv"
        widths = [
            width
            for width in range(1, 200)
            if width == old.width
            or (width % space.width_step == 0 and low * old.width <= width <= high * old.width)
        ]
        change = 0 if fixed else space.depth_change
        depths = [d for d in range(1, 50) if abs(d - old.depth) <= change]
        blocks = {old.block} if fixed else {*space.blocks, old.block}
        choices.append(
            {
                SuperBlock(block.type, depth, width, old.stride, block.kernel, block.ratio)
                for block, width, depth in product(blocks, widths, depths)
            }
        )
    return choices


@pytest.mark.parametrize("space", SPACES)
def test_choices_and_size_equal_brute_force(space):
    around = space.around(MASTER)
    expected = brute_force(space, MASTER)
    for index, choices in zip(MASTER.indices, expected, strict=True):
        listed = around.choices(index)
        assert set(listed) == choices
        assert len(listed) == len(choices)
        assert MASTER.stage(index) in choices
    resolutions = {MASTER.resolution, *space.resolutions}
    assert around.size == math.prod(map(len, expected)) * len(resolutions)


@pytest.mark.parametrize("space", SPACES)
def test_samples_lie_in_the_space_and_reach_all_of_it(space):
    around = space.around(MASTER)
    rng = np.random.default_rng(0)
    samples = [around.sample(rng) for _ in range(3000)]
    for place, choices in enumerate(brute_force(space, MASTER)):
        assert {sample.stages[place] for sample in samples} == choices
    assert {sample.resolution for sample in samples} == set(around.resolutions)


def test_samples_are_uniform():
    around = SPACES[0].around(MASTER)
    rng = np.random.default_rng(1)
    drawn = [around.sample(rng).super_blocks[0] for _ in range(6000)]
    counts = np.array([drawn.count(choice) for choice in around.choices(0)])
    expected = 6000 / len(counts)
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert chi_square < len(counts) + 4 * (2 * len(counts)) ** 0.5


def test_equal_seeds_draw_equal_structures():
    around = DesignSpace().around(zoo["net1"])
    first, second = (np.random.default_rng(7) for _ in range(2))
    assert [around.sample(first) for _ in range(5)] == [around.sample(second) for _ in range(5)]


def test_a_width_at_the_very_edge_belongs_to_the_space():
    master = Structure.parse("Conv3x8s2 XX3x200 XX3x8 Conv1x32 @32")
    widths = DesignSpace(width_range=(0.28, 1.0)).around(master).widths[0]
    assert widths[0] == 56  # 0.28 * 200 is 56.00000000000001 in floating point
    assert widths[-1] == 200


def test_the_papers_space_around_its_masternet():
    around = DesignSpace().around(zoo["net1"])
    assert around.size >= 10**10
    assert around.resolutions == (192, 224, 256)
    assert [len(blocks) for blocks in around.blocks.values()] == [1, 12, 12, 12, 12, 12, 1]
    assert around.widths[0] == tuple(range(32, 129, 8))
    middle = [tuple(range(d - 2, d + 3)) for d in (4, 8, 4)]
    assert [*around.depths.values()] == [(1,), (1, 2, 3), *middle, (1, 2, 3, 4), (1,)]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"blocks": ()}, "blocks of a design space must be at least one, each named once"),
        ({"blocks": [Block("XX"), Block("XX")]}, "blocks of a design space must be at least one"),
        ({"blocks": [Block("Conv")]}, "blocks of a design space cannot be Conv"),
        ({"width_range": (1.5, 2)}, "width_range must hold two factors, one above 0 and at most 1"),
        ({"width_range": (0, 2)}, "width_range must hold two factors"),
        ({"width_range": (0.5, 65)}, "width_range must hold two factors"),
        ({"width_range": (0.5, 1, 2)}, "width_range must hold two factors"),
        ({"width_range": (float("nan"), 2)}, "width_range must hold two factors"),
        ({"width_range": "ab"}, "width_range must hold two factors"),
        ({"width_step": 12}, "width_step must be a multiple of 8, not 12"),
        ({"width_step": 0}, "width_step must be an integer from 8 to 65536, not 0"),
        ({"depth_change": -1}, "depth_change must be an integer from 0 to 100, not -1"),
        ({"resolutions": (32, 0)}, "resolution must be an integer from 1 to 8192, not 0"),
    ],
)
def test_bad_spaces(fields, message):
    with pytest.raises(StructureError) as caught:
        DesignSpace(**fields)
    assert str(caught.value).startswith(message)


def test_a_resolution_below_the_strides_is_refused_at_once():
    with pytest.raises(StructureError, match="resolution must be at least 8, the product of the"):
        DesignSpace(resolutions=(32, 4)).around(MASTER)
