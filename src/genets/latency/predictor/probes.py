"""Probes: the small networks that are timed for a latency table.

A latency table is made from three kinds of probes: chains of blocks, stems and heads, and chains of
almost empty layers. The last kind measures the overhead that a probe has and the same layers
inside a network do not have.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import nn

from genets.latency.predictor.work import CHANNEL_TILE
from genets.networks import build
from genets.networks.block_layers import block_stage
from genets.structure import Block, SearchSpace, Structure, SuperBlock
from genets.structure.cost import input_resolutions
from genets.structure.structure import IMAGE_CHANNELS

if TYPE_CHECKING:
    from timm.models.byobnet import ByobNet

CHAIN_EXTRA = 2  # a long chain has this many more layers than a short chain
GRID_WIDTHS = 5
NORM_WEIGHT = 0.25  # in place of zero
MIN_SHARE = 0.2  # the overhead leaves at least this share of a probe's time


@dataclass(frozen=True, slots=True, order=True)
class BlockProbe:
    """A chain of `depth` blocks, as in the super-block `index` of a network.

    input_width: channels that the first block reads.
    resolution: pixels along one side of the feature map that the first block reads.
    """

    index: int
    block: Block
    input_width: int
    width: int
    stride: int
    resolution: int
    depth: int = 1

    def network(self) -> nn.Module:
        """The chain with fresh weights; it reads (N, input_width, resolution, resolution)."""
        with _fixed_seed():
            stage = block_stage(self.block, self.input_width, self.width, self.stride, depth=2)
        fill_zero_norms(stage)
        first, rest = stage
        return nn.Sequential(first, *(copy.deepcopy(rest) for _ in range(self.depth - 1)))


@dataclass(frozen=True, slots=True, order=True)
class StemOrHeadProbe:
    """The stem, which reads images, or the head with the classifier.

    width: channels of its convolution.
    resolution: pixels along one side of the images or feature map that it reads.
    """

    name: Literal["stem", "head"]
    input_width: int
    width: int
    resolution: int

    def network(self, num_classes: int) -> nn.Module:
        """The part with fresh weights, taken from a network whose other parts are minimal."""
        is_stem = self.name == "stem"
        stem = SuperBlock("Conv", 1, self.width if is_stem else 8, stride=2)
        middle = SuperBlock("XX", 1, 8, kernel=1)
        last = middle if is_stem else SuperBlock("XX", 1, self.input_width, kernel=1)
        head = SuperBlock("Conv", 1, 8 if is_stem else self.width, kernel=1)
        structure = Structure((stem, middle, last, head), resolution=64)
        network = build_for_timing(structure, num_classes)
        parts = (network.stem,) if is_stem else (network.final_conv, network.head)
        return nn.Sequential(*parts)


@dataclass(frozen=True, slots=True, order=True)
class OverheadProbe:
    """A chain of `length` layers that compute almost nothing: (N, width, resolution, resolution).

    It measures the costs that every probe has at its two ends and a network has only once:
    converting inputs to the engine's layout or type and outputs back, reading inputs that no layer
    has just written, and starting.
    """

    width: int
    resolution: int
    length: int = 1

    @property
    def input_width(self) -> int:
        return self.width

    def network(self) -> nn.Module:
        """The chain with fresh weights; it does one multiply-add for each value."""
        with _fixed_seed():
            layers = (
                nn.Conv2d(self.width, self.width, 1, groups=self.width) for _ in range(self.length)
            )
            return nn.Sequential(*layers)


Probe = BlockProbe | StemOrHeadProbe | OverheadProbe


def build_for_timing(structure: Structure, num_classes: int) -> ByobNet:
    """Build a network with fresh, seeded weights; see `fill_zero_norms`."""
    with _fixed_seed():
        network = build(structure, num_classes)
    fill_zero_norms(network)
    return network


def fill_zero_norms(network: nn.Module) -> None:
    """Replace the zero weights of norms in place.

    timm initialises the last norm of a residual branch with zeros. Multiplying zeros takes less
    power and, on some devices, less time.
    """
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and not bool(module.weight.any()):
            nn.init.constant_(module.weight, NORM_WEIGHT)


@contextmanager
def _fixed_seed() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def block_probes(space: SearchSpace, resolution: int) -> Iterator[BlockProbe]:
    """The chains that are timed for one input resolution.

    For each super-block, block and width of a coarse grid, there is a chain of one block and a
    longer chain. Both read the middle one of the previous super-block's widths. The effect of
    other input widths follows from the work.
    """
    sides = list(input_resolutions(space.master.with_resolution(resolution)))[1:]
    for index, stage in enumerate(space.master.super_blocks):
        before = space.widths[index - 1]
        middle = before[len(before) // 2]
        for block in space.blocks[index]:
            for width in coarse_grid(space.widths[index]):
                # A stride-1 block whose input has the same width would have no projection.
                options = [w for w in before if w != width] if stage.stride == 1 else [middle]
                read = min(options, key=lambda w: abs(w - middle), default=middle)
                for depth in (1, 1 + CHAIN_EXTRA):
                    yield BlockProbe(index, block, read, width, stage.stride, sides[index], depth)


def stem_and_head_probes(space: SearchSpace, resolution: int) -> Iterator[StemOrHeadProbe]:
    """The stem, and the head with the classifier, for coarse grids of input widths and widths."""
    sides = list(input_resolutions(space.master.with_resolution(resolution)))
    stem, *_, last, head = space.master.indices
    for width in coarse_grid(space.widths[stem]):
        yield StemOrHeadProbe("stem", IMAGE_CHANNELS, width, sides[0])
    for input_width, width in product(
        coarse_grid(space.widths[last]), coarse_grid(space.widths[head])
    ):
        yield StemOrHeadProbe("head", input_width, width, sides[-1])


def overhead_probes(space: SearchSpace, resolution: int) -> Iterator[OverheadProbe]:
    """Two chains for each width of a coarse grid of the widths that block probes read or write."""
    sides = list(input_resolutions(space.master.with_resolution(resolution)))
    for before, side in zip(space.master.indices[:-1], sides[1:], strict=True):
        for width in coarse_grid(space.widths[before]):
            yield from (OverheadProbe(width, side, length) for length in (1, 1 + CHAIN_EXTRA))


def coarse_grid(widths: tuple[int, ...]) -> tuple[int, ...]:
    """The smallest and largest width, and widths at a quarter, half and three quarters between.

    Where possible, the middle width fills whole tiles of channels and the other two do not. A width
    between tiles has a cost of its own: 216 channels inside a DW block cost a third more than their
    multiply-adds suggest.
    """
    if len(widths) <= GRID_WIDTHS:
        return widths
    chosen = {widths[0], widths[-1]}
    for share, ragged in ((0.25, True), (0.5, False), (0.75, True)):
        position = widths[0] + share * (widths[-1] - widths[0])
        free = [width for width in widths if width not in chosen]
        fitting = [width for width in free if (width % CHANNEL_TILE != 0) == ragged]
        chosen.add(min(fitting or free, key=lambda width: abs(width - position)))
    return tuple(sorted(chosen))


def subtract_overhead(timed_ms: Mapping[Probe, float]) -> dict[BlockProbe | StemOrHeadProbe, float]:
    """ms per batch of blocks, stems and heads as parts of a network.

    Chains of one and of several almost empty layers give the time of no layer at all, which is the
    overhead of entering and leaving a probe. A block probe enters with the values that it reads and
    leaves with the values that it writes, so half of each overhead is subtracted. The stem reads
    images, as in a network, and nothing is subtracted. The head returns logits, as in a network,
    and only the half for its input is subtracted. Between timed widths the overhead is
    interpolated. Without timed overhead probes nothing is subtracted.
    """
    overhead_ms = _overhead_ms(timed_ms)

    def half(width: int, resolution: int) -> float:
        widths, ms = np.array(sorted(overhead_ms[resolution].items())).T
        return float(np.interp(width, widths, ms)) / 2

    parts_ms: dict[BlockProbe | StemOrHeadProbe, float] = {}
    for probe, ms in timed_ms.items():
        if isinstance(probe, OverheadProbe):
            continue
        overhead = 0.0
        if overhead_ms and isinstance(probe, BlockProbe):
            side = -(-probe.resolution // probe.stride)
            overhead = half(probe.input_width, probe.resolution) + half(probe.width, side)
        elif overhead_ms and isinstance(probe, StemOrHeadProbe) and probe.name == "head":
            overhead = half(probe.input_width, probe.resolution)
        parts_ms[probe] = max(ms - overhead, MIN_SHARE * ms)
    return parts_ms


def _overhead_ms(timed_ms: Mapping[Probe, float]) -> dict[int, dict[int, float]]:
    """ms of entering and leaving a probe, by resolution and width."""
    overhead: dict[int, dict[int, float]] = {}
    for probe, ms in timed_ms.items():
        if isinstance(probe, OverheadProbe) and probe.length == 1:
            long = timed_ms[OverheadProbe(probe.width, probe.resolution, 1 + CHAIN_EXTRA)]
            layer = max(long - ms, 0.0) / CHAIN_EXTRA
            overhead.setdefault(probe.resolution, {})[probe.width] = max(ms - layer, 0.0)
    return overhead
