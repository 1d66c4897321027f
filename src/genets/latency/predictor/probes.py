"""Probes: the small networks that are timed for a latency table.

A latency table is made from three kinds of probes: chains of blocks, stems and heads, and chains of
almost empty layers. The last kind measures the overhead that a probe has and the same layers
inside a network do not have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product, repeat
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
import torch
from torch import nn

from genets.latency.predictor.work import CHANNEL_TILE
from genets.networks import build
from genets.networks.block_layers import block_stage
from genets.networks.build import check_memory, seeded_weights
from genets.networks.random_weights import fill_weights, materialise
from genets.structure import BLOCK_TYPES, Block, SearchSpace, Structure, SuperBlock
from genets.structure.cost import (
    input_resolutions,
    stage_convolutions,
    structure_convolutions,
)
from genets.structure.layers import Convolution
from genets.structure.structure import IMAGE_CHANNELS

if TYPE_CHECKING:
    from timm.models.byobnet import ByobNet

Network = TypeVar("Network", bound=nn.Module)

CHAIN_EXTRA = 2  # a long chain has this many more layers than a short chain
GRID_WIDTHS = 5
SEED = 0  # of the weights
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

    @property
    def stage(self) -> SuperBlock:
        """The super-block that the chain is."""
        block = self.block
        return SuperBlock(
            block.type, self.depth, self.width, self.stride, block.kernel, block.ratio
        )

    def convolutions(self) -> Iterator[Convolution]:
        return stage_convolutions(self.stage, self.input_width, self.resolution)

    def network(self, device: str = "cpu") -> nn.Module:
        """The chain with weights for timing; it reads (N, input_width, resolution, resolution)."""

        def make() -> nn.Module:
            return block_stage(self.block, self.input_width, self.width, self.stride, self.depth)

        return _make_for_timing(make, [self.block.type], device)


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

    def convolutions(self) -> Iterator[Convolution]:
        stride, kernel = (2, 3) if self.name == "stem" else (1, 1)
        stage = SuperBlock("Conv", 1, self.width, stride, kernel)
        return stage_convolutions(stage, self.input_width, self.resolution)

    def network(self, num_classes: int, device: str = "cpu") -> nn.Module:
        """The part with weights for timing, taken from a network whose other parts are minimal."""
        is_stem = self.name == "stem"
        stem = SuperBlock("Conv", 1, self.width if is_stem else 8, stride=2)
        middle = SuperBlock("XX", 1, 8, kernel=1)
        last = middle if is_stem else SuperBlock("XX", 1, self.input_width, kernel=1)
        head = SuperBlock("Conv", 1, 8 if is_stem else self.width, kernel=1)
        structure = Structure((stem, middle, last, head), resolution=64)

        def make() -> nn.Module:
            network = build(structure, num_classes)
            parts = (network.stem,) if is_stem else (network.final_conv, network.head)
            return nn.Sequential(*parts)

        return _make_for_timing(make, [], device)


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

    def convolutions(self) -> Iterator[Convolution]:
        layer = Convolution(self.width, self.width, 1, 1, self.resolution, self.resolution)
        return repeat(layer, self.length)

    def network(self, device: str = "cpu") -> nn.Module:
        """The chain with weights for timing; it does one multiply-add for each value."""

        def make() -> nn.Module:
            layers = (
                nn.Conv2d(self.width, self.width, 1, groups=self.width) for _ in range(self.length)
            )
            return nn.Sequential(*layers)

        return _make_for_timing(make, [], device)


Probe = BlockProbe | StemOrHeadProbe | OverheadProbe
Item = Probe | Structure


def build_item(item: Item, num_classes: int, device: str) -> nn.Module:
    """Build a probe or a whole network with weights for timing on a device."""
    if isinstance(item, Structure):
        return build_for_timing(item, num_classes, device)
    if isinstance(item, StemOrHeadProbe):
        return item.network(num_classes, device)
    return item.network(device)


def item_convolutions(item: Item) -> Iterator[Convolution]:
    """The convolutions of a probe or a whole network, in the order in which they run."""
    return structure_convolutions(item) if isinstance(item, Structure) else item.convolutions()


def build_for_timing(structure: Structure, num_classes: int, device: str = "cpu") -> ByobNet:
    """Build a network with weights for timing; see `fill_weights`.

    Args:
        structure: The structure.
        num_classes: The number of logits.
        device: The device of the network; no weight is drawn on another device.
    """
    check_memory(structure, num_classes)
    types = [stage.type for stage in structure.stages]
    return _make_for_timing(lambda: build(structure, num_classes), types, device)


def _make_for_timing(
    make: Callable[[], Network], block_types: Iterable[str], device: str
) -> Network:
    """Make a network on torch's meta device, and then its weights on `device`.

    A user's own block type may hold tensors that only its constructor fills, so a network with
    such blocks is made on `device` itself.
    """
    own = any(BLOCK_TYPES[name].layers_at is not None for name in block_types)
    with torch.device(device if own else "meta"), seeded_weights(SEED):
        network = make()
    if not own:
        materialise(network, device, SEED)
    elif device != "meta":
        fill_weights(network, SEED)
    return network


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
