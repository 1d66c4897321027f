"""Building a latency table: what is prepared, and in which order it is timed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from genets.latency.engines import ENGINES, DeviceClock, Engine, Run
from genets.latency.environment import describe_environment
from genets.latency.probes import End, Piece, build_live, ends_of, pieces_of
from genets.latency.rounds import time_in_rounds
from genets.latency.table import LatencyTable, Use, WholeNetwork
from genets.latency.target import Target
from genets.structure import SpaceAround, Structure

CALIBRATION_NETWORKS = 20
HELD_OUT_NETWORKS = 20
PREPARING = 0.25  # share of the progress
RESIDENT_VALUES = 2**28  # inputs held at once: 1 GiB in fp32
# Written between two runs of a piece on a CPU. In a network the other layers use the caches in
# between: the sum of pieces that were run in a row came out 13 % below whole networks, with this
# 5 %, and after calibration its error fell from 3.0 to 2.6 %.
PASSING_VALUES = 2**21  # 8 MiB

Progress = Callable[[float], None]
Item = Piece | End | Structure


def build_table(
    space: SpaceAround,
    target: Target,
    num_classes: int,
    *,
    seed: int,
    time_limit_s: float,
    on_progress: Progress | None,
) -> LatencyTable:
    """See `LatencyTable.build`."""
    rng = np.random.default_rng(seed)
    report = on_progress or (lambda share: None)
    master, engine = space.master, ENGINES[target.engine]
    structures = _sample(space, rng, CALIBRATION_NETWORKS + HELD_OUT_NETWORKS)
    items: list[Item] = [master, *structures]
    for resolution in space.resolutions:
        items += [*pieces_of(space, resolution), *ends_of(space, resolution)]
    with engine.open(target) as clock:
        environment = describe_environment(target)
        session = _Session(engine, clock, target, num_classes, master, rng)
        timed_s = session.time(items, time_limit_s, report)
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
        space, target.resolved(), num_classes, timed_ms, tuple(networks), environment
    )


@dataclass(frozen=True)
class _Session:
    """An open engine, and what is to be prepared with it."""

    engine: Engine
    clock: DeviceClock
    target: Target
    num_classes: int
    master: Structure
    rng: np.random.Generator

    def time(self, items: list[Item], time_limit_s: float, report: Progress) -> dict[Item, float]:
        """Seconds of one run of each: pieces and whole networks side by side.

        How memory happens to be laid out changes small networks by some percent; timed at
        another time than their pieces, they would not be the sum of them.
        """
        timed_s: dict[Item, float] = {}
        for chunk in _chunks(items, RESIDENT_VALUES // self.target.batch_size):
            start, share = len(timed_s) / len(items), len(chunk) / len(items)
            runs: dict[Item, Run] = {}
            for number, item in enumerate(chunk, start=1):
                runs[item] = self._prepare(item)
                report(start + PREPARING * share * number / len(chunk))
            before: dict[Item, Run] = {}
            if self.target.is_cpu:
                pieces = (item for item in chunk if not isinstance(item, Structure))
                before = dict.fromkeys(pieces, passing_data())
            timed_s |= time_in_rounds(
                self.clock,
                runs,
                rng=self.rng,
                before=before,
                time_limit_s=time_limit_s * share,
                on_progress=partial(
                    _part, report, start + PREPARING * share, (1 - PREPARING) * share
                ),
            )
        return timed_s

    def _prepare(self, item: Item) -> Run:
        if isinstance(item, Piece):
            network = item.network()
        elif isinstance(item, End):
            network = item.network(self.master, self.num_classes)
        else:
            network = build_live(item, self.num_classes)
        return self.engine.prepare(network, self.target, item.resolution)


def passing_data() -> Run:
    """Writes as much memory as other layers do between two runs of a piece."""
    data = torch.zeros(PASSING_VALUES)
    return lambda: data.add_(1)


def _part(report: Progress, start: float, share: float, done: float) -> None:
    report(start + share * done)


def _chunks(items: Iterable[Item], values: int) -> Iterator[list[Item]]:
    """Runs of items whose inputs, `values` for one image, can be held at once."""
    chunk: list[Item] = []
    held = 0
    for item in items:
        channels = 3 if isinstance(item, Structure) else item.input_width
        size = channels * item.resolution**2
        if chunk and held + size > values:
            yield chunk
            chunk, held = [], 0
        chunk.append(item)
        held += size
    yield chunk


def _sample(space: SpaceAround, rng: np.random.Generator, count: int) -> list[Structure]:
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
