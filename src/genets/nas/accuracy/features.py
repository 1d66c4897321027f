"""The effects of the accuracy model, as columns of a design matrix.

The predicted gain of a structure is a sum over its stages (paper, section 4.2). The gain of a
super-block is a sum of effects, which are all zero for the MasterNet's own super-block:

- `trend`: w log((m + f) / (m' + f)) for each super-block, where m are its multiply-adds, m' those
  of the MasterNet's, and f is a share of the mean m'. The weight w is the super-block's share of
  the sum of all m' + f. So the trend is exact when all of these change by one factor, and a
  super-block without multiply-adds, such as an identity, has a finite trend. The log of the total
  is no sum over super-blocks. Multiply-adds depend on the input width.
- `block`: effects of type, kernel, ratio and block that are the same in every super-block.
- `local block`: effects of type, kernel, ratio and block in one super-block.
- `slope`: effects of log(depth / the MasterNet's) and log(width / the MasterNet's), for all
  super-blocks and by type.
- `local slope`: the same two slopes in one super-block, and for one block in one super-block.

Stem and head have one slope each, on their width, and their part of the trend.

Where trials inherit weights, there is one more effect:

- `shortcut`: the gain of a super-block of stride 1 where its first shortcut becomes an identity, as
  its input width is its width, in place of the MasterNet's projection. The weights of the
  projection are lost then. This effect depends on the input width, too.

Two kinds of effects belong to a training instead of a structure, so predictions leave them out:

- `reset cost`: the loss of a re-initialised super-block, as a trial trains it only briefly. Control
  trials measure it.
- `candidate offset`: the gain of a candidate's training over the MasterNet. All candidates with
  the same number of epochs share it; screened structures count as candidates with few epochs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from genets.nas.accuracy.gaussian import Floats, Integers
from genets.structure import BLOCK_TYPES, Block, Structure, SuperBlock
from genets.structure.cost import input_resolutions, stage_multiply_adds

ALL = ""
UNSEEN = "unseen"  # stands for every block without a trial: only the prior describes it

TREND_FLOOR = 0.2  # f, as a share of the MasterNet's mean multiply-adds of a super-block

# Prior standard deviations of the effects, by scale group, as multiples of the spread of the
# trials' values.
EFFECT_STD = {"block": 0.5, "local block": 0.5, "slope": 0.5, "local slope": 0.25}
SCALE_GROUPS = tuple(EFFECT_STD)
FIXED = -1  # the group of effects whose prior is not scaled


class Column(NamedTuple):
    """One effect: its kind, the index of its stage, and its block or block type."""

    effect: str
    stage: int | str = ALL
    block: Block | str = ALL


RESET_COST = "reset cost"  # the effect of one column for all stages, and one for each stage
TREND = Column("trend")
SHORTCUT = Column("shortcut")
CANDIDATE_OFFSET = "candidate offset"  # the effect of one column for each number of epochs


def candidate_offset(epochs: int) -> Column:
    """The effect of the training of a candidate, by its number of epochs."""
    return Column(CANDIDATE_OFFSET, block=f"{epochs} epochs")


def earlier_round(number: int) -> str:
    """The scope of the reset costs of an earlier round, counted from 0."""
    return f"earlier round {number}"


class FeatureMap:
    """The columns of the design matrix, and their values for the super-blocks of a search space.

    Args:
        master: the MasterNet.
        blocks: the blocks that trials have tried; all other blocks share one column.
        candidate_epochs: the epochs of the trained candidates that are observed beside trials.
        earlier_rounds: the number of earlier rounds whose trials are observed, too.
        inherited: whether trials inherit weights.

    Attributes:
        columns: the number of each column.
        groups: (columns,), the index of each column's prior scale in `SCALE_GROUPS`, or `FIXED`.
        base_variance: (columns,), the prior variance of each column within its group.
    """

    def __init__(
        self,
        master: Structure,
        blocks: Iterable[Block],
        *,
        candidate_epochs: Iterable[int] = (),
        earlier_rounds: int = 0,
        inherited: bool = False,
    ) -> None:
        self.master = master
        tried = (block for block in blocks if block.type != "Conv")
        self.blocks = tuple(sorted({*tried, *(s.block for s in master.super_blocks)}))
        self._ends = master.indices[0], master.indices[-1]  # stem and head
        self._resolutions = dict(zip(master.indices, input_resolutions(master), strict=True))
        self._master_multiply_adds = {
            index: self.multiply_adds(index, master.input_width(index), master.stage(index))
            for index in master.indices
        }
        count = len(master.super_blocks)
        total = sum(self._master_multiply_adds[index] for index in range(count))
        self._floor = TREND_FLOOR * total / count
        self._total = total + count * self._floor
        self._rows: dict[tuple[int, SuperBlock], Floats] = {}
        priors = dict(self._priors())
        for number in range(earlier_rounds):
            for stage in (ALL, *master.indices):
                priors[Column(RESET_COST, stage, earlier_round(number))] = (FIXED, 1)
        for epochs in sorted(set(candidate_epochs)):
            priors[candidate_offset(epochs)] = (FIXED, 1)
        if inherited:
            priors[SHORTCUT] = (SCALE_GROUPS.index("block"), 1)
        self.columns = {column: number for number, column in enumerate(priors)}
        self.groups: Integers = np.array([group for group, _ in priors.values()], np.int64)
        self.base_variance: Floats = np.array([variance for _, variance in priors.values()])

    def __len__(self) -> int:
        return len(self.columns)

    def effect_variance(self, spread: float = 1.0) -> Floats:
        """(columns,): the prior variances of the effects; 0 for those of the group `FIXED`.

        spread: the standard deviation of the values of trials.
        """
        stds = np.array([*EFFECT_STD.values(), 0.0]) * spread
        variance: Floats = self.base_variance * stds[self.groups] ** 2
        return variance

    def multiply_adds(self, index: int, input_width: int, super_block: SuperBlock) -> int:
        return stage_multiply_adds(super_block, input_width, self._resolutions[index])

    def _priors(self) -> Iterator[tuple[Column, tuple[int, float]]]:
        """Each column with its scale group and its variance within the group.

        Within a group, nested effects share the variance evenly.
        """
        indices = range(len(self.master.super_blocks))
        types = [name for name in BLOCK_TYPES if name != "Conv"]
        blocks: tuple[Block | str, ...] = (*self.blocks, UNSEEN)
        yield TREND, (FIXED, 1)
        for stage in (ALL, *indices, *self._ends):
            yield Column(RESET_COST, stage), (FIXED, 1)
        yield Column("kernel"), (0, 0.5)
        for name in types:
            yield Column("type", ALL, name), (0, 0.5)
            yield Column("ratio", ALL, name), (0, 0.25)
        for block in blocks:
            yield Column("block", ALL, block), (0, 0.5)
        for index in indices:
            yield from ((Column("type", index, name), (1, 0.5)) for name in types)
            yield Column("kernel", index), (1, 0.5)
            yield Column("ratio", index), (1, 0.25)
            yield from ((Column("ratio", index, name), (1, 0.25)) for name in types)
            yield from ((Column("block", index, block), (1, 0.5)) for block in blocks)
        for effect in ("depth", "width"):
            yield Column(effect), (2, 1)
            yield from ((Column(effect, ALL, name), (2, 0.25)) for name in types)
            for index in indices:
                yield Column(effect, index), (3, 1)
                yield from ((Column(effect, index, block), (3, 0.5)) for block in blocks)
        yield from ((Column("width", end), (2, 1)) for end in self._ends)

    def _terms(self, index: int, super_block: SuperBlock) -> Iterator[tuple[Column, float]]:
        """The effects of a stage, without the trend, with their values."""
        own = self.master.stage(index)
        if index in self._ends:
            yield Column("width", index), math.log(super_block.width / own.width)
            return
        name = super_block.type
        block = super_block.block if super_block.block in self.blocks else UNSEEN
        for stage in (ALL, index):
            yield Column("kernel", stage), 2 * math.log(super_block.kernel / 3)
            yield Column("ratio", stage, name), math.log(super_block.ratio)
        yield Column("ratio", index), math.log(super_block.ratio)
        for stage in (ALL, index):
            yield Column("type", stage, name), 1.0
            yield Column("block", stage, block), 1.0
        for effect, ratio in (
            ("depth", super_block.depth / own.depth),
            ("width", super_block.width / own.width),
        ):
            for stage, scope in ((ALL, ALL), (ALL, name), (index, ALL), (index, block)):
                yield Column(effect, stage, scope), math.log(ratio)

    def stage_rows(self, index: int, super_blocks: Sequence[SuperBlock]) -> Floats:
        """(super-blocks, columns): differences from the MasterNet's own stage, trend left out."""
        own = self._stage_row(index, self.master.stage(index))
        return np.array([self._stage_row(index, s) - own for s in super_blocks])

    def _stage_row(self, index: int, super_block: SuperBlock) -> Floats:
        if (index, super_block) not in self._rows:
            row = np.zeros(len(self))
            for column, value in self._terms(index, super_block):
                row[self.columns[column]] += value
            self._rows[index, super_block] = row
        return self._rows[index, super_block]

    def trend(
        self, index: int, input_widths: Sequence[int], super_blocks: Sequence[SuperBlock]
    ) -> Floats:
        """(input widths, super-blocks): w log((m + f) / (m' + f)), see the module.

        The head counts with the MasterNet's input width: the effects of the last super-block
        describe the effect of more channels there.
        """
        if index in self._ends:
            input_widths = [self.master.input_width(index)] * len(input_widths)
        adds = [
            [self.multiply_adds(index, width, s) for s in super_blocks] for width in input_widths
        ]
        own = self._master_multiply_adds[index] + self._floor
        return own / self._total * np.log((np.array(adds) + self._floor) / own)

    def _shortcut(
        self, index: int, input_widths: Sequence[int], super_blocks: Sequence[SuperBlock]
    ) -> Floats:
        """(input widths, super-blocks): 1 for an identity in place of a projection, -1 vice versa.

        It is 0 where the first shortcut is of the same kind as the MasterNet's.
        """
        if index in self._ends:
            return np.zeros((len(input_widths), len(super_blocks)))
        own = self.master.stage(index).keeps_shape(self.master.input_width(index))
        kept = [[each.keeps_shape(width) for each in super_blocks] for width in input_widths]
        return np.array(kept, float) - own

    def of_pairs(
        self, index: int, input_widths: Sequence[int], super_blocks: Sequence[SuperBlock]
    ) -> dict[Column, Floats]:
        """The effects that depend on the input width, each (input widths, super-blocks)."""
        pairs = {TREND: self.trend(index, input_widths, super_blocks)}
        if SHORTCUT in self.columns:
            pairs[SHORTCUT] = self._shortcut(index, input_widths, super_blocks)
        return pairs

    def rows_by_stage(self, structure: Structure) -> Floats:
        """(stages, columns): the effects of each stage of a structure."""
        rows = np.zeros((len(structure.stages), len(self)))
        for row, index in zip(rows, structure.indices, strict=True):
            stage, width = structure.stage(index), structure.input_width(index)
            row += self.stage_rows(index, [stage])[0]
            for column, values in self.of_pairs(index, [width], [stage]).items():
                row[self.columns[column]] += values[0, 0]
        return rows

    def structure_row(self, structure: Structure) -> Floats:
        """(columns,): the sum over all stages of a structure."""
        return np.asarray(self.rows_by_stage(structure).sum(axis=0))

    def trial_row(self, index: int, super_block: SuperBlock) -> Floats:
        """(columns,): the structure of a trial, and its reset cost."""
        row = self.structure_row(self.master.with_stage(index, super_block))
        return row + self.reset_row(index)

    def reset_row(self, index: int, scope: str = ALL) -> Floats:
        """(columns,): the reset cost of a stage. scope: `earlier_round` of the trial, if any."""
        row = np.zeros(len(self))
        for stage in (ALL, index):
            row[self.columns[Column(RESET_COST, stage, scope)]] = 1.0
        return row
