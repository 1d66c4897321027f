"""Comparison: many networks on many targets, those of one target timed in turn.

Chunks: which networks can be resident together, to be timed in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from genets.analysis.comparison.findings import paper_table
from genets.analysis.comparison.networks import ComparedNetwork
from genets.analysis.comparison.rows import (
    Comparison,
    ComparisonRow,
    Reference,
    check_still_valid,
    load_rows,
    only_user,
    save_rows,
)
from genets.core.errors import GenetsError, TargetError
from genets.latency import Target, measure_interleaved
from genets.latency.engines.memory import free_bytes
from genets.latency.timing.clock import find_protocol
from genets.latency.timing.measurement import check_time_limit

if TYPE_CHECKING:
    from genets.latency import Measurement


@dataclass(frozen=True, slots=True)
class Progress:
    """`done` of `total` steps of `phase` are finished; `detail`: a few words on the last one."""

    phase: str
    done: float
    total: float
    detail: str = ""


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Timing:
    """How a comparison is timed. time_limit_s: of sampling, for each row."""

    protocol: str = "genets-1"
    time_limit_s: float = 10.0

    def __post_init__(self) -> None:
        """Raises TargetError: known at once, not when the first network is ready."""
        find_protocol(self.protocol)
        check_time_limit(self.time_limit_s)


def compare(
    candidates: Sequence[ComparedNetwork],
    targets: Sequence[Target],
    *,
    timing: Timing | None = None,
    file: Path | None = None,
    on_progress: OnProgress | None = None,
    on_rows: Callable[[Comparison], None] | None = None,
) -> Comparison:
    """Measure every candidate on every target; nothing is a row in place of a failure.

    All networks of one target are sampled in turn in one run, or, where they cannot all be
    resident, in several with one network in common: the reference.

    file: rows are kept there as they finish, and rows that it has are not measured again.
    on_rows: told what there is after each run.
    Raises TargetError: no target can be run here; GenetsError: `file` is from other conditions
    or of other networks, or another process writes it.
    """
    with only_user(file) if file else nullcontext():
        return _compare(candidates, targets, timing or Timing(), file, on_progress, on_rows)


def _compare(
    candidates: Sequence[ComparedNetwork],
    targets: Sequence[Target],
    timing: Timing,
    file: Path | None,
    on_progress: OnProgress | None,
    on_rows: Callable[[Comparison], None] | None,
) -> Comparison:
    """See `compare`."""
    targets = [target.resolved() for target in dict.fromkeys(targets)]
    refused = _refused(targets)
    if len(refused) == len(targets):
        raise next(iter(refused.values()))
    known = load_rows(file) if file else Comparison()
    broken = _broken(candidates)
    keys = [(c.name, target, c.resolution) for c in candidates for target in targets]
    check_still_valid(known.only(keys), timing, {c.name: c.seed for c in candidates}, file)
    _check_same_networks(known.only(keys), [c for c in candidates if c.name not in broken], file)
    tell = _Teller(len(keys), on_progress)
    for target in targets:
        reasons = dict(broken)
        if target in refused:
            reasons = dict.fromkeys((c.name for c in candidates), str(refused[target]))
        session = _Session(target, timing, reasons)
        for finished in session.runs(candidates, known, tell):
            known = known.with_rows(finished.rows, finished.references)
            if file:
                save_rows(known, file)
            if on_rows:
                on_rows(known.only(keys))
    return known.only(keys)


def _refused(targets: Sequence[Target]) -> dict[Target, TargetError]:
    refused = {}
    for target in targets:
        try:
            target.check()
        except TargetError as error:
            refused[target] = error
    return refused


def _broken(candidates: Sequence[ComparedNetwork]) -> dict[str, str]:
    """By name the reasons of those that do not run anywhere."""
    reasons = {}
    for candidate in candidates:
        try:
            _ = candidate.size
        except GenetsError as error:
            reasons[candidate.name] = str(error)
    return reasons


def _check_same_networks(
    known: Comparison, candidates: Sequence[ComparedNetwork], file: Path | None
) -> None:
    """Raise GenetsError if a name stands for another network now, as after a file was edited."""
    for candidate in candidates:
        size = candidate.size
        for row in known.rows:
            there = (row.parameters, row.multiply_adds)
            if row.network != candidate.name or not row.measurement:
                continue
            if there != (size.parameters, size.multiply_adds):
                raise GenetsError(
                    f"{file} holds {row.network} as a network of {there[0]} parameters and "
                    f"{there[1]} multiply-adds; now it has {size.parameters} and "
                    f"{size.multiply_adds}; take another folder, or remove it"
                )


class _Teller:
    """Progress in rows, those that are under way counted in part."""

    def __init__(self, total: int, on_progress: OnProgress | None) -> None:
        self._total, self._on_progress, self._done = total, on_progress, 0
        self(0, "")

    def __call__(self, rows: int, detail: str) -> None:
        """`rows` more are finished."""
        self._done += rows
        self.part(0.0, detail)

    def part(self, rows: float, detail: str) -> None:
        if self._on_progress:
            done = min(self._done + rows, self._total)
            self._on_progress(Progress("measuring", done, self._total, detail))


@dataclass(frozen=True, slots=True)
class _Finished:
    rows: Sequence[ComparisonRow]
    references: Sequence[Reference] = ()


@dataclass(frozen=True)
class _Session:
    """One target. reasons: by name, why a network is not measured at all."""

    target: Target
    timing: Timing
    reasons: Mapping[str, str]

    def runs(
        self, candidates: Sequence[ComparedNetwork], known: Comparison, tell: _Teller
    ) -> Iterator[_Finished]:
        """What is missing, run by run."""
        there = {row.key for row in known.measured_on(self.target)}
        missing = [c for c in candidates if (c.name, self.target, c.resolution) not in there]
        able = {c.name: c for c in candidates if c.name not in self.reasons}
        number = 1 + max((row.run for row in known.on(self.target)), default=0)
        tell(len(candidates) - len(missing), "")
        hopeless = [c for c in missing if c.name not in able]
        if hopeless:
            yield _Finished([self._row(c, number, self.reasons[c.name]) for c in hopeless])
            tell(len(hopeless), "")
        wanted = [c.name for c in missing if c.name in able]
        finally_known: set[str] = set()
        for names in self._chunks(able, wanted):
            finished = self._run([able[name] for name in names], number, tell)
            beside_others = len(names) > 1  # perhaps they only fail there
            rows = [
                row
                for row in finished.rows
                if row.network in wanted
                and row.network not in finally_known
                and (row.measurement or not beside_others)
            ]
            finally_known |= {row.network for row in rows}
            yield _Finished(rows, finished.references)
            tell(len(rows), "")
            number += 1
        for name in wanted:
            if name in finally_known:
                continue
            yield _Finished(self._run([able[name]], number, tell).rows)
            tell(1, "")
            number += 1

    def _chunks(
        self, able: Mapping[str, ComparedNetwork], wanted: Sequence[str]
    ) -> Iterator[list[str]]:
        """The reference is the smallest of all, whether it is wanted or known."""
        if not wanted:
            return
        held = {
            name: candidate.size.resident_bytes(self.target.batch_size)
            for name, candidate in able.items()
        }
        reference = min(held, key=held.__getitem__)
        sizes = {name: held[name] for name in dict.fromkeys((reference, *wanted))}
        yield from in_chunks(sizes, free_bytes(self.target), reference)

    def _run(self, candidates: Sequence[ComparedNetwork], number: int, tell: _Teller) -> _Finished:
        """One interleaved run; the first candidate is the reference."""
        outcomes: dict[str, Measurement | str] = {}
        detail = f"{self.target.name}, {len(candidates)} in turn"
        tell.part(0.0, f"{detail}: preparing")
        outcomes |= measure_interleaved(
            {c.name: c.network() for c in candidates},
            self.target,
            {c.name: c.resolution for c in candidates},
            protocol=self.timing.protocol,
            time_limit_s=self.timing.time_limit_s,
            on_error=lambda name, error: outcomes.update({name: str(error)}),
            on_progress=lambda share: tell.part(share * len(candidates), detail),
        )
        rows = [self._row(c, number, outcomes[c.name]) for c in candidates]
        first = rows[0]
        if first.ms_per_image is None:
            return _Finished(rows)
        reference = Reference(number, self.target, first.network, first.ms_per_image)
        return _Finished(rows, [reference])

    def _row(
        self, candidate: ComparedNetwork, run: int, outcome: Measurement | str
    ) -> ComparisonRow:
        size = None if candidate.name in self.reasons else candidate.size
        table = paper_table(self.target)
        return ComparisonRow(
            network=candidate.name,
            family=candidate.family,
            target=self.target,
            resolution=candidate.resolution,
            parameters=size.parameters if size else None,
            multiply_adds=size.multiply_adds if size else None,
            top1_percent=candidate.top1_percent,
            paper_table=table,
            paper_ms=candidate.published_ms.get(table, {}).get(self.target.batch_size),
            run=run,
            time_limit_s=self.timing.time_limit_s,
            seed=candidate.seed,
            measurement=None if isinstance(outcome, str) else outcome,
            error=outcome if isinstance(outcome, str) else None,
        )


Key = TypeVar("Key", bound=Hashable)


def in_chunks(sizes: Mapping[Key, int], limit: int, reference: Key) -> Iterator[list[Key]]:
    """The keys in order, cut where a chunk would hold more than `limit` bytes.

    The reference is in every chunk, so that chunks can be compared.
    """
    chunk: list[Key] = []
    held = 0
    for key, size in sizes.items():
        if key == reference:
            continue
        if chunk and held + size + sizes[reference] > limit:
            yield [reference, *chunk]
            chunk, held = [], 0
        chunk.append(key)
        held += size
    yield [reference, *chunk]
