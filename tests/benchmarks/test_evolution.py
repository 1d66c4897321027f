"""The proposals of random search and evolution."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from evolution import FREE_DRAWS, Evaluation, Proposals
from genets.structure import DesignSpace, Structure, zoo

SPACE = DesignSpace().around(zoo["master_small"])


def count_channels(structure: Structure) -> float:
    """Stands for a predicted latency: channels of all blocks."""
    return float(sum(block.width * block.depth for block in structure.super_blocks))


def propose(limit: float, count: int) -> list[Structure]:
    table: Any = SimpleNamespace(predict_ms_per_image=count_channels)
    proposals = Proposals(SPACE, table, limit, [0])
    evolution = proposals.evolution(population=4, tournament=2)
    history: list[Evaluation] = []
    for _ in range(count):
        structure = evolution(history)
        history.append(Evaluation(structure, -count_channels(structure), 1.0))
    return [each.structure for each in history]


def test_a_limit_that_free_draws_do_not_meet_is_met() -> None:
    stages = range(len(SPACE.master.super_blocks))
    limit = 1.2 * sum(min(SPACE.widths[stage]) * min(SPACE.depths[stage]) for stage in stages)
    rng = np.random.default_rng(0)
    assert min(count_channels(SPACE.sample(rng)) for _ in range(FREE_DRAWS)) > limit
    structures = propose(limit, 12)
    assert all(count_channels(structure) <= limit for structure in structures)
    assert len({*structures}) == len(structures)
    assert structures == propose(limit, 12)
