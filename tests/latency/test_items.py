"""The whole networks of a latency table."""

import numpy as np
import pytest

from genets.latency.predictor.items import choose_items, sample_light
from genets.structure import Block, DesignSpace, SearchSpace, Structure, zoo
from genets.structure.cost import multiply_adds

SPACE = DesignSpace(resolutions=()).around(zoo["master_small"])


def structures_of(space: SearchSpace, count: int, **more: bool) -> list[Structure]:
    items = choose_items(space, count, seed=3, **more)
    return [item for item in items if isinstance(item, Structure)]


def test_light_structures_lie_between_the_lightest_and_the_masternet() -> None:
    light = sample_light(SPACE, np.random.default_rng(0), 10)
    assert len({*light}) == len(light) == 10
    sizes = [multiply_adds(structure) / multiply_adds(SPACE.master) for structure in light]
    assert min(sizes) < 0.15
    assert 0.4 < max(sizes) < 1


@pytest.mark.parametrize("lightest", [False, True])
def test_half_of_the_networks_are_light(lightest: bool) -> None:
    master, *structures = structures_of(SPACE, 40, lightest=lightest)
    assert master == SPACE.master
    assert len({*structures}) == 40
    sizes = np.array([multiply_adds(structure) for structure in structures])
    is_light = sizes < multiply_adds(SPACE.master)
    assert is_light.sum() >= 20
    # The first networks calibrate a table, and the others are held out.
    assert lightest or 5 <= is_light[:20].sum() <= 18


def test_a_small_space_has_few_networks() -> None:
    master = Structure.parse("Conv3x16s2 XX3x16 XX3x32s2 Conv1x64 @16")
    one = DesignSpace(blocks=(Block("XX"),), depth_change=0, width_range=(1, 1), resolutions=())
    assert structures_of(one.around(master), 40) == [master]
    few = DesignSpace(blocks=(Block("XX"),), depth_change=1, width_range=(1, 1), resolutions=())
    space = few.around(master)
    assert len(structures_of(space, 40)) == space.size
