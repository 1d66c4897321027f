"""Counts, compared with closed forms."""

import pytest
import torch
from torch import nn

from genets.core.errors import GenetsError
from genets.networks import Count, build, count
from genets.structure import Structure, SuperBlock, zoo


def test_closed_form() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10),
    )  # fmt: skip
    expected = Count(3 * 8 * 9 + 16 + 8 * 10 + 10, 3 * 8 * 9 * 16 * 16 + 80)
    assert count(net, 32) == expected


def test_structure_and_network_agree_and_the_network_stays() -> None:
    structure = zoo["master_small"]
    net = build(structure).train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    assert count(net, structure.resolution) == count(structure)
    assert net.training
    assert all(v.equal(before[k]) for k, v in net.state_dict().items())
    assert all(p.device.type == "cpu" for p in net.parameters())


def test_blocks_by_hand() -> None:
    structure = Structure(
        (SuperBlock("Conv", 1, 8, 2), SuperBlock("XX", 1, 16, 2, 5),
         SuperBlock("DW", 1, 16, 1, 3, 3), SuperBlock("Conv", 1, 24, 1, 1)), 16,
    )  # fmt: skip
    stem = 3 * 8 * 9 * 8 * 8
    xx = (8 * 16 * 25 + 16 * 16 * 25 + 8 * 16) * 4 * 4
    dw = (16 * 48 + 48 * 9 + 48 * 16) * 4 * 4
    head = 16 * 24 * 4 * 4 + 24 * 1000
    assert count(structure).multiply_adds == stem + xx + dw + head


def test_resolution_scales_the_cost_but_not_the_size() -> None:
    structure = zoo["genet_light"]
    small, large = count(structure, 96), count(structure)
    assert small.parameters == large.parameters
    classifier = structure.head.width * 1000
    assert large.multiply_adds - classifier == 4 * (small.multiply_adds - classifier)


def test_one_channel_networks() -> None:
    assert count(build(zoo["master_small"], in_channels=1), 32).parameters > 0


def test_a_network_needs_a_resolution() -> None:
    with pytest.raises(GenetsError, match="needs a resolution in pixels, and none was given"):
        count(nn.Conv2d(3, 3, 1))


def test_counting_draws_no_random_numbers() -> None:
    state = torch.get_rng_state()
    count(zoo["master_small"])
    assert torch.get_rng_state().equal(state)
