"""What preparing a latency table takes: distinct shapes, memory, and networks without kernels."""

from itertools import pairwise
from pathlib import Path

import pytest

from genets.latency import Target
from genets.latency.engines.stub_device import StubEngine
from genets.latency.predictor.builder import prepare_item
from genets.latency.predictor.items import choose_items
from genets.latency.predictor.preparation import (
    SEARCHED,
    PreparingProgress,
    Room,
    new_shapes,
    preparing_weights,
)
from genets.latency.predictor.probes import BlockProbe, Item, OverheadProbe, StemOrHeadProbe
from genets.networks import count
from genets.networks.own_blocks import load_blocks
from genets.structure import BLOCK_TYPES, Block, DesignSpace, Structure
from genets.structure.cost import structure_convolutions

MASTER = Structure.parse("Conv3x16s2 XX3x16 BL3x32s2r0.5*2 DW3x32s2r3 Conv1x64 @32")
SPACE = DesignSpace(
    blocks=(Block("XX"), Block("BL", 3, 0.5), Block("DW", 5, 3)), width_step=16, resolutions=()
)
GPU = Target("cuda", precision="fp16", batch_size=4)
CLASSES = 5
OWN_BLOCKS = Path(__file__).parents[2] / "examples" / "uib_blocks.py"


def items_of(space: DesignSpace = SPACE) -> list[Item]:
    return choose_items(space.around(MASTER), 3, seed=0)


def prepare(items: list[Item]) -> StubEngine:
    engine = StubEngine()
    with engine.open(GPU):
        for item in items:
            prepare_item(engine, item, GPU, CLASSES)
    return engine


def test_the_shapes_that_are_counted_beforehand_are_those_that_run() -> None:
    items = items_of()[::3]
    counts = new_shapes((item, 4) for item in items)
    assert sum(counts.values()) == len(prepare(items).shapes)
    assert len(items) < sum(counts.values()) < 3 * len(items)
    for before, after in pairwise((items[:1], items[:2])):
        more = len(prepare(after).shapes) - len(prepare(before).shapes)
        assert counts[items[1]] == more


def test_the_shapes_of_own_blocks() -> None:
    before = dict(BLOCK_TYPES)
    file = load_blocks(OWN_BLOCKS)
    blocks = [Block(name, 3, (BLOCK_TYPES[name].allows_ratio(2.0) and 2.0) or 1.0)
              for name in file.types]  # fmt: skip
    assert set(BLOCK_TYPES) >= set(before)
    items: list[Item] = [BlockProbe(0, block, 16, 32, 2, 16, 3) for block in blocks]
    counts = new_shapes((item, 4) for item in items)
    assert sum(counts.values()) == len(prepare(items).shapes) > 0


def test_each_shape_counts_once_and_at_each_batch_size() -> None:
    probe, longer = OverheadProbe(16, 8, 1), OverheadProbe(16, 8, 3)
    assert new_shapes([(probe, 4), (longer, 4)]) == {probe: 1, longer: 0}
    assert new_shapes([(probe, 4), (longer, 8)]) == {probe: 1, longer: 1}
    sized = [(probe, 4), (longer, 4)]
    assert preparing_weights(sized, GPU) == {probe: 1 + SEARCHED, longer: 3}
    assert preparing_weights(sized, Target("cpu", threads=1)) == {probe: 1, longer: 3}


def test_convolutions_are_those_that_a_counter_sees() -> None:
    for structure in [item for item in items_of() if isinstance(item, Structure)]:
        total = sum(each.multiply_adds for each in structure_convolutions(structure))
        assert total + 1000 * structure.head.width == count(structure).multiply_adds


def test_the_memory_estimate_counts_weights_and_feature_maps() -> None:
    """Four bytes for a value; two copies of weights, the inputs, twice the largest layer."""
    room = Room(10**9, shared=False, num_classes=7)
    assert room.take(OverheadProbe(8, 4, 2), 5)
    assert (room.held, room.maps) == (4 * (2 * 2 * 8 + 5 * 8 * 16), 4 * 5 * 2 * (2 * 8 * 16))
    room = Room(10**9, shared=False, num_classes=7)
    assert room.take(StemOrHeadProbe("head", 8, 16, 4), 5)
    weights, largest = 8 * 16 + 16 * 7, 2 * 16 * 16  # the norm reads and writes most
    assert (room.held, room.maps) == (4 * (2 * weights + 5 * 8 * 16), 4 * 5 * 2 * largest)


@pytest.mark.parametrize(("shared", "fitting"), [(False, 1), (True, 3)])
def test_feature_maps_that_share_their_memory_count_once(shared: bool, fitting: int) -> None:
    one = Room(0, shared=shared, num_classes=7)
    assert one.take(OverheadProbe(8, 4), 5), "the first item is always taken"
    room = Room(3 * one.held + one.maps, shared=shared, num_classes=7)
    taken = [room.take(OverheadProbe(8, 4), 5) for _ in range(4)]
    assert taken.index(False) == fitting


def test_the_progress_is_that_of_the_weights_and_never_falls() -> None:
    shares: list[float] = []
    progress = PreparingProgress(shares.append, items=2, weight=100, limit_s=10.0)
    progress.update(0.0, 0.0)  # nothing is prepared, as where all items were timed before
    progress.prepared = 50
    progress.update(5.0, 0.0)
    assert shares[-1] == pytest.approx(5 / (5 + 5 + 10))
    progress.prepared, progress.timed = 100, 1.0
    progress.update(10.0, 4.0)
    assert shares[-1] == pytest.approx(14 / (14 + 4))
    progress.update(10.0, 0.0)
    assert shares == sorted(shares)
