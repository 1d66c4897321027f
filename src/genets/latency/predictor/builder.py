"""Builder: prepares and times the probes and whole networks of a latency table."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
from torch import nn

from genets.latency.engines import ENGINES, DeviceClock, Engine, Run
from genets.latency.engines.memory import estimate_network_bytes, free_bytes
from genets.latency.environment import describe_environment
from genets.latency.predictor.probes import (
    BlockProbe,
    OverheadProbe,
    Probe,
    StemOrHeadProbe,
    block_probes,
    build_for_timing,
    overhead_probes,
    stem_and_head_probes,
)
from genets.latency.target import Target
from genets.latency.timing.drift import TimeEstimate, time_in_rounds
from genets.latency.timing.watch import ActivityWatch
from genets.structure import SearchSpace, Structure
from genets.structure.cost import multiply_adds

CALIBRATION_NETWORKS = 20
MASTER_RUNS = 3  # runs of the MasterNet that show how long its runs are
SURE_SHARE = 0.02  # of the timing, after which its own speed shows how long it takes
# Values that pass through the caches between two runs of a probe on a CPU: this many are read and
# as many are written, 8 MiB in fp32. In a network, the other layers use the caches in between.
PASSING_VALUES = 2**20
PASSING_CHANNELS = 64
# Where a run of the MasterNet takes longer, probes are timed in a smaller batch, and the whole
# networks are the smallest of many. At 192 pixels and batch 64 a run of genet_normal takes seconds
# on a CPU, and a table of the default search space has 648 probes.
LONG_RUN_S = 0.2
DRAWS_PER_NETWORK = 20
CONTRADICTION_ERRORS = 2.0  # standard errors of a difference
# The sizes that grow in turn, with all other fields equal, in a comparison of probes.
SIZES: dict[type, tuple[tuple[str, ...], ...]] = {
    BlockProbe: (("width", "input_width"), ("depth",)),
    StemOrHeadProbe: (("input_width",), ("width",)),
    OverheadProbe: (("width",), ("length",)),
}

Use = Literal["calibration", "held-out", "correction"]
Item = Probe | Structure


@dataclass(frozen=True)
class WholeNetwork:
    """A measured network of a latency table.

    Attributes:
        structure: The structure of the network.
        ms_per_batch: Its measured latency.
        use: `calibration`, `held-out` (it measures the error of the table and is never fitted), or
            `correction` (measured after a selection).
    """

    structure: Structure
    ms_per_batch: float
    use: Use


class TableTimings(NamedTuple):
    """The measured part of a `LatencyTable`; see there."""

    timed_ms: Mapping[Probe, float]
    networks: tuple[WholeNetwork, ...]
    environment: Mapping[str, Any]
    seconds: Mapping[str, float]


def time_space(
    space: SearchSpace,
    target: Target,
    num_classes: int,
    *,
    seed: int,
    time_limit_s: float,
    held_out: int,
    on_progress: Callable[[float], None] | None,
) -> TableTimings:
    """Time the probes and whole networks of a search space; see `LatencyTable.build`."""
    on_progress = on_progress or (lambda share: None)
    on_progress(0.0)
    rng = np.random.default_rng(seed)
    master, engine, count = space.master, ENGINES[target.engine], CALIBRATION_NETWORKS + held_out
    with engine.open(target) as clock:
        watch = ActivityWatch(clock, target.resolved().threads)
        master_s = _time_master(engine, clock, target, master, num_classes)
        probe_target = replace(
            target, batch_size=choose_probe_batch_size(master_s, target.batch_size)
        )
        environment = describe_environment(target) | {"piece_batch_size": probe_target.batch_size}
        if probe_target == target:
            structures = _sample(space, rng, count)
        else:
            structures = smallest(_sample(space, rng, DRAWS_PER_NETWORK * count), count, rng)
        items = _make_items(space, structures)
        session = _Session(
            engine, clock, watch, target, probe_target, num_classes, rng,
            time_limit_s / len(items),
            _Progress(
                on_progress, len(items), sum(map(_preparing_weight, items)), time_limit_s
            ),
        )  # fmt: skip
        timed_s = session.time(items)
        environment["other_cpus"] = watch.other_cpus()
    networks = []
    for number, structure in enumerate(structures):
        use: Use = "calibration" if number < CALIBRATION_NETWORKS else "held-out"
        networks.append(WholeNetwork(structure, 1e3 * timed_s[structure], use))
    # A search starts from the MasterNet, so its prediction must fit best.
    networks.append(WholeNetwork(master, 1e3 * timed_s[master], "calibration"))
    timed_ms = {
        item: 1e3 * seconds for item, seconds in timed_s.items() if not isinstance(item, Structure)
    }
    return TableTimings(timed_ms, tuple(networks), environment, session.seconds)


def _time_master(
    engine: Engine, clock: DeviceClock, target: Target, master: Structure, num_classes: int
) -> float:
    """Rough seconds of one run of the MasterNet: the minimum, as other users slow some runs."""
    network = build_for_timing(master, num_classes)
    run = engine.prepare(network, target, master.resolution, latency_only=True)
    return min(clock.time_runs(run, 1) for _ in range(MASTER_RUNS))


def _make_items(space: SearchSpace, structures: list[Structure]) -> list[Item]:
    items: list[Item] = [space.master, *structures]
    for resolution in space.resolutions:
        items += block_probes(space, resolution)
        items += stem_and_head_probes(space, resolution)
        items += overhead_probes(space, resolution)
    return list(dict.fromkeys(items))


@dataclass
class _Progress:
    """Reports the spent time as a share of the expected time; the share never falls.

    Preparing a whole network takes longer than preparing a probe, and only the timing has a limit.
    So the share of the items would say nothing on the time that is left.

    Attributes:
        report: Called with the share.
        items: The number of all items.
        weight: The sum of their weights; see `_preparing_weight`.
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
        left_s = preparing_s / self.prepared * (self.weight - self.prepared)
        left_s += timing_s / timed * (1 - timed) if timed > SURE_SHARE else self.limit_s
        spent_s = preparing_s + timing_s
        self.shown = max(self.shown, spent_s / max(spent_s + left_s, 1e-9))
        self.report(min(1.0, self.shown))


