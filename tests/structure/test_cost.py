import numpy as np
import pytest
import torch
from torch import nn

from genets.networks import Count, build, count
from genets.structure import DesignSpace, Structure, zoo
from genets.structure.cost import (
    kernel_weights,
    middle_width,
    multiply_adds,
    output_resolution,
    parameters,
    stage_multiply_adds,
)
from genets.structure.structure import SuperBlock

MASTER = Structure.parse("Conv3x16s2 XX3x24 XX3x32s2*2 BL3x96s2r0.25*3 DW3x64s2r3*2 Conv1x128 @33")


def closed_form(structure):
    """With a classifier of 1000 classes."""
    return Count(parameters(structure, 1000), multiply_adds(structure, 1000))


@pytest.mark.parametrize("seed", range(8))
def test_equals_the_count_of_the_built_network(seed):
    space = DesignSpace(resolutions=(32, 33, 47, 64)).around(MASTER)
    structure = space.sample(np.random.default_rng(seed))
    assert closed_form(structure) == count(structure)


def test_equals_the_count_without_strides():
    structure = Structure.parse("Conv3x16s2 XX5x16*2 BL3x16r0.5*2 DW5x16r6 DW3x24r9*3 Conv1x32 @20")
    assert closed_form(structure) == count(structure)


@pytest.mark.parametrize("name", zoo)
def test_parameters_of_the_zoo_are_those_of_the_built_networks(name):
    """`genets zoo` prints them. The multiply-adds of whole zoo networks take a second each."""
    with torch.device("meta"):
        network = build(zoo[name])
    assert parameters(zoo[name], 1000) == sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("seed", range(4))
def test_weights_equal_those_of_the_convolutions_of_the_built_network(seed):
    structure = DesignSpace(resolutions=()).around(MASTER).sample(np.random.default_rng(seed))
    convolutions = [m for m in build(structure, 5).modules() if isinstance(m, nn.Conv2d)]
    assert kernel_weights(structure) == sum(conv.weight.numel() for conv in convolutions)


def test_by_hand():
    # 8 x 8 pixels in, 4 x 4 out; a projection, a 3x3 from 16 to 32 channels, one from 32 to 32.
    stage = SuperBlock("XX", 1, 32, 2)
    assert stage_multiply_adds(stage, 16, 8) == 16 * (16 * 32 + 9 * 16 * 32 + 9 * 32 * 32)
    assert output_resolution(stage, 7) == 4


def test_middle_width_is_rounded_as_timm_does():
    assert middle_width(SuperBlock("BL", 1, 640, ratio=0.25)) == 160
    assert middle_width(SuperBlock("BL", 1, 8, ratio=0.25)) == 8
    assert middle_width(SuperBlock("BL", 1, 72, ratio=0.25)) == 24  # 16 is below 0.9 * 18
