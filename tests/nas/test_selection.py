import itertools
import math

import numpy as np
import pytest

from genets.core.errors import GenetsError
from genets.nas.selection.chain import ChainStage, pareto
from genets.nas.selection.frontier import frontier, random_selection
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
    """(latency, accuracy) of every structure, one by one."""
    found = []
    for structure in itertools.product(*(range(len(stage.options)) for stage in stages)):
        latency, accuracy, width = offset_ms, 0.0, stages[0].input_widths[0]
        for stage, option in zip(stages, structure, strict=True):
            row = stage.input_widths.index(width)
            latency += stage.latency_ms[row, option]
            accuracy += stage.accuracy[row, option]
            width = stage.options[option].width
        found.append((latency, accuracy))
    return np.array(found)


def recompute(frontier, point, offset_ms):
    latency, accuracy, width = offset_ms, 0.0, frontier.stages[0].input_widths[0]
    for stage, option in zip(frontier.stages, frontier.choice(point), strict=True):
        row, column = stage.input_widths.index(width), stage.options.index(option)
        latency += stage.latency_ms[row, column]
        accuracy += stage.accuracy[row, column]
        width = option.width
    return latency, accuracy


@pytest.mark.parametrize("seed", range(200))
def test_equals_brute_force_at_every_budget(seed):
    rng = np.random.default_rng(seed)
    grid = seed % 2 == 0
    stages, offset = random_chain(rng, grid), 0.25
    found = frontier(stages, offset)
    every = brute_force(stages, offset)
    slack = 0 if grid else 1e-12
    for budget in np.unique(every[:, 0]):
        expected = every[every[:, 0] <= budget, 1].max()
        point = found.best(budget + slack)
        assert found.accuracy[point] == pytest.approx(expected, abs=slack)
        assert found.latency_ms[point] <= budget + slack
    assert (np.diff(found.latency_ms) > 0).all()
    assert (np.diff(found.accuracy) > 0).all()
    assert found.best(every[:, 0].min() - 1e-6) is None
    for point in range(len(found)):
        claimed = found.latency_ms[point], found.accuracy[point]
        assert recompute(found, point, offset) == claimed


@pytest.mark.parametrize("seed", range(0, 40, 2))
def test_a_largest_latency_cuts_the_frontier_and_nothing_else(seed):
    stages = random_chain(np.random.default_rng(seed), grid=True)
    whole = frontier(stages, 0.5)
    for limit in (*whole.latency_ms, whole.latency_ms[0] - 1, math.inf):
        cut = frontier(stages, 0.5, max_latency_ms=limit)
        kept = max(1, np.count_nonzero(whole.latency_ms <= limit))
        np.testing.assert_array_equal(cut.latency_ms, whole.latency_ms[:kept])
        np.testing.assert_array_equal(cut.accuracy, whole.accuracy[:kept])


def test_chunks_do_not_change_the_result(monkeypatch):
    stages = random_chain(np.random.default_rng(12), grid=True)
    whole = frontier(stages)
    monkeypatch.setattr("genets.nas.selection.frontier.CHUNK", 3)
    in_parts = frontier(stages)
    np.testing.assert_array_equal(in_parts.latency_ms, whole.latency_ms)
    np.testing.assert_array_equal(in_parts.accuracy, whole.accuracy)


def two_stage_chain():
    options = (SuperBlock("XX", 1, 8), SuperBlock("XX", 2, 8), SuperBlock("XX", 1, 16))
    head = SuperBlock("Conv", 1, 64, kernel=1)
    first = ChainStage(options, (16,), np.array([[1.0, 2.0, 3.0]]), np.array([[0.0, 0.1, 0.3]]))
    last = ChainStage((head,), (8, 16), np.array([[0.5], [0.75]]), np.zeros((2, 1)))
    return [first, last]


def test_a_last_stage_of_one_option_adds_the_cost_of_the_last_width():
    found = frontier(two_stage_chain(), offset_ms=1)
    np.testing.assert_array_equal(found.latency_ms, [2.5, 3.5, 4.75])
    np.testing.assert_array_equal(found.accuracy, [0, 0.1, 0.3])
    assert found.latency_ms[found.fastest] == 2.5
    assert (found.best(2.49), found.best(2.5), found.best(math.inf)) == (None, 0, 2)
    assert found.top(4, 5) == (1, 0)
    assert found.top(100, 2) == (2, 1)
    assert found.top(1, 2) == ()


def test_a_chain_from_the_stem_to_the_head_gives_structures():
    first, last = two_stage_chain()
    stem, more = SuperBlock("Conv", 1, 16, 2), SuperBlock("XX", 1, 8)
    start = ChainStage((stem,), (3,), np.zeros((1, 1)), np.zeros((1, 1)))
    between = ChainStage((more,), (8, 16), np.zeros((2, 1)), np.zeros((2, 1)))
    found = frontier([start, first, between, last])
    expected = Structure((stem, first.options[2], more, last.options[0]), 32)
    assert found.structure(2, 32) == expected


def test_of_equal_structures_the_first_is_kept():
    options = (SuperBlock("XX", 1, 8), SuperBlock("XX", 2, 8))
    stage = ChainStage(options, (16,), np.ones((1, 2)), np.ones((1, 2)))
    assert frontier([stage]).choice(0) == (options[0],)
    np.testing.assert_array_equal(pareto(np.array([1, 1, 0.5, 1]), np.array([2, 3, 1, 3])), [2, 1])


def test_random_selection_never_beats_the_frontier_and_finds_it_in_the_end():
    stages = random_chain(np.random.default_rng(4), grid=True)
    best = frontier(stages, 0.25)
    budget = float(np.median(best.latency_ms))
    few = random_selection(stages, budget, 3, np.random.default_rng(0), 0.25)
    many = random_selection(stages, budget, 50_000, np.random.default_rng(0), 0.25)
    assert many.accuracy[-1] == best.accuracy[best.best(budget)]
    assert (few.latency_ms <= budget).all()
    for latency, accuracy in zip(few.latency_ms, few.accuracy, strict=True):
        assert accuracy <= best.accuracy[best.best(latency)]
    assert len(random_selection(stages, -1, 10, np.random.default_rng(0))) == 0


def test_chains_that_do_not_fit_are_refused():
    first, last = two_stage_chain()
    with pytest.raises(GenetsError, match="at least one stage"):
        frontier([])
    with pytest.raises(GenetsError, match="exactly one input width, that of images, not 2"):
        frontier([last])
    narrow = ChainStage(last.options, (8,), np.zeros((1, 1)), np.zeros((1, 1)))
    with pytest.raises(GenetsError, match=r"stage 2 must have every width .* 16 is missing"):
        frontier([first, narrow])
    with pytest.raises(GenetsError, match=r"latency_ms .* shape \(1, 1\) .* 1 that are not finite"):
        ChainStage(last.options, (8,), np.array([[math.nan]]), np.zeros((1, 1)))
    with pytest.raises(GenetsError, match=r"accuracy .* not an array of shape \(2, 1\)"):
        ChainStage(last.options, (8,), np.zeros((1, 1)), np.zeros((2, 1)))
    with pytest.raises(GenetsError, match="distinct input widths"):
        ChainStage((), (8,), np.zeros((1, 0)), np.zeros((1, 0)))
    with pytest.raises(GenetsError, match="offset_ms must be finite"):
        frontier([first, last], math.nan)
    with pytest.raises(GenetsError, match="not NaN"):
        frontier([first, last]).best(math.nan)
    with pytest.raises(GenetsError, match="samples must be at least 1, not 0"):
        random_selection([first, last], 1, 0, np.random.default_rng(0))