def _preparing_weight(item: Item) -> int:
    """The number of blocks, which is about proportional to the time of preparing."""
    if isinstance(item, Structure):
        return sum(stage.depth for stage in item.stages)
    return 1 + getattr(item, "depth", 0)


@dataclass(frozen=True)
class _Session:
    """An open engine and what it needs to time all items.

    probe_target: the target with the batch size of the probes. seconds: filled by `time`.
    """

    engine: Engine
    clock: DeviceClock
    watch: ActivityWatch
    target: Target
    probe_target: Target
    num_classes: int
    rng: np.random.Generator
    seconds_per_item: float
    progress: _Progress
    seconds: dict[str, float] = field(default_factory=lambda: {"preparing": 0.0, "timing": 0.0})

    def time(self, items: list[Item]) -> dict[Item, float]:
        """Seconds of one run of each item at the target's batch size.

        Probes and whole networks are timed together. The layout of memory changes the time of a
        small network by a few percent, so a network that is timed separately from its probes would
        not be their sum.
        """
        timed_s: dict[Item, float] = {}
        runs: dict[Item, Run] = {}
        held, limit = 0, free_bytes(self.target)
        for item in items:
            start = time.perf_counter()
            network, target = self._build(item), self._target_for(item)
            size = estimate_network_bytes(network, item.resolution, target.batch_size)
            if runs and held + size > limit:
                timed_s |= self._time_prepared(runs)
                start, runs, held = time.perf_counter(), {}, 0
            runs[item] = self.engine.prepare(network, target, item.resolution, latency_only=True)
            held += size
            self.seconds["preparing"] += time.perf_counter() - start
            self.progress.prepared += _preparing_weight(item)
            self.progress.update(self.seconds["preparing"], self.seconds["timing"])
        return timed_s | self._time_prepared(runs)

    def _time_prepared(self, runs: dict[Item, Run]) -> dict[Item, float]:
        start, already = time.perf_counter(), self.progress.timed
        before: dict[Item, Run] = {}
        if self.target.is_cpu:
            probes = (item for item in runs if not isinstance(item, Structure))
            before = dict.fromkeys(probes, self._prepare_passing())

        def on_progress(share: float) -> None:
            self.progress.timed = already + share * len(runs)
            timing_s = self.seconds["timing"] + time.perf_counter() - start
            self.progress.update(self.seconds["preparing"], timing_s)

        estimates = time_in_rounds(
            self.clock,
            runs,
            rng=self.rng,
            watch=self.watch,
            before=before,
            time_limit_s=self.seconds_per_item * len(runs),
            on_progress=on_progress,
            find_contradictions=find_contradictions,
        )
        self.seconds["timing"] += time.perf_counter() - start
        batch_size = self.target.batch_size
        return {
            item: estimate.seconds * batch_size / self._target_for(item).batch_size
            for item, estimate in estimates.items()
        }

    def _target_for(self, item: Item) -> Target:
        return self.target if isinstance(item, Structure) else self.probe_target

    def _build(self, item: Item) -> nn.Module:
        if isinstance(item, Structure):
            return build_for_timing(item, self.num_classes)
        if isinstance(item, StemOrHeadProbe):
            return item.network(self.num_classes)
        return item.network()

    def _prepare_passing(self) -> Run:
        """A run that moves as much memory as other layers do between two runs of a probe.

        The engine itself runs it: the threads of another library would keep spinning beside the
        engine's own threads.
        """
        layer = nn.Conv2d(PASSING_CHANNELS, PASSING_CHANNELS, 1, groups=PASSING_CHANNELS)
        pixels = PASSING_VALUES / (PASSING_CHANNELS * self.probe_target.batch_size)
        side = max(1, round(math.sqrt(pixels)))
        return self.engine.prepare(layer.eval(), self.probe_target, side, latency_only=True)


