"""Comparison of many networks on many targets; the networks of one target are timed in turn."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from torch import nn

from genets.analysis.comparison.findings import find_paper_table
from genets.analysis.comparison.networks import ComparedNetwork
from genets.analysis.comparison.rows import (
    CURE,
    Comparison,
    ComparisonRow,
    OnUnsaved,
    ReferenceLatency,
    ReferenceNetwork,
    RowFile,
    Timing,
    check_same_conditions,
    open_rows,
)
from genets.core.errors import GenetsError, TargetError, unknown_name
from genets.core.progress import OnProgress, Progress
from genets.latency import ENGINES, Measurement, Target, measure_interleaved
from genets.latency.engines.base import explain_failures
from genets.latency.engines.memory import VALUE_BYTES, max_prepared_bytes
from genets.latency.timing.clock import Precise

Key = TypeVar("Key", bound=Hashable)


def compare(
    networks: Sequence[ComparedNetwork],
    targets: Sequence[Target],
    *,
    timing: Timing | None = None,
    reference: str | None = None,
    file: Path | None = None,
    on_progress: OnProgress | None = None,
    on_rows: Callable[[Comparison], None] | None = None,
    on_unsaved: OnUnsaved | None = None,
) -> Comparison:
    """Measure every network on every target.

    The networks of one target are sampled in turn in one run. Where they do not fit into memory
    together, there are several runs, which have one network in common: the reference. Rows have
    the ratio of their latency to the latency of the reference, unless the reference could not be
    measured beside them. A network that cannot be measured becomes a row with the reason. A file
    that cannot be written costs no row: there is a warning, and measuring continues.

    Args:
        networks: The networks.
        targets: The targets; duplicates are dropped.
        timing: How each network is timed.
        reference: The name of the reference. None means the reference of the rows that `file`
            holds, or else the smallest network that runs. So does a network that does not run at
            all; there is then a warning.
        file: Keeps the rows as they finish. Rows that the file holds are not measured again;
            failed rows are. Its folder is made after the targets are checked.
        on_progress: Called with the progress in rows.
        on_rows: Called with all finished rows after each run.
        on_unsaved: Called at the end if `file` lacks rows because it could not be written, with
            its path and the error.

    Returns:
        A row for each network and target.

    Raises:
        TargetError: This machine has none of the targets.
        GenetsError: The reference is unknown. The rows of `file` are from other conditions or other
            networks, or have their ratios to another network than `reference`; the file is damaged,
            or another process writes it.
    """
    names = [network.name for network in networks]
    if reference is not None and reference not in names:
        raise GenetsError(unknown_name("reference", reference, names))
    target_errors = _find_target_errors(targets)
    if target_errors and all(target_errors.values()):
        raise next(filter(None, target_errors.values()))
    with open_rows(file) as kept:
        result = measure_rows(
            networks, target_errors, timing or Timing(), kept, on_progress, on_rows, reference
        )
    kept.report(on_unsaved)
    return result


def measure_rows(
    networks: Sequence[ComparedNetwork],
    targets: Mapping[Target, TargetError | None],
    timing: Timing,
    kept: RowFile,
    on_progress: OnProgress | None,
    on_rows: Callable[[Comparison], None] | None = None,
    reference: str | None = None,
    precise: Precise = "both",
) -> Comparison:
    """Measure the rows that a file lacks; see `compare`.

    Args:
        networks: The networks.
        targets: Each target, with the error where this machine does not have it.
        timing: How each network is timed.
        kept: The file of the rows.
        on_progress: Called with the progress in rows.
        on_rows: Called with all finished rows after each run.
        reference: The name of the reference, if it was chosen.
        precise: See `measure_interleaved`.
    """
    network_errors = _find_network_errors(networks)
    keys = [
        (network.name, target, network.resolution) for network in networks for target in targets
    ]
    runnable = [network for network in networks if network.name not in network_errors]
    chosen = next((_as_reference(n) for n in runnable if n.name == reference), None)
    if reference is not None and chosen is None:
        reason = network_errors[reference]
        warnings.warn(f"another network is the reference, because {reason}", stacklevel=3)
    seeds = {network.name: network.seed for network in networks}
    check_same_conditions(kept.rows.only(keys), timing, seeds, kept.path, chosen)
    _check_same_networks(kept.rows.only(keys), runnable, kept.path)
    counter = _RowCounter(len(keys), on_progress)
    for target, target_error in targets.items():
        errors = dict(network_errors)
        if target_error is not None:
            errors = dict.fromkeys((n.name for n in networks), str(target_error))
        comparison = _TargetComparison(target, timing, errors, counter, chosen, precise)
        for run in comparison.runs(networks, kept.rows):
            kept.add(run)
            if on_rows:
                on_rows(kept.rows.only(keys))
    return kept.rows.only(keys)


def _find_target_errors(targets: Sequence[Target]) -> dict[Target, TargetError | None]:
    """Each target, once, with the error where this machine does not have it."""
    errors: dict[Target, TargetError | None] = {}
    for target in targets:
        resolved = target.resolved()
        try:
            resolved.check()
            errors[resolved] = None
        except TargetError as error:
            errors[resolved] = error
    return errors


def _find_network_errors(networks: Sequence[ComparedNetwork]) -> dict[str, str]:
    """By name the reason for each network that runs on no target."""
    errors = {}
    for network in networks:
        try:
            _ = network.size
        except GenetsError as error:
            errors[network.name] = str(error)
    return errors


def _as_reference(network: ComparedNetwork) -> ReferenceNetwork:
    return ReferenceNetwork(network.name, network.resolution)


def _check_same_networks(
    stored: Comparison, networks: Sequence[ComparedNetwork], file: Path | None
) -> None:
    """Raise GenetsError if a name means another network than before, as after editing a file."""
    for network in networks:
        size = network.size
        for row in stored.rows:
            if row.network != network.name or not row.measurement:
                continue
            if (row.parameters, row.multiply_adds) != (size.parameters, size.multiply_adds):
                raise GenetsError(
                    f"{file} holds {row.network} as a network of {row.parameters} parameters and "
                    f"{row.multiply_adds} multiply-adds; now it has {size.parameters} and "
                    f"{size.multiply_adds}; {CURE}"
                )


class _RowCounter:
    """Reports the progress in rows; a row in progress counts in part."""

    def __init__(self, total: int, on_progress: OnProgress | None) -> None:
        self._total, self._on_progress, self._done = total, on_progress, 0
        self.report()

    def add(self, rows: int) -> None:
        """Count finished rows."""
        self._done += rows
        self.report()

    def report(self, rows_in_part: float = 0.0, detail: str = "") -> None:
        if self._on_progress:
            done = min(self._done + rows_in_part, self._total)
            self._on_progress(Progress("measuring", done, self._total, detail))


@dataclass(frozen=True)
class _TargetComparison:
    """The runs on one target.

    Attributes:
        errors: The reasons, by name, for networks that are not measured.
        reference: The chosen reference, if it runs.
        precise: See `measure_interleaved`.
    """

    target: Target
    timing: Timing
    errors: Mapping[str, str]
    counter: _RowCounter
    reference: ReferenceNetwork | None
    precise: Precise

    def runs(self, networks: Sequence[ComparedNetwork], stored: Comparison) -> Iterator[Comparison]:
        """Measure the rows that are missing, run by run."""
        stored_keys = {row.key for row in stored.measured_on(self.target)}
        missing = [n for n in networks if (n.name, self.target, n.resolution) not in stored_keys]
        runnable = {n.name: n for n in networks if n.name not in self.errors}
        number = 1 + max((row.run for row in stored.on(self.target)), default=0)
        self.counter.add(len(networks) - len(missing))
        failed = [network for network in missing if network.name not in runnable]
        if failed:
            rows = tuple(self._make_row(n, number, self.errors[n.name]) for n in failed)
            yield Comparison(rows)
            self.counter.add(len(failed))
        names = [network.name for network in missing if network.name in runnable]
        finished: set[str] = set()
        for chunk in self._chunks(runnable, names, stored):
            run = self._run([runnable[name] for name in chunk], number)
            # A network that fails beside others is tried once more alone.
            final = [row for row in run.rows if row.measurement or len(chunk) == 1]
            rows = tuple(r for r in final if r.network in names and r.network not in finished)
            finished |= {row.network for row in rows}
            yield Comparison(rows, run.references)
            self.counter.add(len(rows))
            number += 1
        for name in names:
            if name not in finished:
                yield Comparison(self._run([runnable[name]], number).rows)
                self.counter.add(1)
                number += 1

    def _chunks(
        self, runnable: Mapping[str, ComparedNetwork], names: Sequence[str], stored: Comparison
    ) -> Iterator[list[str]]:
        """Chunks that begin with the reference, also where it has a row."""
        if not names:
            return
        engine, batch_size = ENGINES[self.target.engine], self.target.batch_size
        footprint, limit = engine.footprint(self.target), max_prepared_bytes(self.target)
        # The networks as they were built stay in memory until the end of the run.
        is_built_there = engine.place(self.target) == self.target.device
        built_bytes = VALUE_BYTES["fp32"] if is_built_there else 0
        sizes, maps = {}, {}
        for name, network in runnable.items():
            size = network.size
            sizes[name] = size.held_bytes(footprint, batch_size, built_bytes)
            maps[name] = footprint.map_bytes(size.largest_values, batch_size)
        if footprint.shares_maps:
            limit -= max(maps.values())
        else:
            sizes = {name: sizes[name] + maps[name] for name in sizes}
        references = {_as_reference(network): name for name, network in runnable.items()}
        preferred = (self.reference, *stored.references_on(self.target))
        smallest = min(sizes, key=sizes.__getitem__)
        reference = next((references[each] for each in preferred if each in references), smallest)
        chunk_sizes = {name: sizes[name] for name in dict.fromkeys((reference, *names))}
        yield from in_chunks(chunk_sizes, limit, reference)

    def _run(self, networks: Sequence[ComparedNetwork], number: int) -> Comparison:
        """Measure networks in turn; the first one is the reference."""
        outcomes: dict[str, Measurement | str] = {}
        reference = _as_reference(networks[0])
        detail = f"{self.target.name}, {len(networks)} in turn"
        self.counter.report(detail=f"{detail}: preparing")
        built = self._build(networks, outcomes)
        outcomes |= measure_interleaved(
            built,
            self.target,
            {n.name: n.resolution for n in networks},
            protocol=self.timing.protocol,
            reference=reference.name if reference.name in built else None,
            precise=self.precise,
            time_limit_s=self.timing.time_limit_s,
            on_error=lambda name, error: outcomes.update({name: str(error)}),
            on_progress=lambda share: self.counter.report(share * len(networks), detail),
        )
        rows = tuple(self._make_row(n, number, outcomes[n.name], reference) for n in networks)
        reference_ms = rows[0].ms_per_image
        if reference_ms is None:
            return Comparison(rows)
        return Comparison(
            rows, (ReferenceLatency(number, self.target, reference.name, reference_ms),)
        )

    def _build(
        self, networks: Sequence[ComparedNetwork], outcomes: dict[str, Measurement | str]
    ) -> dict[str, nn.Module]:
        """Build the networks; `outcomes` gets the reason for each one that does not fit."""
        built, device = {}, ENGINES[self.target.engine].place(self.target)
        for network in networks:
            try:
                with explain_failures(self.target, network.resolution):
                    built[network.name] = network.network(device)
            except TargetError as error:
                outcomes[network.name] = str(error)
        return built

    def _make_row(
        self,
        network: ComparedNetwork,
        run: int,
        outcome: Measurement | str,
        reference: ReferenceNetwork | None = None,
    ) -> ComparisonRow:
        measurement = None if isinstance(outcome, str) else outcome
        size = None if network.name in self.errors else network.size
        table = find_paper_table(self.target)
        return ComparisonRow(
            network=network.name,
            family=network.family,
            target=self.target,
            resolution=network.resolution,
            parameters=size.parameters if size else None,
            multiply_adds=size.multiply_adds if size else None,
            top1_percent=network.top1_percent,
            paper_table=table,
            paper_ms=network.published_ms.get(table, {}).get(self.target.batch_size),
            run=run,
            time_limit_s=self.timing.time_limit_s,
            seed=network.seed,
            measurement=measurement,
            error=outcome if isinstance(outcome, str) else None,
            reference=reference if measurement and measurement.ratio else None,
        )


def in_chunks(sizes: Mapping[Key, int], limit: int, reference: Key) -> Iterator[list[Key]]:
    """Cut the keys, in order, into chunks of at most `limit` bytes.

    The reference comes first in every chunk, so that the chunks can be compared. A key that is
    too large for any chunk stands alone beside the reference.
    """
    chunk: list[Key] = []
    chunk_bytes = 0
    for key, size in sizes.items():
        if key == reference:
            continue
        if chunk and chunk_bytes + size + sizes[reference] > limit:
            yield [reference, *chunk]
            chunk, chunk_bytes = [], 0
        chunk.append(key)
        chunk_bytes += size
    yield [reference, *chunk]
