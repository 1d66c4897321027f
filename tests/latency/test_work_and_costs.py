import itertools
from dataclasses import replace

import numpy as np
import pytest

from genets.core.errors import TargetError
from genets.latency.predictor.costs import Calibration, SuperBlockCosts, block_work
from genets.latency.predictor.probes import CHAIN_EXTRA, BlockProbe, coarse_grid
from genets.latency.predictor.work import WORK
from genets.structure import Block, SuperBlock
from genets.structure.cost import stage_multiply_adds

BLOCKS = (Block("XX"), Block("XX", 5), Block("BL", 3, 0.25), Block("BL", 5, 0.5), Block("DW", 5, 3))


@pytest.mark.parametrize("block", BLOCKS, ids=str)
@pytest.mark.parametrize(("stride", "resolution"), [(1, 16), (2, 16), (2, 7)])
def test_work_counts_the_multiply_adds(block: Block, stride: int, resolution: int) -> None:
    # Widths of whole tiles, so that depth-wise work, which is tiled, is exact as well.
    inputs = np.array([16, 32, 64])
    work = block_work(block, inputs, 64, stride, resolution)
    counted = sum(
        work[WORK.index(kind)] for kind in ("1x1", "kxk", "depth-wise", "depth-wise 5x5 and more")
    )
    super_block = SuperBlock(block.type, 1, 64, stride, block.kernel, block.ratio)
    expected = [stage_multiply_adds(super_block, int(c), resolution) / 1e6 for c in inputs]
    assert counted == pytest.approx(expected)


def test_work_of_one_width_is_that_of_many() -> None:
    widths = np.arange(8, 200, 8)
    many = block_work(BLOCKS[2], widths, 48, 1, 8)
    for column, width in enumerate(widths):
        assert np.array_equal(block_work(BLOCKS[2], width, 48, 1, 8), many[:, column])


def pieces(cost, stride: int = 2) -> dict[BlockProbe, float]:
    """Timed probes of one super-block; `cost(block, input width, width, stride, side)` in ms."""
    timed = {}
    for block, width, depth in itertools.product(BLOCKS, (16, 40, 64), (1, 1 + CHAIN_EXTRA)):
        ms = cost(block, 24, width, stride, 8) + (depth - 1) * cost(
            block, width, width, 1, 8 // stride
        )
        timed[BlockProbe(0, block, 24, width, stride, 8, depth)] = ms
    return timed


def work_cost(block, inputs, width, stride, side) -> float:
    price = np.array([1.0, 0, 0.7, 0, 0.4, 2, 1.5, 0.3, 0.1, 0.6, 0.1, 0.2, 0.03])
    return float(price @ block_work(block, inputs, width, stride, side))


def test_costs_in_proportion_to_work_are_recovered_at_every_width() -> None:
    costs = SuperBlockCosts.fit(pieces(work_cost))
    inputs = range(8, 72, 8)
    for block, width in itertools.product(BLOCKS, range(16, 72, 8)):
        first = [work_cost(block, c, width, 2, 8) for c in inputs]
        assert costs.first_ms(block, inputs, width) == pytest.approx(first, rel=1e-6)
        assert costs.rest_ms(block, width) == pytest.approx(
            work_cost(block, width, width, 1, 4), rel=1e-6
        )


def test_other_costs_are_met_at_the_timed_widths() -> None:
    def odd(block, inputs, width, stride, side) -> float:
        return float(width**1.5 * (1 + block.kernel) + inputs * stride)

    costs = SuperBlockCosts.fit(pieces(odd))
    for block, width in itertools.product(BLOCKS, (16, 40, 64)):
        assert costs.first_ms(block, [24], width) == pytest.approx(odd(block, 24, width, 2, 8))
        assert costs.rest_ms(block, width) == pytest.approx(odd(block, width, width, 1, 4))


