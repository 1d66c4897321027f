"""Building a latency table: what is prepared, and in which order it is timed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

import numpy as np

from genets.latency.engines import ENGINES, DeviceClock, Engine, Run
from genets.latency.environment import describe_environment
from genets.latency.probes import End, Piece, build_live, ends_of, pieces_of
from genets.latency.rounds import Key, time_in_rounds
from genets.latency.table import LatencyTable, Use, WholeNetwork
from genets.latency.target import Target
from genets.structure import SpaceAround, Structure

CALIBRATION_NETWORKS = 10
HELD_OUT_NETWORKS = 10
PIECES_SHARE = 0.65  # of the time limit; whole networks have the rest
RESIDENT_VALUES = 2**28  # inputs held at once: 1 GiB in fp32

Progress = Callable[[float], None]


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
    with engine.open(target) as clock:
        environment = describe_environment(target)
        session = _Session(engine, clock, target, num_classes, space, rng)
        pieces: list[Piece | End] = []
        for resolution in space.resolutions:
            pieces += [*pieces_of(space, resolution), *ends_of(space, resolution)]
        timed_s = session.time_pieces(
            pieces, PIECES_SHARE * time_limit_s, lambda share: report(0.7 * share)
        )
        whole_s = session.time_structures(
            [master, *structures],
            (1 - PIECES_SHARE) * time_limit_s,
            lambda share: report(0.7 + 0.3 * share),
        )
    networks = []
    for number, structure in enumerate(structures):
        use: Use = "calibration" if number < CALIBRATION_NETWORKS else "held-out"
        networks.append(WholeNetwork(structure, 1e3 * whole_s[structure], use))
    # The search starts from the MasterNet, so the prediction should fit there above all.
    networks.append(WholeNetwork(master, 1e3 * whole_s[master], "calibration"))
    timed_ms = {piece: 1e3 * seconds for piece, seconds in timed_s.items()}
    return LatencyTable(
        space, target.resolved(), num_classes, timed_ms, tuple(networks), environment
    )


class _Session:
    """An open engine, and what is to be prepared with it."""

    def __init__(
        self,
        engine: Engine,
        clock: DeviceClock,
        target: Target,
        num_classes: int,
        space: SpaceAround,
        rng: np.random.Generator,
    ) -> None:
        self.engine, self.clock, self.target, self.rng = engine, clock, target, rng
        self.num_classes, self.master = num_classes, space.master

    def time_pieces(
        self, pieces: list[Piece | End], time_limit_s: float, report: Progress
    ) -> dict[Piece | End, float]:
        """Seconds of one run of each piece."""
        timed_s: dict[Piece | End, float] = {}
        for chunk in _chunks(pieces, RESIDENT_VALUES // self.target.batch_size):
            start, share = len(timed_s) / len(pieces), len(chunk) / len(pieces)
            runs = {}
            for number, piece in enumerate(chunk, start=1):
                runs[piece] = self._prepare_piece(piece)
                report(start + 0.3 * share * number / len(chunk))
            part = partial(_part, report, start + 0.3 * share, 0.7 * share)
            timed_s |= self._time(runs, time_limit_s * share, part)
        return timed_s

    def time_structures(
        self, structures: list[Structure], time_limit_s: float, report: Progress
    ) -> dict[Structure, float]:
        """Seconds of one run of each whole network."""
        runs = {structure: self._prepare_structure(structure) for structure in structures}
        return self._time(runs, time_limit_s, report)

    def _time(
        self, runs: Mapping[Key, Run], time_limit_s: float, report: Progress
    ) -> dict[Key, float]:
        return time_in_rounds(
            self.clock, runs, rng=self.rng, time_limit_s=time_limit_s, on_progress=report
        )

    def _prepare_structure(self, structure: Structure) -> Run:
        network = build_live(structure, self.num_classes)
        return self.engine.prepare(network, self.target, structure.resolution)

    def _prepare_piece(self, piece: Piece | End) -> Run:
        network = (
            piece.network()
            if isinstance(piece, Piece)
            else piece.network(self.master, self.num_classes)
        )
        return self.engine.prepare(network, self.target, piece.resolution)


def _part(report: Progress, start: float, share: float, done: float) -> None:
    report(start + share * done)


def _chunks(pieces: Iterable[Piece | End], values: int) -> Iterator[list[Piece | End]]:
    """Runs of pieces whose inputs, `values` for one image, can be held at once."""
    chunk: list[Piece | End] = []
    held = 0
    for piece in pieces:
        size = piece.input_width * piece.resolution**2
        if chunk and held + size > values:
            yield chunk
            chunk, held = [], 0
        chunk.append(piece)
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
