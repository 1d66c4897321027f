"""Costs: ms per batch of any stage of a search space, from timed probes, and their calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import isotonic_regression, nnls

from genets.core.errors import TargetError, unknown_name
from genets.latency.predictor.probes import (
    CHAIN_EXTRA,
    BlockProbe,
    Probe,
    StemOrHeadProbe,
    subtract_overhead,
)
from genets.latency.predictor.work import WORK, Array, block_work
from genets.structure import Block, SearchSpace, Structure, SuperBlock
from genets.structure.cost import input_resolutions

# A further block of a chain costs at least this share of its expected cost; less is a bad timing.
MIN_SLOPE = 0.2


@dataclass(frozen=True)
class BlockCosts:
    """The timings of one block in one super-block, relative to the expected costs.

    widths: the coarse grid. first, rest: measured over expected cost at each of these widths, for
    the first block and for each further block.
    """

    widths: Array
    first: Array
    rest: Array


@dataclass(frozen=True)
class SuperBlockCosts:
    """`first(block, c_in, c_out) + (depth - 1) * rest(block, c_out)` in one super-block.

    The expected cost is a non-negative combination of the work of a block, fitted to the timings
    of this super-block. Between the widths of the coarse grid the ratio of measured to expected
    cost is interpolated. This keeps the steps at whole tiles of channels and at timm's rounded
    inner widths.
    """

    stride: int
    resolution: int
    ms_per_work: Array
    blocks: Mapping[Block, BlockCosts]

    @classmethod
    def fit(cls, timed_ms: Mapping[BlockProbe, float]) -> SuperBlockCosts:
        """timed_ms: ms per batch of every probe of this super-block."""
        probe = next(iter(timed_ms))
        ms = np.array(list(timed_ms.values()))
        work = np.array([_chain_work(chain) for chain in timed_ms])
        ms_per_work, _ = nnls(work / ms[:, None], np.ones(len(ms)))
        blocks = {
            block: _fit_block(block, timed_ms, ms_per_work)
            for block in dict.fromkeys(chain.block for chain in timed_ms)
        }
        return cls(probe.stride, probe.resolution, ms_per_work, blocks)

    def first_ms(self, block: Block, input_widths: Sequence[int], width: int) -> Array:
        """(input widths,): the first block, which has the stride and changes the width."""
        costs = self._find(block)
        inputs = np.asarray(input_widths)
        work = block_work(block, inputs, width, self.stride, self.resolution)
        ratio = np.interp(width, costs.widths, costs.first)
        first = _expected(work, self.ms_per_work) * ratio
        if self.stride == 1:  # without any change it has no projection, like a further block
            first = np.where(inputs == width, self.rest_ms(block, width), first)
        return first

    def rest_ms(self, block: Block, width: int) -> float:
        """Each further block."""
        costs = self._find(block)
        side = -(-self.resolution // self.stride)
        expected = _expected(block_work(block, width, width, 1, side), self.ms_per_work)
        return float(expected * np.interp(width, costs.widths, costs.rest))

    def stage_ms(self, input_widths: Sequence[int], stages: Sequence[SuperBlock]) -> Array:
        """(input widths, super-blocks): each super-block after each input width."""
        cache: dict[tuple[Block, int], tuple[Array, float]] = {}
        columns = np.empty((len(stages), len(input_widths)))
        for row, super_block in enumerate(stages):
            key = (super_block.block, super_block.width)
            if key not in cache:
                cache[key] = (self.first_ms(key[0], input_widths, key[1]), self.rest_ms(*key))
            first, rest = cache[key]
            columns[row] = first + (super_block.depth - 1) * rest
        return columns.T

    def _find(self, block: Block) -> BlockCosts:
        if block not in self.blocks:
            names = [str(b) for b in self.blocks]
            raise TargetError(unknown_name("block of the latency table", str(block), names))
        return self.blocks[block]


@dataclass(frozen=True)
class StemOrHeadCosts:
    """The stem or the head: interpolated between the timed widths.

    input_widths, widths: the grid, ascending. ms: (input widths, widths), per batch.
    """

    input_widths: Array
    widths: Array
    ms: Array

    @classmethod
    def fit(cls, timed_ms: Mapping[StemOrHeadProbe, float]) -> StemOrHeadCosts:
        """timed_ms: ms per batch for every pair of the grid's widths."""
        input_widths = sorted({probe.input_width for probe in timed_ms})
        widths = sorted({probe.width for probe in timed_ms})
        by_widths = {(probe.input_width, probe.width): ms for probe, ms in timed_ms.items()}
        ms = np.array([[by_widths[read, width] for width in widths] for read in input_widths])
        rising = np.maximum.accumulate(np.maximum.accumulate(ms, axis=0), axis=1)
        return cls(np.array(input_widths, float), np.array(widths, float), rising)

    def stage_ms(self, input_widths: Sequence[int], stages: Sequence[SuperBlock]) -> Array:
        """(input widths, stages): each stage after each input width."""
        widths = [stage.width for stage in stages]
        by_width = np.array([np.interp(widths, self.widths, row) for row in self.ms])
        columns = [np.interp(input_widths, self.input_widths, column) for column in by_width.T]
        return np.array(columns).T


