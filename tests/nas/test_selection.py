"""The frontier of a chain, against brute force."""

import itertools
import math

import numpy as np
import pytest

from genets.nas.selection.chain import ChainStage
from genets.nas.selection.frontier import frontier, pareto, random_selection
from genets.structure import Structure, SuperBlock

ON_GRID = 64.0  # sums of multiples of 1/64 are exact, so ties are ties


def random_chain(rng, grid):
    """A small chain: random widths and costs, with many ties where costs lie on a grid."""

    def values(shape, low, high):
        numbers = rng.uniform(low, high, shape)
        return np.round(numbers * 8) * 8 / ON_GRID if grid else numbers

    stages, widths_in = [], (16,)
    for _ in range(rng.integers(1, 5)):
        widths = rng.choice([8, 16, 24, 32, 40], size=rng.integers(1, 4), replace=False)
        options = tuple(
            SuperBlock("XX", depth, int(width))
            for width in widths
            for depth in range(1, 1 + rng.integers(1, 4))
        )
        rows = tuple(sorted({*widths_in, 48}))[: len(widths_in) + rng.integers(0, 2)]
        rows = tuple(sorted({*rows, *widths_in})) if stages else (16,)
        shape = (len(rows), len(options))
        latency = values(shape, 0, 3)
        latency[rng.random(shape) < 0.1] = 0
        stages.append(ChainStage(options, rows, latency, values(shape, -2, 2)))
        widths_in = tuple(int(width) for width in widths)
    return stages


def brute_force(stages, offset_ms):
    """(latency, gain) of every structure, one by one."""
    totals = []
    for structure in itertools.product(*(range(len(stage.options)) for stage in stages)):
        latency, gain, width = offset_ms, 0.0, stages[0].input_widths[0]
        for stage, option in zip(stages, structure, strict=True):
            row = stage.input_widths.index(width)
            latency += stage.latency_ms[row, option]
            gain += stage.gain[row, option]
            width = stage.options[option].width
        totals.append((latency, gain))
    return np.array(totals)


def recompute(front, point, offset_ms):
    """(latency, gain) of a point of the frontier, added up stage by stage."""
    latency, gain, width = offset_ms, 0.0, front.stages[0].input_widths[0]
    for stage, option in zip(front.stages, front.choice(point), strict=True):
        row, column = stage.input_widths.index(width), stage.options.index(option)
        latency += stage.latency_ms[row, column]
        gain += stage.gain[row, column]
        width = option.width
    return latency, gain


@pytest.mark.parametrize("seed", range(200))
def test_equals_brute_force_at_every_budget(seed):
    rng = np.random.default_rng(seed)
    grid = seed % 2 == 0
    stages, offset = random_chain(rng, grid), 0.25
    front = frontier(stages, offset)
    every = brute_force(stages, offset)
    slack = 0 if grid else 1e-12
    for budget in np.unique(every[:, 0]):
        expected = every[every[:, 0] <= budget, 1].max()
        point = front.best(budget + slack)
        assert front.gain[point] == pytest.approx(expected, abs=slack)
        assert front.latency_ms[point] <= budget + slack
    assert (np.diff(front.latency_ms) > 0).all()
    assert (np.diff(front.gain) > 0).all()
    assert front.best(every[:, 0].min() - 1e-6) is None
    for point in range(len(front)):
        claimed = front.latency_ms[point], front.gain[point]
        assert recompute(front, point, offset) == claimed


@pytest.mark.parametrize("seed", range(0, 40, 2))
def test_a_maximum_latency_only_cuts_the_frontier(seed):
    stages = random_chain(np.random.default_rng(seed), grid=True)
    full = frontier(stages, 0.5)
    for limit in (*full.latency_ms, full.latency_ms[0] - 1, math.inf):
        cut = frontier(stages, 0.5, max_latency_ms=limit)
        count = max(1, np.count_nonzero(full.latency_ms <= limit))
        np.testing.assert_array_equal(cut.latency_ms, full.latency_ms[:count])
        np.testing.assert_array_equal(cut.gain, full.gain[:count])


def test_chunks_do_not_change_the_result(monkeypatch):
    stages = random_chain(np.random.default_rng(12), grid=True)
    full = frontier(stages)
    monkeypatch.setattr("genets.nas.selection.frontier.CHUNK", 3)
    in_parts = frontier(stages)
    np.testing.assert_array_equal(in_parts.latency_ms, full.latency_ms)
    np.testing.assert_array_equal(in_parts.gain, full.gain)


def two_stage_chain():
    options = (SuperBlock("XX", 1, 8), SuperBlock("XX", 2, 8), SuperBlock("XX", 1, 16))
    head = SuperBlock("Conv", 1, 64, kernel=1)
    first = ChainStage(options, (16,), np.array([[1.0, 2.0, 3.0]]), np.array([[0.0, 0.1, 0.3]]))
    last = ChainStage((head,), (8, 16), np.array([[0.5], [0.75]]), np.zeros((2, 1)))
    return [first, last]


def test_the_head_adds_the_latency_of_its_input_width():
    front = frontier(two_stage_chain(), offset_ms=1)
    np.testing.assert_array_equal(front.latency_ms, [2.5, 3.5, 4.75])
    np.testing.assert_array_equal(front.gain, [0, 0.1, 0.3])
    assert front.latency_ms[front.fastest] == 2.5
    assert (front.best(2.49), front.best(2.5), front.best(math.inf)) == (None, 0, 2)


def test_a_chain_from_stem_to_head_gives_structures():
    first, last = two_stage_chain()
    stem, extra = SuperBlock("Conv", 1, 16, 2), SuperBlock("XX", 1, 8)
    start = ChainStage((stem,), (3,), np.zeros((1, 1)), np.zeros((1, 1)))
    between = ChainStage((extra,), (8, 16), np.zeros((2, 1)), np.zeros((2, 1)))
    front = frontier([start, first, between, last])
    expected = Structure((stem, first.options[2], extra, last.options[0]), 32)
    assert front.structure(2, 32) == expected


def test_the_first_of_equal_structures_is_kept():
    options = (SuperBlock("XX", 1, 8), SuperBlock("XX", 2, 8))
    stage = ChainStage(options, (16,), np.ones((1, 2)), np.ones((1, 2)))
    assert frontier([stage]).choice(0) == (options[0],)
    np.testing.assert_array_equal(pareto(np.array([1, 1, 0.5, 1]), np.array([2, 3, 1, 3])), [2, 1])


def test_random_selection_never_beats_the_frontier_and_reaches_it_with_many_samples():
    stages = random_chain(np.random.default_rng(4), grid=True)
    best = frontier(stages, 0.25)
    budget = float(np.median(best.latency_ms))
    few = random_selection(stages, budget, 3, np.random.default_rng(0), 0.25)
    many = random_selection(stages, budget, 50_000, np.random.default_rng(0), 0.25)
    assert many.gain[-1] == best.gain[best.best(budget)]
    assert (few.latency_ms <= budget).all()
    for latency, gain in zip(few.latency_ms, few.gain, strict=True):
        assert gain <= best.gain[best.best(latency)]
    assert len(random_selection(stages, -1, 10, np.random.default_rng(0))) == 0
