"""Items: the probes and whole networks of a latency table, and the batch size of the probes."""

from __future__ import annotations

import numpy as np

from genets.latency.predictor.probes import (
    Item,
    block_probes,
    overhead_probes,
    stem_and_head_probes,
)
from genets.structure import SearchSpace, Structure
from genets.structure.cost import multiply_adds

# Where a run of the MasterNet takes longer, probes are timed in a smaller batch, and the whole
# networks are the smallest of many. At 192 pixels and batch 64 a run of genet_normal takes seconds
# on a CPU, and a table of the default search space has 648 probes.
LONG_RUN_S = 0.2
DRAWS_PER_NETWORK = 20


def choose_items(
    space: SearchSpace, count: int, seed: int, *, lightest: bool = False
) -> list[Item]:
    """Choose the items of a table: the MasterNet, whole networks and probes.

    Args:
        space: The search space.
        count: The number of whole networks beside the MasterNet.
        seed: Seed of the whole networks.
        lightest: Whether these are the lightest of many networks.
    """
    rng = np.random.default_rng(seed)
    if lightest:
        structures = smallest(_sample(space, rng, DRAWS_PER_NETWORK * count), count, rng)
    else:
        structures = _sample(space, rng, count)
    items: list[Item] = [space.master, *structures]
    for resolution in space.resolutions:
        items += block_probes(space, resolution)
        items += stem_and_head_probes(space, resolution)
        items += overhead_probes(space, resolution)
    return list(dict.fromkeys(items))


def _sample(space: SearchSpace, rng: np.random.Generator, count: int) -> list[Structure]:
    """Distinct structures without the MasterNet; fewer than `count` in a small space."""
    maximum = min(count, space.size - 1)
    structures: dict[Structure, None] = {}
    for _ in range(100 * count):
        structure = space.sample(rng)
        if structure != space.master:
            structures[structure] = None
        if len(structures) >= maximum:
            break
    return list(structures)


def choose_probe_batch_size(master_run_s: float, batch_size: int) -> int:
    """Choose the batch size of the probes: the target's, halved until a MasterNet run is short.

    The time per image is about the same in a small and a large batch if both keep the device busy
    for so long. The calibration removes the remaining difference: it uses whole networks at the
    target's batch size.
    """
    size = batch_size
    while size > 1 and master_run_s * size / batch_size > LONG_RUN_S:
        size = -(-size // 2)
    return size


def smallest(structures: list[Structure], count: int, rng: np.random.Generator) -> list[Structure]:
    """The `count` structures with the fewest multiply-adds, in random order.

    Most structures of a search space are several times as slow as its MasterNet, and no search
    selects them.
    """
    chosen = sorted(structures, key=multiply_adds)[:count]
    return [chosen[which] for which in rng.permutation(len(chosen))]
