"""The effects that the accuracy model is made of, as columns of a design matrix.

A structure's predicted change of accuracy is a sum over stages (paper, section 4.2),
and that of a super-block a sum of effects which are all zero for the MasterNet's own:

- `trend`: share_i * log(multiply-adds / the MasterNet's), where share_i is super-block i's
  share of the MasterNet's multiply-adds. The log of the total is no sum over super-blocks;
  this is its first-order form in the logs of their multiply-adds, exact when all change by
  one factor. (The other first-order form, share_i * (ratio - 1), overstates a super-block
  eightfold in size four times over.) Multiply-adds depend on the width that comes in.
- `block`: of type, kernel, ratio and block, the same wherever in the network.
- `place`: of type and block in one super-block.
- `slope`: of log(depth / the MasterNet's) and log(width / the MasterNet's), for all
  super-blocks and by type.
- `local slope`: the same in one super-block, and for one block in one super-block.

Stem and head have a slope on their width, each its own, and their part of the trend.

`level` is no effect of a structure but of trials: what re-initialising a super-block costs
after a trial's short training, the zero that control trials measure. `whole` is the same for
structures that were trained from scratch: what their training gives beside the MasterNet's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from genets.nas.accuracy.gaussian import Floats, Integers
from genets.structure import BLOCK_TYPES, Block, Structure, SuperBlock
from genets.structure.cost import input_resolutions, stage_multiply_adds

# Column: its kind, and what it belongs to: a super-block, a type, a block; "" for all others.
Column = tuple[str, int | str, Block | str]
EVERYWHERE = ""
UNSEEN = "unseen"  # stands for every block that no trial has tried: prior only

SCALE_GROUPS = ("block", "place", "slope", "local slope")


class FeatureMap:
    """Columns of the design matrix, and their values for super-blocks of a design space.

    blocks: the blocks that trials have tried; all others share one column.
    whole: whether structures that were trained from scratch are observed beside trials.
    """

    def __init__(self, master: Structure, blocks: Iterable[Block], *, whole: bool = False) -> None:
        self.master = master
        of_super_blocks = (block for block in blocks if block.type != "Conv")
        self.blocks = tuple(sorted({*of_super_blocks, *(s.block for s in master.super_blocks)}))
        self._resolutions = dict(zip(master.indices, input_resolutions(master), strict=True))
        own = {
            index: self.multiply_adds(index, master.input_width(index), master.stage(index))
            for index in master.indices
        }
        self._own_multiply_adds = own
        total = sum(own[index] for index in range(len(master.super_blocks)))
        self.shares = {index: adds / total for index, adds in own.items()}
        kinds = dict(self._columns())
        if whole:
            kinds["whole", EVERYWHERE, EVERYWHERE] = (-1, 1)
        self.columns = {column: number for number, column in enumerate(kinds)}
        self.groups: Integers = np.array([g for g, _ in kinds.values()], np.int64)
        self.base_variance: Floats = np.array([variance for _, variance in kinds.values()])

    def __len__(self) -> int:
        return len(self.columns)

    def multiply_adds(self, index: int, input_width: int, super_block: SuperBlock) -> int:
        return stage_multiply_adds(super_block, input_width, self._resolutions[index])

    def _columns(self) -> Iterator[tuple[Column, tuple[int, float]]]:
        """Each column with its scale group (-1: fixed) and its variance within the group.

        Within a group the variances are shared out evenly over what is nested in it.
        """
        places, ends = range(len(self.master.super_blocks)), self._ends
        types = [name for name in BLOCK_TYPES if name != "Conv"]
        blocks: tuple[Block | str, ...] = (*self.blocks, UNSEEN)
        yield ("trend", EVERYWHERE, EVERYWHERE), (-1, 1)
        for place in (EVERYWHERE, *places, *ends):
            yield ("level", place, EVERYWHERE), (-1, 1)
        yield ("kernel", EVERYWHERE, EVERYWHERE), (0, 0.5)
        for name in types:
            yield ("type", EVERYWHERE, name), (0, 0.5)
            yield ("ratio", EVERYWHERE, name), (0, 0.25)
        for block in blocks:
            yield ("block", EVERYWHERE, block), (0, 0.5)
        for place in places:
            yield from ((("type", place, name), (1, 0.5)) for name in types)
            yield from ((("block", place, block), (1, 0.5)) for block in blocks)
        for kind in ("depth", "width"):
            yield (kind, EVERYWHERE, EVERYWHERE), (2, 1)
            yield from (((kind, EVERYWHERE, name), (2, 0.25)) for name in types)
            for place in places:
                yield (kind, place, EVERYWHERE), (3, 1)
                yield from (((kind, place, block), (3, 0.5)) for block in blocks)
        yield from ((("width", end, EVERYWHERE), (2, 1)) for end in ends)

    @property
    def _ends(self) -> tuple[int, int]:
        """Stem and head."""
        return self.master.indices[0], self.master.indices[-1]

    def _terms(self, index: int, super_block: SuperBlock) -> Iterator[tuple[Column, float]]:
        """The effects of a stage, less the trend, with their values."""
        own = self.master.stage(index)
        if index in self._ends:
            yield ("width", index, EVERYWHERE), math.log(super_block.width / own.width)
            return
        name = super_block.type
        block = super_block.block if super_block.block in self.blocks else UNSEEN
        yield ("kernel", EVERYWHERE, EVERYWHERE), 2 * math.log(super_block.kernel / 3)
        yield ("ratio", EVERYWHERE, name), math.log(super_block.ratio)
        for place in (EVERYWHERE, index):
            yield ("type", place, name), 1.0
            yield ("block", place, block), 1.0
        for kind, ratio in (
            ("depth", super_block.depth / own.depth),
            ("width", super_block.width / own.width),
        ):
            yield (kind, EVERYWHERE, EVERYWHERE), math.log(ratio)
            yield (kind, EVERYWHERE, name), math.log(ratio)
            yield (kind, index, EVERYWHERE), math.log(ratio)
            yield (kind, index, block), math.log(ratio)

    def local(self, index: int, super_blocks: Sequence[SuperBlock]) -> Floats:
        """(super-blocks, columns): all but the trend, as differences from the MasterNet's own."""
        rows = np.zeros((len(super_blocks), len(self)))
        for row, super_block in zip(rows, super_blocks, strict=True):
            for column, value in self._terms(index, super_block):
                row[self.columns[column]] += value
            for column, value in self._terms(index, self.master.stage(index)):
                row[self.columns[column]] -= value
        return rows

    def trend(
        self, index: int, input_widths: Sequence[int], super_blocks: Sequence[SuperBlock]
    ) -> Floats:
        """(input widths, super-blocks): share_i * log(multiply-adds / the MasterNet's).

        Those of the head are counted behind the MasterNet's own width: what more channels there
        bring is told by the last super-block's effects.
        """
        if index in self._ends:
            input_widths = [self.master.input_width(index)] * len(input_widths)
        adds = [
            [self.multiply_adds(index, width, s) for s in super_blocks] for width in input_widths
        ]
        return self.shares[index] * np.log(np.array(adds) / self._own_multiply_adds[index])

    def structure(self, structure: Structure) -> Floats:
        """(columns,): the sum over all stages of a structure."""
        row = np.zeros(len(self))
        trend = self.columns["trend", EVERYWHERE, EVERYWHERE]
        for index in structure.indices:
            stage, width = structure.stage(index), structure.input_width(index)
            row += self.local(index, [stage])[0]
            row[trend] += self.trend(index, [width], [stage])[0, 0]
        return row

    def trial(self, index: int, super_block: SuperBlock) -> Floats:
        """(columns,): a trial's structure and its level."""
        row = self.structure(self.master.with_stage(index, super_block))
        for place in (EVERYWHERE, index):
            row[self.columns["level", place, EVERYWHERE]] = 1.0
        return row

    def whole(self, structure: Structure) -> Floats:
        """(columns,): a structure that was trained from scratch, and the level of such."""
        row = self.structure(structure)
        row[self.columns["whole", EVERYWHERE, EVERYWHERE]] = 1.0
        return row
