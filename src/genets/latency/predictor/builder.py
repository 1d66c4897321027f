"""Builder: prepares and times the probes and whole networks of a latency table."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn

import numpy as np

from genets.core.log import get_logger
from genets.latency.engines import ENGINES, DeviceClock, Engine, Run
from genets.latency.engines.base import explain_device_faults, explain_failures
from genets.latency.engines.memory import max_prepared_bytes
from genets.latency.engines.nvml import open_gpu
from genets.latency.environment import describe_environment
from genets.latency.predictor.contradictions import find_contradictions
from genets.latency.predictor.items import choose_items, choose_probe_batch_size
from genets.latency.predictor.preparation import (
    PreparingProgress,
    Room,
    prepare_passing,
    preparing_weights,
)
from genets.latency.predictor.probes import Item, Probe, build_item
from genets.latency.predictor.readings import DeviceReader
from genets.latency.predictor.visits import VisitFile
from genets.latency.target import Target
from genets.latency.timing.drift import RecordError, TimeEstimate, time_in_rounds
from genets.latency.timing.gpu_watch import GpuWatch
from genets.latency.timing.watch import ActivityWatch
from genets.networks.own_blocks import block_digests
from genets.structure import SearchSpace, Structure

_log = get_logger(__name__)

CALIBRATION_NETWORKS = 20
OWN_BLOCKS = "own_blocks"  # in the environment: the digests of the files of own block types
MASTER_RUNS = 3  # runs of the MasterNet that show how long its runs are
# The key of the batch size of probes in stored files, which have the earlier name of a probe.
PROBE_BATCH_SIZE = "piece_batch_size"

Use = Literal["calibration", "held-out", "correction"]


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
    visits: Path | None = None,
    networks: Sequence[Structure] | None = None,
) -> TableTimings:
    """Time the probes and whole networks of a search space; see `LatencyTable.build`.

    networks: The whole networks to time beside the MasterNet, without any probes; the last
        `held_out` of them are held out. None times probes and networks that are chosen here.
    """
    on_progress = on_progress or (lambda share: None)
    on_progress(0.0)
    engine = ENGINES[target.engine]
    with engine.open(target) as clock:
        environment = describe_environment(target)
        settings: dict[str, Any] = {
            "target": target.resolved().to_json(), "master": str(space.master),
            "space": asdict(space.space), "num_classes": num_classes, "seed": seed,
            "time_limit_s": time_limit_s, "held_out": held_out,
        }  # fmt: skip
        if digests := block_digests(space):
            environment[OWN_BLOCKS] = settings[OWN_BLOCKS] = digests
        counters = None if target.is_cpu else open_gpu(target.device)
        reader = DeviceReader(clock.activity, GpuWatch(counters))
        file = VisitFile(visits, settings, environment, reader.take)
        items: list[Item]
        if networks is None:
            batch_size = file.choices.get(PROBE_BATCH_SIZE)
            if type(batch_size) is not int or not 1 <= batch_size <= target.batch_size:
                master_s = _time_master(engine, clock, target, space.master, num_classes)
                batch_size = choose_probe_batch_size(master_s, target.batch_size)
            environment[PROBE_BATCH_SIZE] = batch_size
            count = CALIBRATION_NETWORKS + held_out
            items = choose_items(space, count, seed, lightest=batch_size < target.batch_size)
        else:
            batch_size, items = target.batch_size, [space.master, *networks]
        texts = "\n".join(map(str, items))
        digest = hashlib.sha256(texts.encode()).hexdigest()
        file.begin({PROBE_BATCH_SIZE: batch_size, "items": len(items), "digest": digest})
        session = _Session(
            engine, clock, target, replace(target, batch_size=batch_size), num_classes,
            seed, time_limit_s / len(items), file, reader,
        )  # fmt: skip
        try:
            timed_s = session.time(items, on_progress, time_limit_s)
        finally:
            file.close()
        environment |= file.readings().facts(counters)
    calibrating = CALIBRATION_NETWORKS if networks is None else len(networks) - held_out
    return _collect(space.master, timed_s, calibrating, environment, session.seconds)


def _collect(
    master: Structure,
    timed_s: Mapping[Item, float],
    calibrating: int,
    environment: Mapping[str, Any],
    seconds: Mapping[str, float],
) -> TableTimings:
    structures = [item for item in timed_s if isinstance(item, Structure) and item != master]
    networks, calibrating = [], min(calibrating, max(0, len(structures) - 1))  # one is held out
    for number, structure in enumerate(structures):
        use: Use = "calibration" if number < calibrating else "held-out"
        networks.append(WholeNetwork(structure, 1e3 * timed_s[structure], use))
    # A search starts from the MasterNet, so its prediction must fit best.
    networks.append(WholeNetwork(master, 1e3 * timed_s[master], "calibration"))
    timed_ms = {
        item: 1e3 * seconds for item, seconds in timed_s.items() if not isinstance(item, Structure)
    }
    return TableTimings(timed_ms, tuple(networks), environment, seconds)


def _time_master(
    engine: Engine, clock: DeviceClock, target: Target, master: Structure, num_classes: int
) -> float:
    """Rough seconds of one run of the MasterNet: the minimum, as other users slow some runs."""
    run = prepare_item(engine, master, target, num_classes)
    return min(clock.time_runs(run, 1) for _ in range(MASTER_RUNS))


def prepare_item(engine: Engine, item: Item, target: Target, num_classes: int) -> Run:
    """Build an item and prepare it for a target, inside `open`. Raises TargetError."""
    with explain_failures(target, item.resolution):
        network = build_item(item, num_classes, engine.place(target))
    return engine.prepare(network, target, item.resolution, latency_only=True)


def _not_prepared() -> NoReturn:
    """Stands for the run of an item whose recorded visits are complete."""
    raise RecordError


@dataclass(frozen=True)
class _Session:
    """An open engine with its inputs for the timing of all items.

    probe_target: the target with the batch size of the probes. seconds: filled by `time`.
    """

    engine: Engine
    clock: DeviceClock
    target: Target
    probe_target: Target
    num_classes: int
    seed: int
    seconds_per_item: float
    file: VisitFile
    reader: DeviceReader
    seconds: dict[str, float] = field(default_factory=lambda: {"preparing": 0.0, "timing": 0.0})

    def time(
        self, items: list[Item], on_progress: Callable[[float], None], time_limit_s: float
    ) -> dict[Item, float]:
        """Seconds of one run of each item at the target's batch size.

        Probes and whole networks are timed together. The layout of memory changes the time of a
        small network by a few percent, so a network that is timed separately from its probes would
        not be their sum. Items that do not fit into memory together are timed in parts. The first
        item is in each part, because the speed of the device may change between two parts: all
        times are relative to that item, and have its unit from the first part.
        """
        sized = [(item, self._target_for(item).batch_size) for item in items]
        weights = preparing_weights(sized, self.target)
        weight = sum(weights.values())
        progress = PreparingProgress(on_progress, len(items), weight, time_limit_s)
        timed_s: dict[Item, float] = {}
        part_number, limit = 0, max_prepared_bytes(self.target)
        link = items[0]
        while len(timed_s) < len(items):
            left, part = items[len(timed_s) :], self.file.next_part()
            if timed_s:
                left = [link, *left]
                progress.items += 1
                progress.weight += weights[link]
            runs: Mapping[Item, Run] = {}  # those of the part before leave the memory
            if part is not None and part.is_finished and part.size <= len(left):
                runs = dict.fromkeys(left[: part.size], _not_prepared)
                progress.weight -= sum(weights[item] for item in runs)
            else:
                # The free memory changes a little from one process to the next.
                room = Room(
                    limit if part is None else 2 * limit,
                    self.engine.footprint(self.target),
                    self.num_classes,
                )
                size = len(left) if part is None else part.size
                runs = self._prepare(left[:size], weights, progress, room, 2 if timed_s else 1)
            if part is not None and len(runs) != part.size:
                _log.warning("the memory has changed: some items are timed again")
                self.file.forget()
            try:
                part_s = self._time_prepared(runs, progress, part_number)
            except RecordError:
                _log.warning("some recorded visits do not fit: their items are timed again")
                self.file.forget()
                progress.weight += sum(weights[item] for item in runs)
                continue
            scale = timed_s[link] / part_s[link] if timed_s else 1.0
            new = (item for item in part_s if item not in timed_s)
            timed_s |= {item: scale * part_s[item] for item in list(new)}
            part_number += 1
        return timed_s

    def _prepare(
        self,
        items: list[Item],
        weights: Mapping[Item, int],
        progress: PreparingProgress,
        room: Room,
        at_least: int,
    ) -> dict[Item, Run]:
        """Prepare the first items, as many as there is room for, and `at_least` that many."""
        runs: dict[Item, Run] = {}
        for item in items:
            start, target = time.perf_counter(), self._target_for(item)
            if not room.take(item, target.batch_size) and len(runs) >= at_least:
                break
            runs[item] = prepare_item(self.engine, item, target, self.num_classes)
            self.seconds["preparing"] += time.perf_counter() - start
            progress.prepared += weights[item]
            progress.update(self.seconds["preparing"], self.seconds["timing"])
        return runs

    def _time_prepared(
        self, runs: Mapping[Item, Run], progress: PreparingProgress, part_number: int
    ) -> dict[Item, float]:
        start, already = time.perf_counter(), progress.timed
        before: dict[Item, Run] = {}
        probes = [item for item in runs if not isinstance(item, Structure)]
        if self.target.is_cpu and probes:
            before = dict.fromkeys(probes, prepare_passing(self.engine, self.probe_target))
        part = self.file.next_part()
        recorded = [] if part is None else part.visits
        recorded_s = sum(visit.cost_s for visit in recorded)

        def on_share(share: float) -> None:
            progress.timed = already + share * len(runs)
            timing_s = self.seconds["timing"] + recorded_s + time.perf_counter() - start
            progress.update(self.seconds["preparing"], timing_s)

        self.file.begin_part(len(runs))
        is_timed = part is None or not part.is_finished
        kept = f"; finished timings are kept in {self.file.path}" if self.file.path else ""
        explained = explain_device_faults(self.target, "the latency table was timed", kept)
        with explained, self._reading() if is_timed else nullcontext():
            estimates: dict[Item, TimeEstimate] = time_in_rounds(
                self.clock,
                runs,
                rng=np.random.default_rng((self.seed, part_number)),
                # Others are watched from here on, and not while the networks are prepared.
                watch=ActivityWatch(self.clock, self.target.resolved().threads),
                before=before,
                time_limit_s=self.seconds_per_item * len(runs),
                on_progress=on_share,
                find_contradictions=find_contradictions,
                recorded=recorded,
                on_visit=self.file.add,
            )
        self.file.end_part()
        self.seconds["timing"] += recorded_s + time.perf_counter() - start
        batch_size = self.target.batch_size
        return {
            item: estimate.seconds * batch_size / self._target_for(item).batch_size
            for item, estimate in estimates.items()
        }

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Read the device inside the block, and keep the readings beside the visits.

        A GPU waits while networks are prepared, so its clocks are then those of an idle card.
        """
        try:
            with self.reader.reading():
                yield
        finally:
            self.file.add_readings()

    def _target_for(self, item: Item) -> Target:
        return self.target if isinstance(item, Structure) else self.probe_target