@dataclass(frozen=True)
class SpaceCosts:
    """The costs of all stages of a search space, before calibration.

    by_stage: the costs, by index of the stage and pixels along one side of its input.
    sides: these pixels, by resolution of the network's input and index of the stage.
    """

    by_stage: Mapping[tuple[int, int], SuperBlockCosts | StemOrHeadCosts]
    sides: Mapping[int, Mapping[int, int]]

    @classmethod
    def fit(cls, space: SearchSpace, timed_ms: Mapping[Probe, float]) -> SpaceCosts:
        """timed_ms: ms per batch of all probes."""
        indices = space.master.indices
        stem, *_, head = indices
        blocks: dict[tuple[int, int], dict[BlockProbe, float]] = {}
        ends: dict[tuple[int, int], dict[StemOrHeadProbe, float]] = {}
        for probe, ms in subtract_overhead(timed_ms).items():
            if isinstance(probe, BlockProbe):
                blocks.setdefault((probe.index, probe.resolution), {})[probe] = ms
            else:
                index = stem if probe.name == "stem" else head
                ends.setdefault((index, probe.resolution), {})[probe] = ms
        sides = {
            resolution: input_resolutions(space.master.with_resolution(resolution))
            for resolution in space.resolutions
        }
        return cls(
            {key: SuperBlockCosts.fit(timed) for key, timed in blocks.items()}
            | {key: StemOrHeadCosts.fit(timed) for key, timed in ends.items()},
            {key: dict(zip(indices, each, strict=True)) for key, each in sides.items()},
        )

    def stage_ms(
        self, index: int, input_widths: Sequence[int], stages: Sequence[SuperBlock], resolution: int
    ) -> Array:
        """(input widths, stages): ms per batch. resolution: of the network's input."""
        return self.by_stage[index, self.sides[resolution][index]].stage_ms(input_widths, stages)

    def network_ms(self, structure: Structure) -> Array:
        """(stages,): ms per batch of each stage of a structure."""
        costs = [
            self.stage_ms(
                index,
                [structure.input_width(index)],
                [structure.stage(index)],
                structure.resolution,
            )[0, 0]
            for index in structure.indices
        ]
        return np.array(costs)


def _chain_work(probe: BlockProbe) -> Array:
    side = -(-probe.resolution // probe.stride)
    first = block_work(probe.block, probe.input_width, probe.width, probe.stride, probe.resolution)
    return first + (probe.depth - 1) * block_work(probe.block, probe.width, probe.width, 1, side)


def _expected(work: Array, ms_per_work: Array) -> Array:
    # The terms are added one by one, so that one width gives exactly the same float as many.
    total: Array = sum((ms_per_work[k] * work[k] for k in range(len(WORK))), np.zeros(()))
    return np.maximum(total, 1e-9)


def _fit_block(
    block: Block, timed_ms: Mapping[BlockProbe, float], ms_per_work: Array
) -> BlockCosts:
    singles = sorted(
        (probe for probe in timed_ms if probe.block == block and probe.depth == 1),
        key=lambda probe: probe.width,
    )
    firsts, rests, expected = [], [], []
    for single in singles:
        chain = replace(single, depth=1 + CHAIN_EXTRA)
        side = -(-single.resolution // single.stride)
        rest_work = block_work(block, single.width, single.width, 1, side)
        rest = float(_expected(rest_work, ms_per_work))
        slope = (timed_ms[chain] - timed_ms[single]) / CHAIN_EXTRA
        firsts.append(timed_ms[single])
        rests.append(max(slope, MIN_SLOPE * rest))
        expected.append((float(_expected(_chain_work(single), ms_per_work)), rest))
    expected_first, expected_rest = np.array(expected).T
    return BlockCosts(
        np.array([float(single.width) for single in singles]),
        _rising(firsts) / expected_first,
        _rising(rests) / expected_rest,
    )


def _rising(costs: Sequence[float]) -> Array:
    """The nearest costs that do not fall as the width grows; a fall is noise."""
    return np.asarray(isotonic_regression(costs, weights=1 / np.square(costs)).x)


# Ridge penalties, in squared relative errors of one network. A common factor is almost free,
# because chains run with warmer caches than networks. Stages differ from the common factor only
# where many networks agree.
PENALTY_COMMON = 0.003
PENALTY_PART = 0.3
PENALTY_OFFSET = 0.01
MAX_NEGATIVE_OFFSET = 0.5  # as a share of the smallest possible sum


@dataclass(frozen=True)
class Calibration:
    """`offset_ms + sum(factors * costs)`, in ms per batch, with one factor for each stage.

    The stages are in order; the classifier belongs to the head.
    """

    factors: Array
    offset_ms: float

    @classmethod
    def identity(cls, parts: int) -> Calibration:
        """The calibration that changes nothing."""
        return cls(np.ones(parts), 0.0)

    @classmethod
    def fit(cls, costs: Array, measured_ms: Array, weights: Sequence[float]) -> Calibration:
        """Fit a weighted ridge regression of relative errors, towards factors of 1 and no offset.

        costs: (networks, stages), ms per batch. measured_ms, weights: (networks,).
        """
        networks, parts = costs.shape
        scale = float(np.median(measured_ms))
        # The factor of stage k is 1 + common + own[k].
        design = np.column_stack((costs, costs.sum(axis=1), np.full(networks, scale)))
        relative = design / measured_ms[:, None]
        missing = 1 - costs.sum(axis=1) / measured_ms
        penalty = np.diag([PENALTY_PART] * parts + [PENALTY_COMMON, PENALTY_OFFSET])
        weighted = relative * np.asarray(weights)[:, None]
        solution = np.linalg.solve(weighted.T @ relative + penalty, weighted.T @ missing)
        # With a smaller factor, wider networks would cost almost nothing more.
        factors = np.maximum(1 + solution[:parts] + solution[parts], 0.1)
        # On a disturbed device any offset may fit best, but no latency is below zero.
        lowest = -MAX_NEGATIVE_OFFSET * float(factors @ costs.min(axis=0))
        return cls(factors, max(lowest, float(solution[-1] * scale)))
