"""Chains of one block type, as in Figure 3 (paper, section 3.2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torch import nn

from genets.analysis.comparison.entries import Candidate
from genets.core.errors import GenetsError
from genets.latency.predictor.probes import Piece
from genets.structure import Block
from genets.structure.structure import WIDTH_STEP

KERNEL = 3
# 5 XX blocks have as many k x k convolutions as 10 of the others: the same visual region.
DEPTHS = {"XX": 5, "BL": 10, "DW": 10}


@dataclass(frozen=True, slots=True)
class BlockChain:
    """Blocks of one type, stride 1, kernel 3.

    width: channels between XX or BL blocks; of a DW block the channels of its depth-wise layer.
    ratio: at most 1, and 1 for XX. Of a DW block, in this section, the width between blocks
        over `width`: 1/r of the notation.
    """

    type: str
    width: int
    ratio: float

    @property
    def series(self) -> str:
        return self.type if self.type == "XX" else f"{self.type} r={self.ratio:g}"

    @property
    def name(self) -> str:
        return f"{self.series} width {self.width}"

    def network(self) -> nn.Module:
        """(N, channels between blocks, resolution, resolution) in and out."""
        if self.type == "DW":
            between, block = round(self.width * self.ratio), Block("DW", KERNEL, 1 / self.ratio)
        else:
            between, block = self.width, Block(self.type, KERNEL, self.ratio)
        return Piece(0, block, between, between, 1, 0, DEPTHS[self.type]).network()

    def candidate(self, resolution: int) -> Candidate:
        return Candidate(self.name, self.series, resolution, self.network)


def chains_of(widths: Iterable[int], ratios: Iterable[float]) -> Iterator[BlockChain]:
    """XX, and BL and DW with every ratio, for each width, ascending. Raises GenetsError."""
    ratios = sorted(set(ratios), reverse=True)
    for ratio in ratios:
        if not 0 < ratio <= 1:
            raise GenetsError(f"ratio must be above 0 and at most 1, not {ratio:g}")
    for width in sorted(set(widths)):
        for ratio in (1.0, *ratios):
            inner = width * ratio
            if inner < WIDTH_STEP or inner % WIDTH_STEP:
                raise GenetsError(
                    f"width times ratio must be a multiple of {WIDTH_STEP}, "
                    f"but {width} times {ratio:g} is {inner:g}"
                )
        yield BlockChain("XX", width, 1.0)
        for kind in ("BL", "DW"):
            for ratio in ratios:
                yield BlockChain(kind, width, ratio)
