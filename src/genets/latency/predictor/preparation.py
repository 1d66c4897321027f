"""Preparation: the work and the memory that preparing the items of a latency table takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from torch import nn

from genets.latency.engines import Engine, Run
from genets.latency.engines.memory import Footprint
from genets.latency.predictor.probes import Item, StemOrHeadProbe, item_convolutions
from genets.latency.target import Target
from genets.structure import Structure
from genets.structure.layers import Convolution

# The algorithm search of cuDNN for one shape takes about as long as building this many
# convolutions: 25 ms against 1 ms on an H200.
SEARCHED = 25
# Values that pass through the caches between two runs of a probe on a CPU: this many are read and
# as many are written, 8 MiB in fp32. In a network, the other layers use the caches in between.
PASSING_VALUES = 2**20
PASSING_CHANNELS = 64
SURE_SHARE = 0.02  # of the timing, after which its own speed shows how long it takes

# A convolution at a batch size; cuDNN searches an algorithm for each, once in a process.
Shape = tuple[int, Convolution]


def new_shapes(items: Iterable[tuple[Item, int]]) -> dict[Item, int]:
    """Count, for each item, the distinct shapes of convolutions that no earlier item has.

    Args:
        items: The items in the order of their preparation, each with its batch size.
    """
    seen: set[Shape] = set()
    counts = {}
    for item, batch_size in items:
        before = len(seen)
        seen |= {(batch_size, each) for each in item_convolutions(item)}
        counts[item] = len(seen) - before
    return counts


def preparing_weights(items: Iterable[tuple[Item, int]], target: Target) -> dict[Item, int]:
    """Weigh each item by the time that preparing it takes: convolutions and, on CUDA, new shapes.

    Args:
        items: See `new_shapes`.
        target: The target of the table.
    """
    searched = 0 if target.is_cpu else SEARCHED
    return {
        item: sum(1 for _ in item_convolutions(item)) + searched * shapes
        for item, shapes in new_shapes(items).items()
    }


@dataclass
class Room:
    """Memory for prepared items.

    Attributes:
        limit: Bytes that all items together may take.
        footprint: The memory of a prepared network.
        num_classes: The outputs of the whole networks and heads.
        held: Bytes of weights and inputs so far.
        maps: Bytes of feature maps so far.
        inputs: The distinct shapes of the inputs so far.
    """

    limit: int
    footprint: Footprint
    num_classes: int
    held: int = 0
    maps: int = 0
    inputs: set[tuple[int, ...]] = field(default_factory=set)

    def take(self, item: Item, batch_size: int) -> bool:
        """Add an item; False where it does not fit beside those that were added before."""
        convolutions = list(item_convolutions(item))
        if not convolutions:  # an own block that is an identity
            return True
        parameters = sum(each.window * each.per_group * each.outputs for each in convolutions)
        if isinstance(item, Structure | StemOrHeadProbe):
            parameters += convolutions[-1].outputs * self.num_classes
        shape = batch_size, convolutions[0].inputs, item.resolution, item.resolution
        footprint = self.footprint
        held = self.held + footprint.weight_bytes * parameters
        if not (footprint.shares_inputs and shape in self.inputs):
            held += footprint.value_bytes * math.prod(shape)
        largest = max(each.largest_values for each in convolutions)
        maps = footprint.map_bytes(largest, batch_size)
        maps = max(self.maps, maps) if footprint.shares_maps else self.maps + maps
        if self.held and held + maps > self.limit:
            return False
        self.held, self.maps = held, maps
        self.inputs.add(shape)
        return True


@dataclass
class PreparingProgress:
    """Reports the spent time as a share of the expected time; the share never falls.

    Only the timing has a limit, and preparing a whole network takes longer than preparing a probe.
    So the share of the items would say nothing on the time that is left.

    Attributes:
        report: Called with the share.
        items: The number of all items.
        weight: The sum of the weights of the items to prepare; see `preparing_weights`.
        limit_s: The time limit of the timing.
        prepared: The weight of the items that are prepared.
        timed: The number of items that are timed; one that is timed in part counts in part.
    """

    report: Callable[[float], None]
    items: int
    weight: int
    limit_s: float
    prepared: int = 0
    timed: float = 0.0
    shown: float = 0.0

    def update(self, preparing_s: float, timing_s: float) -> None:
        """Report the share after so many seconds of both steps."""
        timed = self.timed / self.items
        left_s = 0.0
        if self.prepared:
            left_s = preparing_s / self.prepared * (self.weight - self.prepared)
        left_s += timing_s / timed * (1 - timed) if timed > SURE_SHARE else self.limit_s
        spent_s = preparing_s + timing_s
        self.shown = max(self.shown, spent_s / max(spent_s + left_s, 1e-9))
        self.report(min(1.0, self.shown))


def prepare_passing(engine: Engine, target: Target) -> Run:
    """A run that moves as much memory as other layers do between two runs of a probe.

    The engine itself runs it: the threads of another library would keep spinning beside the
    engine's own threads.

    Args:
        engine: The engine, which is open.
        target: The target of the probes.
    """
    layer = nn.Conv2d(PASSING_CHANNELS, PASSING_CHANNELS, 1, groups=PASSING_CHANNELS)
    pixels = PASSING_VALUES / (PASSING_CHANNELS * target.batch_size)
    side = max(1, round(math.sqrt(pixels)))
    return engine.prepare(layer.eval(), target, side, latency_only=True)
