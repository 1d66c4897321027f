"""Probes: the pieces of networks whose device time makes a latency table.

Edges: what a piece pays for standing alone, taken out of its time.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import nn

from genets.latency.predictor.work import CHANNEL_TILE
from genets.networks import build
from genets.structure import Block, SearchSpace, Structure, SuperBlock
from genets.structure.cost import input_resolutions
from genets.structure.structure import IMAGE_CHANNELS

if TYPE_CHECKING:
    from timm.models.byobnet import ByobNet


CHAIN_EXTRA = 2  # a long chain has this many blocks more than a short one
GRID_WIDTHS = 5
LIVE_GAIN = 0.25


@dataclass(frozen=True, slots=True, order=True)
class Piece:
    """A chain of `depth` blocks as they stand at super-block `index`.

    input_width: channels that the first block reads.
    resolution: pixels along one side of what the first block reads.
    """

    index: int
    block: Block
    input_width: int
    width: int
    stride: int
    resolution: int
    depth: int = 1

    def network(self) -> nn.Module:
        """The chain with fresh weights: (N, input_width, resolution, resolution) in."""
        block = self.block
        pair = SuperBlock(block.type, 2, self.width, self.stride, block.kernel, block.ratio)
        stem = SuperBlock("Conv", 1, self.input_width, stride=2)
        # Only the pair is used; ByobNet wants a second super-block and a head.
        end = (SuperBlock("XX", 1, 8, kernel=1), SuperBlock("Conv", 1, 8, kernel=1))
        first, rest = build_live(Structure((stem, pair, *end), resolution=64), 1).stages[0]
        return nn.Sequential(first, *(copy.deepcopy(rest) for _ in range(self.depth - 1)))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Piece:
        return cls(**{**record, "block": Block(**record["block"])})


@dataclass(frozen=True, slots=True, order=True)
class End:
    """The stem (input_width is the images' 3), or head and classifier, at `resolution`.

    width: channels of its convolution.
    """

    name: Literal["stem", "head"]
    input_width: int
    width: int
    resolution: int

    def network(self, num_classes: int) -> nn.Module:
        """The part with fresh weights, cut out of a network of next to nothing else."""
        is_stem = self.name == "stem"
        stem = SuperBlock("Conv", 1, self.width if is_stem else 8, stride=2)
        middle = SuperBlock("XX", 1, 8, kernel=1)
        last = middle if is_stem else SuperBlock("XX", 1, self.input_width, kernel=1)
        head = SuperBlock("Conv", 1, 8 if is_stem else self.width, kernel=1)
        network = build_live(Structure((stem, middle, last, head), resolution=64), num_classes)
        parts = (network.stem,) if is_stem else (network.final_conv, network.head)
        return nn.Sequential(*parts)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> End:
        return cls(**record)


@dataclass(frozen=True, slots=True, order=True)
class Edge:
    """A chain of `length` layers that compute next to nothing, (N, width, resolution, resolution).

    What a piece pays at its two ends and a network only once: taking inputs into the engine's own
    layout or type and giving outputs back, reading what no layer has just written, starting.
    """

    width: int
    resolution: int
    length: int = 1

    @property
    def input_width(self) -> int:
        return self.width

    def network(self) -> nn.Module:
        """The chain with fresh weights: one multiply-add for each value."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            layers = (
                nn.Conv2d(self.width, self.width, 1, groups=self.width) for _ in range(self.length)
            )
            return nn.Sequential(*layers)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Edge:
        return cls(**record)


Probe = Piece | End | Edge


