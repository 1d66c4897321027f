"""Costs: the ms per batch of any super-block of the space, from timed pieces.

Calibration: the sum over stages brought to what whole networks take.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression, nnls

from genets.core.errors import TargetError, unknown_name
from genets.latency.predictor.probes import CHAIN_EXTRA, BlockProbe, StemOrHeadProbe
from genets.latency.predictor.work import WORK, Array, block_work
from genets.structure import Block, SuperBlock

# A chain's slope below this share of what its work suggests is a bad timing.
MIN_SLOPE = 0.2


@dataclass(frozen=True)
class BlockCosts:
    """One block at one super-block: its work, and how far the timings are from it.

    widths: the coarse grid. first, rest: measured over expected, for each of these widths.
    """

    widths: Array
    first: Array
    rest: Array


@dataclass(frozen=True)
class StageCosts:
    """`first(block, c_in, c_out) + (depth - 1) * rest(block, c_out)` at one super-block.

    Expected is a non-negative combination of the work of a block, fitted to the timings of
    this super-block; between the widths of the coarse grid the ratio of measured to expected
    is interpolated. So the steps at whole tiles of channels, and of timm's rounded inner
    widths, are kept.
    """

    stride: int
    resolution: int
    ms_per_work: Array
    blocks: Mapping[Block, BlockCosts]

    @classmethod
    def fit(cls, timed_ms: Mapping[BlockProbe, float]) -> StageCosts:
        """timed_ms: ms per batch of every piece of this super-block."""
        one = next(iter(timed_ms))
        stride, resolution = one.stride, one.resolution
        ms = np.array(list(timed_ms.values()))
        work = np.array([_piece_work(piece) for piece in timed_ms])
        ms_per_work, _ = nnls(work / ms[:, None], np.ones(len(ms)))
        blocks = {
            block: _fit_block(block, timed_ms, ms_per_work)
            for block in dict.fromkeys(piece.block for piece in timed_ms)
        }
        return cls(stride, resolution, ms_per_work, blocks)

    def first_ms(self, block: Block, input_widths: Sequence[int], width: int) -> Array:
        """(input widths,): the block that carries the stride and changes the width."""
        costs = self._block(block)
        inputs = np.asarray(input_widths)
        work = block_work(block, inputs, width, self.stride, self.resolution)
        ratio = np.interp(width, costs.widths, costs.first)
        first = _expected(work, self.ms_per_work) * ratio
        if self.stride == 1:  # no projection where nothing changes: the same as any other block
            first = np.where(inputs == width, self.rest_ms(block, width), first)
        return first

    def rest_ms(self, block: Block, width: int) -> float:
        """Every further block."""
        costs = self._block(block)
        side = -(-self.resolution // self.stride)
        expected = _expected(block_work(block, width, width, 1, side), self.ms_per_work)
        return float(expected * np.interp(width, costs.widths, costs.rest))

    def stage_ms(self, input_widths: Sequence[int], super_blocks: Sequence[SuperBlock]) -> Array:
        """(input widths, super-blocks): each super-block behind each input width."""
        known: dict[tuple[Block, int], tuple[Array, float]] = {}
        columns = np.empty((len(super_blocks), len(input_widths)))
        for row, super_block in enumerate(super_blocks):
            key = (super_block.block, super_block.width)
            if key not in known:
                known[key] = (self.first_ms(key[0], input_widths, key[1]), self.rest_ms(*key))
            first, rest = known[key]
            columns[row] = first + (super_block.depth - 1) * rest
        return columns.T

    def _block(self, block: Block) -> BlockCosts:
        if block not in self.blocks:
            names = [str(b) for b in self.blocks]
            raise TargetError(unknown_name("block of the latency table", str(block), names))
        return self.blocks[block]


@dataclass(frozen=True)
class StemOrHeadCosts:
    """Stem or head: interpolated between the widths that were timed.

    input_widths, widths: the grid, ascending. ms: (input widths, widths), per batch.
    """

    input_widths: Array
    widths: Array
    ms: Array

    @classmethod
    def of(cls, timed_ms: Mapping[StemOrHeadProbe, float]) -> StemOrHeadCosts:
        """timed_ms: ms per batch of the end for every pair of the grid's widths."""
        input_widths = sorted({end.input_width for end in timed_ms})
        widths = sorted({end.width for end in timed_ms})
        found = {(end.input_width, end.width): ms for end, ms in timed_ms.items()}
        ms = np.array([[found[reads, width] for width in widths] for reads in input_widths])
        rising = np.maximum.accumulate(np.maximum.accumulate(ms, axis=0), axis=1)
        return cls(np.array(input_widths, float), np.array(widths, float), rising)

    def stage_ms(self, input_widths: Sequence[int], stages: Sequence[SuperBlock]) -> Array:
        """(input widths, stages): each behind each input width."""
        wanted = [stage.width for stage in stages]
        by_width = np.array([np.interp(wanted, self.widths, row) for row in self.ms])
        columns = [np.interp(input_widths, self.input_widths, column) for column in by_width.T]
        return np.array(columns).T


