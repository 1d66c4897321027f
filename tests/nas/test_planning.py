from collections import Counter

import pytest

from genets.nas.planning import plan_trials
from genets.structure import DesignSpace, SpaceAround, zoo

MASTER = zoo["master_small"]


@pytest.fixture
def around() -> SpaceAround:
    return DesignSpace(resolutions=()).around(MASTER)


def test_every_super_block_gets_its_trials_and_controls(around: SpaceAround) -> None:
    planned = plan_trials(around, 24, 3, seed=1)
    assert Counter(trial.index for trial in planned) == dict.fromkeys(range(4), 27)
    for index, own in enumerate(MASTER.super_blocks):
        controls = [t for t in planned if t.index == index and t.repeat < 3][:3]
        assert [t.super_block for t in controls] == [own] * 3
        assert all(t.is_control(MASTER) for t in controls)


def test_keys_are_distinct_and_inside_the_space(around: SpaceAround) -> None:
    planned = plan_trials(around, 200, 4, seed=0)
    assert len(set(planned)) == len(planned)
    for trial in planned:
        assert trial.super_block in around.choices(trial.index)


@pytest.mark.parametrize("trials", [12, 25, 30])
def test_blocks_depths_and_widths_are_balanced(around: SpaceAround, trials: int) -> None:
    planned = plan_trials(around, trials, 0, seed=3)
    for index in range(4):
        own = [t.super_block for t in planned if t.index == index]
        for values, drawn in (
            (around.blocks[index], [s.block for s in own]),
            (around.depths[index], [s.depth for s in own]),
            (around.widths[index], [s.width for s in own]),
        ):
            counts = Counter(drawn)
            assert max(counts.values()) - min(counts[value] for value in values) <= 1


def test_determined_by_the_seed(around: SpaceAround) -> None:
    assert plan_trials(around, 9, 1, seed=5) == plan_trials(around, 9, 1, seed=5)
    assert plan_trials(around, 9, 1, seed=5) != plan_trials(around, 9, 1, seed=6)
