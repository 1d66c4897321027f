"""Items: the probes and whole networks of a latency table, and the batch size of the probes."""

from __future__ import annotations

from dataclasses import replace

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
MAX_CHANGES = 1000  # to make a structure light


def choose_items(
    space: SearchSpace, count: int, seed: int, *, lightest: bool = False
) -> list[Item]:
    """Choose the items of a table: the MasterNet, whole networks and probes.

    Half of the whole networks are light ones, because random structures are several times as slow
    as the structures that a search selects.

    Args:
        space: The search space.
        count: The number of whole networks beside the MasterNet.
        seed: Seed of the whole networks.
        lightest: Whether the random networks are the lightest of many.
    """
    rng = np.random.default_rng(seed)
    light = sample_light(space, rng, count // 2)
    known, draws = set(light), DRAWS_PER_NETWORK * count if lightest else count
    drawn = [each for each in _sample(space, rng, draws) if each not in known]
    number = count - len(light)
    others = smallest(drawn, number, rng) if lightest else drawn[:number]
    structures = [*light, *others]
    mixed = [structures[which] for which in rng.permutation(len(structures))]
    items: list[Item] = [space.master, *mixed]
    for resolution in space.resolutions:
        items += block_probes(space, resolution)
        items += stem_and_head_probes(space, resolution)
        items += overhead_probes(space, resolution)
    return list(dict.fromkeys(items))


def sample_light(space: SearchSpace, rng: np.random.Generator, count: int) -> list[Structure]:
    """Draw distinct structures between the lightest of the space and the MasterNet.

    Each has a limit of multiply-adds; the logarithms of the limits are evenly spaced. A random
    structure is changed, one stage at a time, until it is within its limit or `MAX_CHANGES` have
    been tried.

    Args:
        space: The search space.
        rng: Draws the structures.
        count: The number of structures; fewer where the space is small.
    """
    least, most = multiply_adds(_lightest(space)), multiply_adds(space.master)
    steps = (np.arange(count) + 0.5) / max(count, 1)
    limits = least * (most / least) ** steps
    light = dict.fromkeys(_made_light(space, limit, rng) for limit in limits)
    light.pop(space.master, None)
    return list(light)


def _made_light(space: SearchSpace, limit: float, rng: np.random.Generator) -> Structure:
    structure = space.sample(rng)
    size = multiply_adds(structure)
    for _ in range(MAX_CHANGES):
        if size <= limit:
            break
        index = structure.indices[rng.integers(len(structure.indices))]
        other = structure.with_stage(index, space.sample(rng).stage(index))
        if multiply_adds(other) < size:
            structure, size = other, multiply_adds(other)
    return structure


def _lightest(space: SearchSpace) -> Structure:
    """The structure with the least widths and depths, and in each stage the lightest block."""
    structure = replace(space.master, resolution=space.resolutions[0])
    for index in structure.indices:
        least = replace(
            structure.stage(index), width=space.widths[index][0], depth=space.depths[index][0]
        )
        blocks = space.blocks[index]
        stages = (
            replace(least, type=block.type, kernel=block.kernel, ratio=block.ratio)
            for block in blocks
        )
        structure = min((structure.with_stage(index, each) for each in stages), key=multiply_adds)
    return structure


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
