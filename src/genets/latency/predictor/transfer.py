"""Transfer: the probes of an engine that prepares networks slowly, from those of another engine.

A compiler or a quantiser takes seconds for each network, so it cannot prepare the hundreds of
probes of a latency table. Another engine on the same device prepares them in milliseconds. A block
then takes on the slow engine

    scale * cost * (1 + the sum of its effects),

where cost is that on the fast engine. The effects are those of the block's type, width, resolution,
ratio, projection and share of depth-wise multiply-adds. They and an offset are fitted to the
latencies of a few whole networks on the slow engine, by ridge regression: each is normal around
zero with a multiple of the deviation in EFFECT_STD, and leave-one-out errors choose the multiple.
The networks are chosen such that they reveal as much as possible about the effects (a greedy
Bayesian D-optimal design).

More effects (of kernel and stage) gave larger errors with so few networks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from genets.latency.predictor.probes import (
    BlockProbe,
    Probe,
    StemOrHeadProbe,
    subtract_overhead,
)
from genets.latency.predictor.work import Array
from genets.structure import Structure
from genets.structure.cost import input_resolutions

if TYPE_CHECKING:
    from genets.latency.predictor.builder import WholeNetwork
    from genets.latency.predictor.table import LatencyTable

MAX_NETWORKS = 32  # with the MasterNet
HELD_OUT = 8  # of these networks; they only measure the error
DRAWN = 1000  # structures from which the networks are chosen

# Prior standard deviations of the effects, and of the offset as a share of a network's latency.
EFFECT_STD = {"all": 0.5, "type": 0.4, "width": 0.15, "resolution": 0.15, "ratio": 0.08,
              "projection": 0.2, "depth-wise": 0.4}  # fmt: skip
OFFSET_STD = 0.1
NOISE_STD = 0.04  # of a network's latency
MULTIPLES = (0.03, 0.1, 0.3, 1.0, 3.0)  # of the prior variances, from which the fit chooses
MIN_FACTOR = 0.05  # the effects never make a block cheaper than this share of the scaled cost
TYPICAL_WIDTH, TYPICAL_RESOLUTION = 64, 8  # where the effects of width and resolution are zero

Part = BlockProbe | StemOrHeadProbe  # one block, the stem or the head; see `network_parts`
Effect = tuple[str, str]  # a key of EFFECT_STD, and the block type; empty where it is of all types


@dataclass(frozen=True)
class Transfer:
    """The fitted effects.

    Attributes:
        scale: The cost on the slow engine over that on the fast one.
        effects: Those of the blocks.
    """

    scale: float
    effects: Mapping[Effect, float]

    @classmethod
    def fit(cls, source: LatencyTable, networks: Sequence[WholeNetwork]) -> Transfer:
        """Fit the effects to networks on the slow engine. source: The table of the fast one."""
        measured = np.array([network.ms_per_batch for network in networks])
        costs = [network_parts(source, network.structure) for network in networks]
        sums = np.array([sum(each.values()) for each in costs]) + source.calibration.offset_ms
        scale, typical = float(np.median(measured / sums)), float(np.median(measured))
        columns = _columns(costs)
        rows = scale * np.array([_sum_effects(each, columns) for each in costs])
        design = np.column_stack((rows, np.full(len(networks), typical))) / measured[:, None]
        solution = _ridge(design, 1 - scale * sums / measured, _variances(columns))
        effects = dict(zip(columns, solution[:-1].tolist(), strict=True))
        return cls(scale, effects)

    def factor(self, part: Part) -> float:
        """The cost of a part on the slow engine over that on the fast one."""
        effect = sum(
            value * self.effects.get(name, 0.0) for name, value in part_effects(part).items()
        )
        return self.scale * max(1 + effect, MIN_FACTOR)

    def probes(self, source: LatencyTable) -> dict[Probe, float]:
        """The probes of the slow engine in ms per batch, without their overhead."""
        timed = subtract_overhead(source.timed_ms)
        return {probe: self._chain_ms(source, probe, timed) for probe in timed}

    def _chain_ms(self, source: LatencyTable, probe: Part, timed_ms: Mapping[Part, float]) -> float:
        master = source.space.master
        if isinstance(probe, StemOrHeadProbe):
            stage = 0 if probe.name == "stem" else -1
            return float(source.calibration.factors[stage] * timed_ms[probe] * self.factor(probe))
        first = replace(probe, depth=1)
        factor = source.calibration.factors[master.indices.index(probe.index)]
        first_ms = timed_ms[first] * self.factor(first)
        further_ms = (timed_ms[probe] - timed_ms[first]) * self.factor(_further(first))
        return float(factor * max(first_ms + further_ms, MIN_FACTOR * first_ms))


def network_parts(table: LatencyTable, structure: Structure) -> dict[Part, float]:
    """The predicted ms per batch of stem, head and each kind of block; equal blocks are summed."""
    parts: dict[Part, float] = {}
    sides = input_resolutions(structure)
    for index, side in zip(structure.indices, sides, strict=True):
        stage, read = structure.stage(index), structure.input_width(index)
        if stage.type == "Conv":
            is_stem = index == structure.indices[0]
            end = StemOrHeadProbe("stem" if is_stem else "head", read, stage.width, side)
            of_stage: list[Part] = [end]
            stages = [stage]
        else:
            first = BlockProbe(index, stage.block, read, stage.width, stage.stride, side)
            of_stage = [first]
            stages = [replace(stage, depth=1), stage]
            if stage.depth > 1:
                of_stage.append(_further(first))
        costs = table.stage_ms_per_image(index, [read], stages, resolution=structure.resolution)
        costs = costs[0] * table.target.batch_size
        for part, ms in zip(of_stage, np.diff(costs, prepend=0.0), strict=False):
            parts[part] = parts.get(part, 0.0) + float(ms)
    return parts


def _further(first: BlockProbe) -> BlockProbe:
    """A further block after the first block of a super-block."""
    side = -(-first.resolution // first.stride)
    return replace(first, input_width=first.width, stride=1, resolution=side)


@lru_cache(maxsize=100_000)
def part_effects(part: Part) -> Mapping[Effect, float]:
    """How often a part has each effect, such as the logarithm of its width; see EFFECT_STD."""
    if isinstance(part, StemOrHeadProbe):
        return {("all", ""): 1.0, ("type", part.name): 1.0}
    block = part.block
    convolutions = list(part.convolutions())
    depth_wise = sum(each.multiply_adds for each in convolutions if each.per_group == 1)
    # An own block may have no convolution where its widths are equal.
    total = max(1, sum(each.multiply_adds for each in convolutions))
    effects = {
        ("all", ""): 1.0,
        ("depth-wise", ""): depth_wise / total,
        ("type", block.type): 1.0,
        ("width", block.type): np.log2(part.width / TYPICAL_WIDTH),
        ("resolution", block.type): np.log2(part.resolution / TYPICAL_RESOLUTION),
        ("ratio", block.type): np.log2(block.ratio),
        ("projection", block.type): float(part.stride > 1 or part.input_width != part.width),
    }
    return {name: float(value) for name, value in effects.items() if value}


def choose_networks(table: LatencyTable, seed: int) -> tuple[list[Structure], list[Structure]]:
    """Choose the networks to time beside the MasterNet, up to MAX_NETWORKS together.

    All are in the faster half of the drawn structures. The others are several times as slow as the
    MasterNet, and no search selects them.

    Args:
        table: The table of the fast engine.
        seed: Seed of the drawn structures.

    Returns:
        Networks that reveal most about the effects, and random ones to hold out.
    """
    rng, master = np.random.default_rng(seed), table.space.master
    drawn = dict.fromkeys(table.space.sample(rng) for _ in range(DRAWN))
    drawn.pop(master, None)
    by_latency = sorted(drawn, key=table.predict_ms_per_image)
    fast = by_latency[: max(len(drawn) // 2, MAX_NETWORKS)]
    order = [fast[number] for number in rng.permutation(len(fast))]
    unfitted = min(HELD_OUT, len(fast) // 4)
    held_out, pool = order[:unfitted], order[unfitted:]
    costs = [network_parts(table, structure) for structure in (master, *pool)]
    columns = _columns(costs)
    rows = np.array([_sum_effects(each, columns) / sum(each.values()) for each in costs])
    design = np.column_stack((rows, np.ones(len(rows))))
    chosen = _most_informative(design, _variances(columns), MAX_NETWORKS - 1 - unfitted)
    return [pool[number - 1] for number in chosen], held_out


def _most_informative(rows: Array, variances: Array, count: int) -> list[int]:
    """The rows that reveal most about effects with these variances, beside row 0; greedily."""
    covariance, chosen = np.diag(variances), [0]
    for _ in range(min(count, len(rows) - 1)):
        row = rows[chosen[-1]]
        known = covariance @ row
        covariance = covariance - np.outer(known, known) / (NOISE_STD**2 + row @ known)
        spread = np.einsum("nk,kl,nl->n", rows, covariance, rows)
        spread[chosen] = -1.0
        chosen.append(int(spread.argmax()))
    return chosen[1:]


def _ridge(design: Array, target: Array, variances: Array) -> Array:
    """(columns,): the effects, which are normal around zero with a multiple of these variances.

    Of MULTIPLES, the multiple with the smallest leave-one-out error is taken. On a noisy device it
    is small, and so are the effects.
    """
    fits = []
    for multiple in MULTIPLES:
        prior = multiple * variances
        precision = np.linalg.inv(design * prior @ design.T + NOISE_STD**2 * np.eye(len(target)))
        weights = precision @ target
        left_out = weights / np.diag(precision)
        fits.append((float(left_out @ left_out), prior * (design.T @ weights)))
    return min(fits, key=lambda fit: fit[0])[1]


def _variances(columns: Sequence[Effect]) -> Array:
    """(columns + 1,): the prior variances of the effects and of the offset."""
    return np.array([EFFECT_STD[kind] for kind, _ in columns] + [OFFSET_STD]) ** 2


def _columns(networks: Sequence[Mapping[Part, float]]) -> list[Effect]:
    """The effects of all parts of some networks."""
    return list(
        dict.fromkeys(name for parts in networks for part in parts for name in part_effects(part))
    )


def _sum_effects(parts: Mapping[Part, float], columns: Sequence[Effect]) -> Array:
    """(columns,): the sum over all parts of their costs times their effects."""
    numbers = {name: number for number, name in enumerate(columns)}
    row = np.zeros(len(columns))
    for part, ms in parts.items():
        for name, value in part_effects(part).items():
            row[numbers[name]] += ms * value
    return row