def _piece_work(piece: BlockProbe) -> Array:
    side = -(-piece.resolution // piece.stride)
    first = block_work(piece.block, piece.input_width, piece.width, piece.stride, piece.resolution)
    return first + (piece.depth - 1) * block_work(piece.block, piece.width, piece.width, 1, side)


def _expected(work: Array, ms_per_work: Array) -> Array:
    # Summed term by term, so that one width alone gives the very same float as many at once.
    total: Array = sum((ms_per_work[k] * work[k] for k in range(len(WORK))), np.zeros(()))
    return np.maximum(total, 1e-9)


def _fit_block(
    block: Block, timed_ms: Mapping[BlockProbe, float], ms_per_work: Array
) -> BlockCosts:
    ones = sorted(
        (piece for piece in timed_ms if piece.block == block and piece.depth == 1),
        key=lambda piece: piece.width,
    )
    firsts, rests, expected = [], [], []
    for one in ones:
        chain = BlockProbe(one.index, block, one.input_width, one.width, one.stride, one.resolution,
                      1 + CHAIN_EXTRA)  # fmt: skip
        side = -(-one.resolution // one.stride)
        rest = float(_expected(block_work(block, one.width, one.width, 1, side), ms_per_work))
        slope = (timed_ms[chain] - timed_ms[one]) / CHAIN_EXTRA
        firsts.append(timed_ms[one])
        rests.append(max(slope, MIN_SLOPE * rest))
        expected.append((float(_expected(_piece_work(one), ms_per_work)), rest))
    expected_first, expected_rest = np.array(expected).T
    return BlockCosts(
        np.array([float(one.width) for one in ones]),
        _rising(firsts) / expected_first,
        _rising(rests) / expected_rest,
    )


def _rising(costs: Sequence[float]) -> Array:
    """The nearest costs that do not fall as the width grows: a fall is noise."""
    return np.asarray(isotonic_regression(costs, weights=1 / np.square(costs)).x)


# Ridge penalties, in squared relative errors of one network. A common factor is nearly free
# (chains run with warmer caches than networks do); stages may differ from it only where
# many networks agree.
PENALTY_COMMON = 0.003
PENALTY_PART = 0.3
PENALTY_OFFSET = 0.01
MAX_REBATE = 0.5  # of the least that each part takes in any network


@dataclass(frozen=True)
class Calibration:
    """`offset_ms + sum(factors * costs)`: one factor for each part, ms per batch.

    The parts are the stages in order, the classifier with the head.
    """

    factors: Array
    offset_ms: float

    @classmethod
    def none(cls, parts: int) -> Calibration:
        return cls(np.ones(parts), 0.0)

    @classmethod
    def fit(cls, costs: Array, measured_ms: Array, weights: Sequence[float]) -> Calibration:
        """Weighted ridge regression of relative errors, towards factors of 1 and no offset.

        costs: (networks, parts), ms per batch. measured_ms, weights: (networks,).
        """
        networks, parts = costs.shape
        scale = float(np.median(measured_ms))
        # factor of part k = 1 + common + own[k]
        design = np.column_stack((costs, costs.sum(axis=1), np.full(networks, scale)))
        relative = design / measured_ms[:, None]
        missing = 1 - costs.sum(axis=1) / measured_ms
        penalty = np.diag([PENALTY_PART] * parts + [PENALTY_COMMON, PENALTY_OFFSET])
        weighted = relative * np.asarray(weights)[:, None]
        solution = np.linalg.solve(weighted.T @ relative + penalty, weighted.T @ missing)
        # A factor below this would make wider networks all but free.
        factors = np.maximum(1 + solution[:parts] + solution[parts], 0.1)
        # On a disturbed device anything may fit best, but no network takes less than no time.
        least = -MAX_REBATE * float(factors @ costs.min(axis=0))
        return cls(factors, max(least, float(solution[-1] * scale)))