def build_live(structure: Structure, num_classes: int) -> ByobNet:
    """A network with fresh weights, seeded, none of them zero.

    timm starts the last norm of a residual branch at zero. Multiplying zeros takes less power
    and with it, on some devices, less time.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build(structure, num_classes)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and not bool(module.weight.any()):
            nn.init.constant_(module.weight, LIVE_GAIN)
    return network


def pieces_of(space: SearchSpace, resolution: int) -> Iterator[Piece]:
    """Every chain that is timed for one input resolution.

    For each super-block, block and width of a coarse grid: one block, and a longer chain.
    They read the middle one of the widths before them; how time grows with the width that is
    read follows from the work.
    """
    sides = list(input_resolutions(space.master.with_resolution(resolution)))[1:]
    for index, stage in enumerate(space.master.super_blocks):
        before = space.widths[index - 1]
        reads = before[len(before) // 2]
        for block in space.blocks[index]:
            for width in coarse(space.widths[index]):
                # Where a stride-1 block of equal widths is timed, the projection is missing.
                other = [w for w in before if w != width] if stage.stride == 1 else [reads]
                read = min(other, key=lambda w: abs(w - reads), default=reads)
                for depth in (1, 1 + CHAIN_EXTRA):
                    yield Piece(index, block, read, width, stage.stride, sides[index], depth)


def ends_of(space: SearchSpace, resolution: int) -> Iterator[End]:
    """Stem, and head with classifier, for a coarse grid of widths read and handed on."""
    sides = list(input_resolutions(space.master.with_resolution(resolution)))
    stem, *_, last, head = space.master.indices
    for width in coarse(space.widths[stem]):
        yield End("stem", IMAGE_CHANNELS, width, sides[0])
    for input_width, width in product(coarse(space.widths[last]), coarse(space.widths[head])):
        yield End("head", input_width, width, sides[-1])


def edges_of(space: SearchSpace, resolution: int) -> Iterator[Edge]:
    """Two chains for a coarse grid of the widths that are read and written by pieces."""
    sides = list(input_resolutions(space.master.with_resolution(resolution)))
    for before, side in zip(space.master.indices[:-1], sides[1:], strict=True):
        for width in coarse(space.widths[before]):
            yield from (Edge(width, side, length) for length in (1, 1 + CHAIN_EXTRA))


def coarse(widths: tuple[int, ...]) -> tuple[int, ...]:
    """Smallest, largest, and widths a quarter, half and three quarters of the way between.

    The middle one fills whole tiles of channels, the other two do not, where there are such:
    a width between tiles has a cost of its own (216 channels inside a DW block cost a third
    more than their multiply-adds say).
    """
    if len(widths) <= GRID_WIDTHS:
        return widths
    chosen = {widths[0], widths[-1]}
    for share, ragged in ((0.25, True), (0.5, False), (0.75, True)):
        wanted = widths[0] + share * (widths[-1] - widths[0])
        free = [width for width in widths if width not in chosen]
        fitting = [width for width in free if (width % CHANNEL_TILE != 0) == ragged]
        chosen.add(min(fitting or free, key=lambda width: abs(width - wanted)))
    return tuple(sorted(chosen))


LEAST_SHARE = 0.2  # of a piece's time is left to it


def without_edges(
    timed_ms: Mapping[Probe, float],
) -> dict[Piece | End, float]:
    """ms per batch of pieces and ends as parts of a network.

    The time of no layer at all, from chains of one and of several layers next to nothing, is what
    it costs to enter and to leave; a piece enters with the values that it reads and leaves with
    those that it writes, half of each. The stem reads images as networks do, and the head gives
    back logits: they pay the other half only. Between the widths that were timed it is
    interpolated; without timed edges nothing is taken out.
    """
    known = _standing_alone(timed_ms)
    if not known:
        return {item: ms for item, ms in timed_ms.items() if not isinstance(item, Edge)}

    def half(width: int, resolution: int) -> float:
        widths, ms = np.array(sorted(known[resolution].items())).T
        return float(np.interp(width, widths, ms)) / 2

    found: dict[Piece | End, float] = {}
    for item, ms in timed_ms.items():
        if isinstance(item, Piece):
            side = -(-item.resolution // item.stride)
            edges = half(item.input_width, item.resolution) + half(item.width, side)
        elif isinstance(item, End):
            edges = half(item.input_width, item.resolution) if item.name == "head" else 0.0
        else:
            continue
        found[item] = max(ms - edges, LEAST_SHARE * ms)
    return found


def _standing_alone(
    timed_ms: Mapping[Probe, float],
) -> dict[int, dict[int, float]]:
    """ms of entering and leaving, by resolution and width."""
    known: dict[int, dict[int, float]] = {}
    for edge, ms in timed_ms.items():
        if isinstance(edge, Edge) and edge.length == 1:
            long = timed_ms[Edge(edge.width, edge.resolution, 1 + CHAIN_EXTRA)]
            layer = max(long - ms, 0.0) / CHAIN_EXTRA
            known.setdefault(edge.resolution, {})[edge.width] = max(ms - layer, 0.0)
    return known
