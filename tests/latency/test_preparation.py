"""What preparing a latency table takes: distinct shapes, memory, and networks without kernels."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

from genets.latency import ENGINES, Target
from genets.latency.engines.base import Stopwatch
from genets.latency.engines.memory import Footprint
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
from genets.structure import BLOCK_TYPES, Block, DesignSpace, Structure, zoo
from genets.structure.cost import structure_convolutions
from stub_device import StubEngine

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
    assert len(items) < sum(counts.values()) < 4 * len(items)
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


@pytest.mark.parametrize(
    ("device", "engine", "precision", "weight", "value", "maps"),
    [
        ("cuda", "torch", "fp32", 4, 4, 3),  # convolutions copy their maps to channels last
        ("cuda", "torch", "fp16", 2, 2, 2),
        ("cuda", "torch-graph", "bf16", 2, 2, 2),
        ("cuda", "torch-compile", "fp16", 4, 2, 2),  # the compiled code copies the weights
        ("cuda", "onnxruntime", "fp16", 2, 2, 2),
        ("cpu", "torch", "fp32", 4, 4, 2),
        ("cpu", "torch", "bf16", 2, 2, 2),
        ("cpu", "onnxruntime", "fp32", 8, 4, 2),  # the model that `save` writes, in fp32
        ("cpu", "openvino", "bf16", 6, 2, 2),
        ("cpu", "openvino", "int8", 8, 4, 2),
    ],
)
def test_the_memory_estimate_follows_engine_precision_and_layout(
    device, engine, precision, weight, value, maps
) -> None:
    """weight, value: bytes. maps: the memory of a run, in copies of the largest layer's maps."""
    footprint = ENGINES[engine].footprint(Target(device, engine, precision))
    room = Room(10**9, footprint, num_classes=7)
    assert room.take(OverheadProbe(8, 4, 2), 5)
    assert room.held == weight * 2 * 8 + value * 5 * 8 * 16
    assert room.maps == maps * value * 5 * (2 * 8 * 16)
    room = Room(10**9, footprint, num_classes=7)
    assert room.take(StemOrHeadProbe("head", 8, 16, 4), 5)
    weights, largest = 8 * 16 + 16 * 7, 2 * 16 * 16  # the norm reads and writes most
    assert (room.held, room.maps) == (
        weight * weights + value * 5 * 8 * 16,
        maps * value * 5 * largest,
    )


class WeighingEngine(StubEngine):
    """Notes the bytes of the weights and inputs of what it prepares."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = self.inputs = 0

    def start(self, network: nn.Module, inputs: torch.Tensor, watch: Stopwatch, **options: bool):
        self.weights += sum(each.nbytes for each in network.parameters() if each.ndim > 1)
        self.inputs += inputs.nbytes
        return super().start(network, inputs, watch, **options)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_memory_estimate_is_that_of_the_prepared_tensors(precision: str) -> None:
    engine, target = WeighingEngine(), Target("cuda", precision=precision, batch_size=4)
    items = items_of()[::5]
    with engine.open(target):
        for item in items:
            prepare_item(engine, item, target, CLASSES)
    footprint = replace(engine.footprint(target), shares_inputs=False)
    room = Room(10**12, footprint, CLASSES)
    assert all(room.take(item, target.batch_size) for item in items)
    assert room.held == engine.weights + engine.inputs


def test_inputs_of_one_shape_count_once_where_items_share_them() -> None:
    footprint = Footprint(2, 2, shares_maps=True, shares_inputs=True)
    room = Room(10**9, footprint, num_classes=7)
    items = [(OverheadProbe(8, 4), 5), (OverheadProbe(8, 4, 3), 5), (OverheadProbe(8, 4), 6)]
    weights = inputs = 0
    for (item, batch_size), more in zip(items, (5, 0, 6), strict=True):
        assert room.take(item, batch_size)
        weights += item.length * 8
        inputs += more * 8 * 16
        assert room.held == 2 * weights + 2 * inputs


@pytest.mark.parametrize("gib", [78, 138])  # free on an idle H100 and H200
def test_the_table_of_genet_normal_fits_into_a_large_gpu_at_once(gib: int) -> None:
    target = Target("cuda", precision="fp16", batch_size=64)
    items = choose_items(DesignSpace(resolutions=()).around(zoo["genet_normal"]), 50, seed=401)
    room = Room(gib * 2**30 // 2, ENGINES[target.engine].footprint(target), 1000)
    assert all(room.take(item, target.batch_size) for item in items)
    assert len(items) > 600


@pytest.mark.parametrize(("shared", "fitting"), [(False, 1), (True, 3)])
def test_feature_maps_that_share_their_memory_count_once(shared: bool, fitting: int) -> None:
    footprint = Footprint(4, 4, shares_maps=shared)
    one = Room(0, footprint, num_classes=7)
    assert one.take(OverheadProbe(8, 4), 5), "the first item is always taken"
    room = Room(3 * one.held + one.maps, footprint, num_classes=7)
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
