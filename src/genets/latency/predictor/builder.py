"""Building a latency table: what is prepared, and in which order it is timed.

Long runs: how a table is made where one run of the target is too long to be repeated often.

At 192 pixels and batch 64 a run of genet_normal takes seconds on a CPU, and a table of the
default design space has 648 pieces.

Suspicion: timed pieces that contradict each other.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
from torch import nn

from genets.latency.engines import ENGINES, DeviceClock, Engine, Run
from genets.latency.environment import describe_environment
from genets.latency.predictor.probes import (
    Edge,
    End,
    Piece,
    Probe,
    build_live,
    edges_of,
    ends_of,
    pieces_of,
)
from genets.latency.predictor.table import LatencyTable, Use, WholeNetwork
from genets.latency.target import Target
from genets.latency.timing.drift import Timed, time_in_rounds
from genets.latency.timing.memory import free_bytes, resident_bytes_of
from genets.structure import SearchSpace, Structure
from genets.structure.cost import multiply_adds

CALIBRATION_NETWORKS = 20
LOOKS = 3  # at the MasterNet, to see how long its runs are
PREPARING = 0.5  # share of the progress
# Read and again as many written between two runs of a piece on a CPU: 8 MiB in fp32. In a network
# the other layers use the caches in between.
PASSING_VALUES = 2**20
PASSING_CHANNELS = 64

Progress = Callable[[float], None]
Item = Probe | Structure


def build_table(
    space: SearchSpace,
    target: Target,
    num_classes: int,
    *,
    seed: int,
    time_limit_s: float,
    held_out: int,
    on_progress: Progress | None,
) -> LatencyTable:
    """See `LatencyTable.build`."""
    rng = np.random.default_rng(seed)
    master, engine, count = space.master, ENGINES[target.engine], CALIBRATION_NETWORKS + held_out
    with engine.open(target) as clock:
        master_s = _run_s(engine, clock, target, master, num_classes)
        pieces = replace(target, batch_size=piece_batch_size(master_s, target.batch_size))
        environment = describe_environment(target) | {"piece_batch_size": pieces.batch_size}
        if pieces == target:
            structures = _sample(space, rng, count)
        else:
            structures = lightest(_sample(space, rng, DRAWN_FOR_ONE * count), count, rng)
        items = _items(space, structures)
        session = _Session(
            engine, clock, target, pieces, num_classes, rng, time_limit_s / len(items),
            _Told(on_progress or (lambda share: None), len(items)),
        )  # fmt: skip
        timed_s = session.time(items)
    networks = []
    for number, structure in enumerate(structures):
        use: Use = "calibration" if number < CALIBRATION_NETWORKS else "held-out"
        networks.append(WholeNetwork(structure, 1e3 * timed_s[structure], use))
    # The search starts from the MasterNet, so the prediction should fit there above all.
    networks.append(WholeNetwork(master, 1e3 * timed_s[master], "calibration"))
    timed_ms = {
        item: 1e3 * seconds for item, seconds in timed_s.items() if not isinstance(item, Structure)
    }
    return LatencyTable(
        space, target.resolved(), num_classes, timed_ms, tuple(networks), environment,
        session.seconds,
    )  # fmt: skip


def _run_s(
    engine: Engine, clock: DeviceClock, target: Target, master: Structure, num_classes: int
) -> float:
    """Seconds of one run of the MasterNet, roughly: the least of some, as others may disturb."""
    network = build_live(master, num_classes)
    run = engine.prepare(network, target, master.resolution, quickly=True)
    return min(clock.time_runs(run, 1) for _ in range(LOOKS))


def _items(space: SearchSpace, structures: list[Structure]) -> list[Item]:
    found: list[Item] = [space.master, *structures]
    for resolution in space.resolutions:
        found += [*pieces_of(space, resolution), *ends_of(space, resolution)]
        found += edges_of(space, resolution)
    return list(dict.fromkeys(found))


@dataclass
class _Told:
    """How far the building is, told as a share that never falls."""

    report: Progress
    items: int
    prepared: int = 0
    timed: float = 0.0

    def tell(self) -> None:
        share = PREPARING * self.prepared + (1 - PREPARING) * self.timed
        self.report(min(1.0, share / self.items))


@dataclass(frozen=True)
class _Session:
    """An open engine, what is to be prepared with it, and the seconds that both parts took.

    pieces: the target with the batch size at which pieces are timed.
    """

    engine: Engine
    clock: DeviceClock
    target: Target
    pieces: Target
    num_classes: int
    rng: np.random.Generator
    seconds_per_item: float
    told: _Told
    seconds: dict[str, float] = field(default_factory=lambda: {"preparing": 0.0, "timing": 0.0})

    def time(self, items: list[Item]) -> dict[Item, float]:
        """Seconds of one run of each at the target: pieces and whole networks side by side.

        How memory happens to be laid out changes small networks by some percent; timed at
        another time than their pieces, they would not be the sum of them.
        """
        timed_s: dict[Item, float] = {}
        runs: dict[Item, Run] = {}
        held, limit = 0, free_bytes(self.target)
        for item in items:
            start = time.perf_counter()
            network, at = self._network(item), self._at(item)
            size = resident_bytes_of(network, item.resolution, at.batch_size)
            if runs and held + size > limit:
                timed_s |= self._timed(runs)
                start, runs, held = time.perf_counter(), {}, 0
            runs[item] = self.engine.prepare(network, at, item.resolution, quickly=True)
            held += size
            self.seconds["preparing"] += time.perf_counter() - start
            self.told.prepared += 1
            self.told.tell()
        return timed_s | self._timed(runs)

    def _timed(self, runs: dict[Item, Run]) -> dict[Item, float]:
        start, already = time.perf_counter(), self.told.timed
        before: dict[Item, Run] = {}
        if self.target.is_cpu:
            pieces = (item for item in runs if not isinstance(item, Structure))
            before = dict.fromkeys(pieces, self._passing())

        def on_progress(share: float) -> None:
            self.told.timed = already + share * len(runs)
            self.told.tell()

        timed = time_in_rounds(
            self.clock,
            runs,
            rng=self.rng,
            before=before,
            time_limit_s=self.seconds_per_item * len(runs),
            on_progress=on_progress,
            doubtful=suspicious,
        )
        self.seconds["timing"] += time.perf_counter() - start
        whole = self.target.batch_size
        return {i: found.seconds * whole / self._at(i).batch_size for i, found in timed.items()}

    def _at(self, item: Item) -> Target:
        return self.target if isinstance(item, Structure) else self.pieces

    def _network(self, item: Item) -> nn.Module:
        if isinstance(item, Piece | Edge):
            return item.network()
        if isinstance(item, End):
            return item.network(self.num_classes)
        return build_live(item, self.num_classes)

    def _passing(self) -> Run:
        """Moves as much memory as other layers do between two runs of a piece.

        By the engine itself: the threads of another library would spin on, beside its own.
        """
        layer = nn.Conv2d(PASSING_CHANNELS, PASSING_CHANNELS, 1, groups=PASSING_CHANNELS)
        pixels = PASSING_VALUES / (PASSING_CHANNELS * self.pieces.batch_size)
        side = max(1, round(math.sqrt(pixels)))
        return self.engine.prepare(layer.eval(), self.pieces, side, quickly=True)


def _sample(space: SearchSpace, rng: np.random.Generator, count: int) -> list[Structure]:
    """Distinct structures, not the MasterNet; fewer where the space is that small."""
    wanted = min(count, space.size - 1)
    found: dict[Structure, None] = {}
    for _ in range(100 * count):
        structure = space.sample(rng)
        if structure != space.master:
            found[structure] = None
        if len(found) >= wanted:
            break
    return list(found)


LONG_RUN_S = 0.2  # of the MasterNet
DRAWN_FOR_ONE = 20


def piece_batch_size(master_run_s: float, batch_size: int) -> int:
    """Images that pieces are timed with: the target's, halved until the MasterNet is not long.

    An image takes about as long in a small batch as in a large one where both keep the device
    busy so long; what is left of the difference is for the calibration, on whole networks at the
    target's batch size.
    """
    size = batch_size
    while size > 1 and master_run_s * size / batch_size > LONG_RUN_S:
        size = -(-size // 2)
    return size


def lightest(drawn: list[Structure], count: int, rng: np.random.Generator) -> list[Structure]:
    """The `count` structures of the fewest multiply-adds, in random order.

    Most of a design space is several times as slow as its MasterNet, and no search ends there.
    """
    chosen = sorted(drawn, key=multiply_adds)[:count]
    return [chosen[which] for which in rng.permutation(len(chosen))]


BEYOND = 2.0  # standard errors of a difference


def suspicious(timed: Mapping[Probe | Structure, Timed]) -> list[Probe]:
    """Pieces that take less time than a narrower or shallower one, and those, each once.

    Only where the difference is more than their noise. A width between two whole tiles of
    channels may well cost more than a somewhat wider one: it is suspected, and stays as it is.
    """
    found: dict[Probe, None] = {}
    for less, more in _pairs([item for item in timed if isinstance(item, Probe)]):
        low, high = timed[less], timed[more]
        noise = math.hypot(low.error, high.error)
        if math.log(low.seconds / high.seconds) > BEYOND * noise:
            found |= {less: None, more: None}
    return list(found)


def _pairs(
    pieces: list[Probe],
) -> Iterator[tuple[Probe, Probe]]:
    """The one that should be faster first."""
    rows: dict[Hashable, list[Probe]] = {}
    for piece in pieces:
        if isinstance(piece, Piece):
            rows.setdefault(replace(piece, width=0, input_width=0), []).append(piece)
            rows.setdefault(replace(piece, depth=0), []).append(piece)
        elif isinstance(piece, Edge):
            rows.setdefault(replace(piece, width=0), []).append(piece)
            rows.setdefault(replace(piece, length=0), []).append(piece)
        else:
            rows.setdefault(replace(piece, input_width=0), []).append(piece)
            rows.setdefault(replace(piece, width=0), []).append(piece)
    for row in rows.values():
        for less, more in pairwise(sorted(row)):
            if less.input_width <= more.input_width:
                yield less, more
