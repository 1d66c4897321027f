"""Alternatives of other block types, against brute force."""

import itertools

import numpy as np
import pytest

from genets.nas.selection.alternatives import (
    allowed_types,
    block_types,
    frontier_without,
    products_without,
)
from genets.nas.selection.chain import ChainStage, totals
from genets.nas.selection.frontier import frontier
from genets.structure import Structure, SuperBlock

NAMES = ("XX", "BL", "DW")


def chain(rng, stages=3):
    """Random latencies and gains over all types and two widths, and a head."""
    chained, widths = [], (16,)
    for _ in range(stages):
        options = tuple(
            SuperBlock(name, 1, width, ratio={"BL": 0.5, "DW": 3}.get(name, 1))
            for name in NAMES
            for width in (8, 16)
        )
        shape = (len(widths), len(options))
        latency, gain = rng.uniform(0, 3, shape), rng.uniform(-2, 2, shape)
        chained.append(ChainStage(options, widths, latency, gain))
        widths = (8, 16)
    head = SuperBlock("Conv", 1, 64, kernel=1)
    return [*chained, ChainStage((head,), widths, np.ones((2, 1)), np.zeros((2, 1)))]


def types_at(stages, chosen):
    pairs = zip(stages, chosen, strict=True)
    return tuple(stage.options[option].type for stage, option in pairs)


@pytest.mark.parametrize("used_count", [0, 1, 2, 5, 26])
def test_products_contain_all_other_types_exactly_once(used_count):
    allowed = (frozenset(NAMES),) * 3
    every = list(itertools.product(NAMES, repeat=3))
    rng = np.random.default_rng(used_count)
    used = [every[n] for n in rng.permutation(len(every))[:used_count]]
    contained = [t for p in products_without(allowed, used) for t in itertools.product(*p)]
    assert sorted(contained) == sorted(set(every) - set(used))
    assert products_without(allowed, every) == []


@pytest.mark.parametrize("seed", range(10))
def test_successive_alternatives_equal_brute_force(seed):
    stages = chain(np.random.default_rng(seed))
    ranges = (range(len(stage.options)) for stage in stages)
    every = np.array(list(itertools.product(*ranges)), np.int32)
    latency, gain = totals(stages, every, 0.5)
    budget = float(np.quantile(latency, 0.4))
    best = {}
    for row, ms, value in zip(every, latency, gain, strict=True):
        if ms <= budget:
            types = types_at(stages, row)
            best[types] = max(best.get(types, -np.inf), value)
    expected = sorted(best.items(), key=lambda item: -item[1])[:6]
    used = []
    for types, value in expected:
        front = frontier_without(stages, used, lambda s: frontier(s, 0.5, max_latency_ms=budget))
        point = front.best(budget)
        assert types_at(stages, front.chosen[point]) == types
        assert front.gain[point] == pytest.approx(value)
        recomputed = totals(stages, front.chosen, 0.5)
        np.testing.assert_allclose(recomputed, (front.latency_ms, front.gain))
        used.append(types)


def test_block_types_of_structures_and_chains():
    structure = Structure.parse("Conv3x16s2 XX3x32*2 BL3x64s2r0.5*3 Conv1x64 @16")
    assert block_types(structure) == ("Conv", "XX", "BL", "Conv")
    expected = (*(frozenset(NAMES),) * 3, frozenset({"Conv"}))
    assert allowed_types(chain(np.random.default_rng(0))) == expected