def test_depth_adds_the_rest_and_a_stage_is_vectorised() -> None:
    costs = SuperBlockCosts.fit(pieces(work_cost))
    options = [
        SuperBlock(b.type, d, w, 2, b.kernel, b.ratio)
        for b, w, d in itertools.product(BLOCKS, (16, 24, 64), (1, 2, 5))
    ]
    inputs = [16, 24, 48]
    result = costs.stage_ms(inputs, options)
    assert result.shape == (3, len(options))
    for (row, width), (column, option) in itertools.product(enumerate(inputs), enumerate(options)):
        one = costs.stage_ms([width], [option])[0, 0]
        assert result[row, column] == one
        shallow = costs.stage_ms([width], [replace(option, depth=1)])[0, 0]
        rest = costs.rest_ms(option.block, option.width)
        assert one == pytest.approx(shallow + (option.depth - 1) * rest)


def test_stride_1_without_change_of_width_is_a_further_block() -> None:
    costs = SuperBlockCosts.fit(pieces(work_cost, stride=1))
    for block in BLOCKS:
        first = costs.first_ms(block, [32, 40], 40)
        assert first[1] == costs.rest_ms(block, 40)
        assert first[0] != first[1]


def test_falling_and_negative_costs_are_repaired() -> None:
    timed = pieces(work_cost)
    one = next(p for p in timed if p.width == 40 and p.depth == 1)
    timed[one] *= 3  # its chain now costs less than the block alone
    costs = SuperBlockCosts.fit(timed)
    rests = [costs.rest_ms(one.block, width) for width in (16, 40, 64)]
    firsts = [float(costs.first_ms(one.block, [24], width)[0]) for width in (16, 40, 64)]
    assert rests[0] > 0
    assert rests == pytest.approx(sorted(rests))
    assert firsts == pytest.approx(sorted(firsts))


def test_a_block_without_timings() -> None:
    with pytest.raises(TargetError, match="unknown block of the latency table 'XX7'; did you"):
        SuperBlockCosts.fit(pieces(work_cost)).rest_ms(Block("XX", 7), 16)


def test_coarse_grid_holds_the_ends_and_widths_of_whole_and_broken_tiles() -> None:
    assert coarse_grid((16, 24)) == (16, 24)
    assert coarse_grid((8, 24, 40)) == (8, 24, 40)
    assert coarse_grid(tuple(range(16, 72, 8))) in {(16, 24, 32, 56, 64), (16, 24, 48, 56, 64)}
    assert coarse_grid(tuple(range(48, 200, 8))) in {
        (48, 88, 112, 152, 192),
        (48, 88, 128, 152, 192),
    }
    assert coarse_grid((16, 32, 48, 64, 80, 96)) == (16, 32, 48, 80, 96)


def test_calibration_of_a_perfect_sum_changes_nothing() -> None:
    costs = np.random.default_rng(0).uniform(1, 9, size=(10, 4))
    result = Calibration.fit(costs, costs.sum(axis=1), [1.0] * 10)
    assert result.factors == pytest.approx(np.ones(4), abs=1e-12)
    assert result.offset_ms == pytest.approx(0, abs=1e-9)


def predicted(calibration: Calibration, costs: np.ndarray) -> np.ndarray:
    return costs @ calibration.factors + calibration.offset_ms


def test_calibration_finds_a_common_factor_and_an_offset() -> None:
    costs = np.random.default_rng(0).uniform(1, 20, size=(200, 4))
    result = Calibration.fit(costs, 1.3 * costs.sum(axis=1) + 2, [1.0] * 200)
    assert predicted(result, costs) == pytest.approx(1.3 * costs.sum(axis=1) + 2, rel=0.005)


def test_calibration_leans_towards_heavy_networks() -> None:
    costs = np.array([[1.0, 1.0], [1.0, 1.0]])
    light, heavy = (Calibration.fit(costs, np.array([2.0, 3.0]), [1, w]) for w in (1, 100))
    assert predicted(light, costs)[0] < predicted(heavy, costs)[0]


@pytest.mark.parametrize("seed", range(5))
def test_no_network_is_predicted_to_take_less_than_no_time(seed: int) -> None:
    """On a device so disturbed that only a large negative offset would fit."""
    costs = np.random.default_rng(seed).uniform(1, 20, size=(30, 4))
    total = costs.sum(axis=1)
    result = Calibration.fit(costs, 5 * total - 4.5 * total.min(), [1.0] * 30)
    least = costs.min(axis=0)
    assert result.offset_ms < 0
    assert predicted(result, least[None]) >= 0.5 * result.factors @ least - 1e-9
