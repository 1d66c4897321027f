import itertools

import numpy as np
import pytest

from genets.latency.predictor.builder import find_contradictions
from genets.latency.predictor.probes import CHAIN_EXTRA, BlockProbe, StemOrHeadProbe
from genets.latency.timing.drift import REPEAT_ROUNDS, TimeEstimate, time_in_rounds
from genets.structure import Block, Structure

LONG = 1 + CHAIN_EXTRA


def block_probe(width: int, depth: int = 1, reads: int = 16) -> BlockProbe:
    return BlockProbe(1, Block("XX"), reads, width, 2, 8, depth)


def grid() -> dict:
    """Times in proportion to width and depth; errors of 1 %."""
    widths, depths = (16, 32, 64), (1, LONG)
    timed = {
        block_probe(w, d): TimeEstimate(w * (1 + d) * 1e-6, 0.01)
        for w, d in itertools.product(widths, depths)
    }
    timed |= {
        StemOrHeadProbe("head", r, w, 2): TimeEstimate(r * w * 1e-6, 0.01)
        for r in widths
        for w in (8, 16)
    }
    return timed


def test_rising_times_are_no_contradiction() -> None:
    assert find_contradictions(grid()) == []


@pytest.mark.parametrize(
    ("slow", "fast"),
    [
        (block_probe(16), block_probe(32)),
        (block_probe(32, LONG), block_probe(64, LONG)),
        (block_probe(32, 1), block_probe(32, LONG)),
        (StemOrHeadProbe("head", 32, 8, 2), StemOrHeadProbe("head", 64, 8, 2)),
        (StemOrHeadProbe("head", 32, 8, 2), StemOrHeadProbe("head", 32, 16, 2)),
    ],
    ids=str,
)
def test_a_narrower_or_shallower_piece_that_is_slower(slow, fast) -> None:
    timed = grid()
    for share, expected in ((1.02, set()), (1.04, {slow, fast})):
        timed[slow] = TimeEstimate(timed[fast].seconds * share, 0.01)
        result = find_contradictions({slow: timed[slow], fast: timed[fast]})
        assert set(result) == expected
    assert {slow, fast} <= set(find_contradictions(timed))


def test_pieces_that_read_more_and_whole_networks_are_not_compared() -> None:
    timed = {
        block_probe(16, reads=32): TimeEstimate(9.0, 0.01),
        block_probe(32, reads=16): TimeEstimate(1.0, 0.01),
    }
    assert find_contradictions(timed) == []
    structure = Structure.parse("Conv3x16s2 XX3x16 BL3x32s2r0.5*2 Conv1x64 @16")
    assert (
        find_contradictions(
            {structure: TimeEstimate(1.0, 0.01), block_probe(16): TimeEstimate(9.0, 0.01)}
        )
        == []
    )


def test_contradictory_probes_are_timed_again(device) -> None:
    """A probe that was disturbed during all rounds gets its true time afterwards."""
    costs = {block_probe(w): w * 1e-3 for w in range(16, 16 * 12, 16)}
    disturbed = block_probe(32)
    asked: list[float] = []

    def run(item: BlockProbe):
        def once() -> None:
            slow = item == disturbed and not asked
            device.launches.append(str(item))
            device.pending_s += costs[item] * (2.0 if slow else 1.0)

        return once

    def ask(timed):
        asked.append(timed[disturbed].seconds)
        return find_contradictions(timed)

    result = time_in_rounds(
        device,
        {item: run(item) for item in costs},
        rng=np.random.default_rng(0),
        time_limit_s=1.0,
        on_progress=lambda share: None,
        find_contradictions=ask,
    )
    assert asked[0] == pytest.approx(2 * costs[disturbed])
    assert {item: timed.seconds for item, timed in result.items()} == pytest.approx(costs)
    assert len(asked) <= 1 + REPEAT_ROUNDS


def test_a_probe_that_stays_slow_is_repeated_only_so_often(device) -> None:
    costs = {block_probe(16): 3e-3, block_probe(32): 1e-3, block_probe(64): 5e-3}
    asked = []

    def ask(timed):
        asked.append(find_contradictions(timed))
        return asked[-1]

    result = time_in_rounds(
        device,
        {item: device.runner(str(item), cost) for item, cost in costs.items()},
        rng=np.random.default_rng(0),
        time_limit_s=1.0,
        on_progress=lambda share: None,
        find_contradictions=ask,
    )
    assert asked == [[block_probe(16), block_probe(32)]] * REPEAT_ROUNDS
    assert {item: timed.seconds for item, timed in result.items()} == pytest.approx(costs)