def _sample(space: SearchSpace, rng: np.random.Generator, count: int) -> list[Structure]:
    """Distinct structures without the MasterNet; fewer than `count` in a small space."""
    maximum = min(count, space.size - 1)
    structures: dict[Structure, None] = {}
    for _ in range(100 * count):
        structure = space.sample(rng)
        if structure != space.master:
            structures[structure] = None
        if len(structures) >= maximum:
            break
    return list(structures)


def choose_probe_batch_size(master_run_s: float, batch_size: int) -> int:
    """Choose the batch size of the probes: the target's, halved until a MasterNet run is short.

    The time per image is about the same in a small and a large batch if both keep the device busy
    for so long. The calibration removes the remaining difference: it uses whole networks at the
    target's batch size.
    """
    size = batch_size
    while size > 1 and master_run_s * size / batch_size > LONG_RUN_S:
        size = -(-size // 2)
    return size


def smallest(structures: list[Structure], count: int, rng: np.random.Generator) -> list[Structure]:
    """The `count` structures with the fewest multiply-adds, in random order.

    Most structures of a search space are several times as slow as its MasterNet, and no search
    selects them.
    """
    chosen = sorted(structures, key=multiply_adds)[:count]
    return [chosen[which] for which in rng.permutation(len(chosen))]


def find_contradictions(times: Mapping[Item, TimeEstimate]) -> list[Probe]:
    """Find pairs of probes whose times contradict each other: the larger probe was faster.

    A pair counts only where the difference exceeds the noise. A width between two whole tiles of
    channels may really cost more than a slightly larger width. Its time is repeated and stays.

    Returns:
        The probes of all pairs, each once.
    """
    contradictory: dict[Probe, None] = {}
    for smaller, larger in _pairs([item for item in times if not isinstance(item, Structure)]):
        low, high = times[smaller], times[larger]
        noise = math.hypot(low.error, high.error)
        if math.log(low.seconds / high.seconds) > CONTRADICTION_ERRORS * noise:
            contradictory |= {smaller: None, larger: None}
    return list(contradictory)


def _pairs(probes: list[Probe]) -> Iterator[tuple[Probe, Probe]]:
    """Neighbours that differ in one size only, the smaller probe first."""
    rows: dict[Hashable, list[Probe]] = {}
    for probe in probes:
        for sizes in SIZES[type(probe)]:
            equal: dict[str, Any] = dict.fromkeys(sizes, 0)
            rows.setdefault(replace(probe, **equal), []).append(probe)
    for row in rows.values():
        for smaller, larger in pairwise(sorted(row)):
            if smaller.input_width <= larger.input_width:
                yield smaller, larger
