"""Rows of a comparison, their conditions, and the file that keeps them with every sample."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass, field, replace
from pathlib import Path
from typing import Any

from genets.core.errors import GenetsError, first_line
from genets.core.files import FileLock, write_atomic
from genets.core.json_files import check_version, read_json
from genets.core.output_folder import make_folder
from genets.core.resumable import differences, take_lock
from genets.core.validation import from_plain, to_plain
from genets.latency import Measurement, Target
from genets.latency.environment import describe_environment, differing_conditions
from genets.latency.timing.clock import find_protocol
from genets.latency.timing.measurement import Ratio, check_time_limit

Key = tuple[str, Target, int]
OnUnsaved = Callable[[Path, OSError], None]

VERSION = 2
LATENCY_FIELDS = ("ms_per_image", "low_ms_per_image", "high_ms_per_image", "p90_ms_per_image",
                  "p99_ms_per_image", "noisy", "disturbed")  # fmt: skip
RATIO_FIELDS = ("times_reference", "low_times_reference", "high_times_reference")
CURE = "remove it, or take another folder"


@dataclass(frozen=True, slots=True)
class Timing:
    """How the networks of a comparison are timed.

    Attributes:
        protocol: "genets-1" or "paper".
        time_limit_s: Longest time of sampling for each row.

    Raises:
        TargetError: The protocol is unknown or the limit is not above 0.
    """

    protocol: str = "genets-1"
    time_limit_s: float = 10.0

    def __post_init__(self) -> None:
        find_protocol(self.protocol)
        check_time_limit(self.time_limit_s)


@dataclass(frozen=True, slots=True)
class ReferenceNetwork:
    """The network that a ratio is relative to. resolution: Input size in pixels."""

    name: str
    resolution: int


@dataclass(frozen=True)
class ComparisonRow:
    """One network on one target: either a measurement, or the reason why it failed.

    Attributes:
        resolution: Input size in pixels.
        parameters, multiply_adds: Of one image; None where the network does not run at all.
        top1_percent: Published accuracy of the full-precision network at its own resolution.
        paper_table: The paper's table of the nearest setting, such as "table7".
        paper_ms: The latency that this table prints for this network and batch size, in ms per
            image; None where it prints none.
        run: Number of the run. The rows of one run were timed in turn, A B A B.
        time_limit_s: Longest time of sampling for this row.
        seed: Seed of the network's weights.
        reference: The network that the ratio is relative to; None where the row has no ratio, as in
            files of older versions.
    """

    network: str
    family: str
    target: Target
    resolution: int
    parameters: int | None
    multiply_adds: int | None
    top1_percent: float | None
    paper_table: str
    paper_ms: float | None
    run: int
    time_limit_s: float
    seed: int
    measurement: Measurement | None = None
    error: str | None = None
    reference: ReferenceNetwork | None = None

    def __post_init__(self) -> None:
        assert (self.measurement is None) != (self.error is None)
        assert (self.ratio is None) == (self.reference is None)

    @property
    def key(self) -> Key:
        return (self.network, self.target, self.resolution)

    @property
    def ms_per_image(self) -> float | None:
        return self.measurement.ms_per_image if self.measurement else None

    @property
    def ratio(self) -> Ratio | None:
        return self.measurement.ratio if self.measurement else None

    def summary(self) -> dict[str, Any]:
        """The row without samples and environment, for tables."""
        m = self.measurement
        ratio = astuple(self.ratio) if self.ratio else (None,) * len(RATIO_FIELDS)
        return {
            "network": self.network,
            "family": self.family,
            **self.target.to_json(),
            "resolution": self.resolution,
            "parameters": self.parameters,
            "multiply_adds": self.multiply_adds,
            "published_top1_percent": self.top1_percent,
            **{name: getattr(m, name, None) for name in LATENCY_FIELDS},
            "reference": self.reference.name if self.reference else None,
            "reference_resolution": self.reference.resolution if self.reference else None,
            **dict(zip(RATIO_FIELDS, ratio, strict=True)),
            "samples": len(m.samples_ms) if m else None,
            **{name: getattr(m, name, None) for name in ("launch_bound", "memory_bytes")},
            "prepare_seconds": sum(m.seconds.values()) if m else None,
            "paper_table": self.paper_table if self.paper_ms is not None else None,
            "paper_ms_per_image": self.paper_ms,
            "run": self.run,
            "error": self.error,
        }


@dataclass(frozen=True, slots=True)
class ReferenceLatency:
    """The latency of the reference network in one run, at the target's batch size."""

    run: int
    target: Target
    network: str
    ms_per_image: float


@dataclass(frozen=True)
class Comparison:
    """Rows in the order of the request, and the reference of each run."""

    rows: tuple[ComparisonRow, ...] = ()
    references: tuple[ReferenceLatency, ...] = ()

    @property
    def targets(self) -> tuple[Target, ...]:
        return tuple(dict.fromkeys(row.target for row in self.rows))

    @property
    def networks(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(row.network for row in self.rows))

    def on(self, target: Target) -> tuple[ComparisonRow, ...]:
        return tuple(row for row in self.rows if row.target == target)

    def measured_on(self, target: Target) -> tuple[ComparisonRow, ...]:
        return tuple(row for row in self.on(target) if row.measurement)

    def references_on(self, target: Target) -> tuple[ReferenceNetwork, ...]:
        """The networks that the ratios on a target are relative to."""
        return tuple(dict.fromkeys(row.reference for row in self.on(target) if row.reference))

    def row(self, network: str, target: Target) -> ComparisonRow | None:
        return next((r for r in self.on(target) if r.network == network), None)

    def with_rows(
        self, rows: Iterable[ComparisonRow], references: Iterable[ReferenceLatency] = ()
    ) -> Comparison:
        """Add rows; a row replaces the earlier one with the same key."""
        merged = {row.key: row for row in self.rows} | {row.key: row for row in rows}
        return replace(
            self, rows=tuple(merged.values()), references=(*self.references, *references)
        )

    def only(self, keys: Iterable[Key]) -> Comparison:
        """Select the rows with these keys, in the order of the keys; missing rows are skipped."""
        by_key = {row.key: row for row in self.rows}
        rows = tuple(by_key[key] for key in dict.fromkeys(keys) if key in by_key)
        runs = {(row.target, row.run) for row in rows}
        references = tuple(r for r in self.references if (r.target, r.run) in runs)
        return Comparison(rows, references)

    def summary(self) -> list[dict[str, Any]]:
        return [row.summary() for row in self.rows]


def lock_rows(path: Path) -> FileLock:
    """Lock a file of rows. Raises GenetsError if another process holds the lock, or OSError."""
    lock_path = path.with_name(f".{path.name}.lock")
    cure = "wait until it ends, or take another folder"
    return take_lock(lock_path, str(path), raises=GenetsError, cure=cure)


def save_rows(comparison: Comparison, path: Path) -> None:
    """Write a file of rows, one row on each line, completely or not at all. Raises OSError."""
    rows = ",\n".join(json.dumps(to_plain(row), allow_nan=False) for row in comparison.rows)
    references = json.dumps([to_plain(r) for r in comparison.references], allow_nan=False)
    text = f'{{"version": {VERSION}, "references": {references}, "rows": [\n{rows}\n]}}\n'
    write_atomic(path, text)


@dataclass
class RowFile:
    """The file that keeps the rows of a comparison as they finish; see `open_rows`.

    A file that cannot be written costs no row: there is a warning, and the next run writes all
    rows again.

    Attributes:
        path: The file; None keeps the rows in memory alone.
        rows: All rows, also those of earlier comparisons.
        error: Why the file could not be written the last time; None if it has all rows.
    """

    path: Path | None = None
    rows: Comparison = field(default_factory=Comparison)
    error: OSError | None = None

    def add(self, run: Comparison) -> None:
        """Add the rows of a run, and write the file."""
        self.rows = self.rows.with_rows(run.rows, run.references)
        if self.path is None:
            return
        try:
            save_rows(self.rows, self.path)
        except OSError as error:
            if self.error is None:
                reason = error.strerror or first_line(error)
                sentence = f"{self.path} cannot be written ({reason}); measuring continues"
                warnings.warn(sentence, stacklevel=2)
            self.error = error
        else:
            self.error = None

    def report(self, on_unsaved: OnUnsaved | None) -> None:
        """Report a file that lacks rows."""
        if self.path and self.error and on_unsaved:
            on_unsaved(self.path, self.error)


@contextmanager
def open_rows(path: Path | None) -> Iterator[RowFile]:
    """Lock a file of rows during the block, and load its rows; its folder is made.

    Raises:
        GenetsError: Another process holds the lock, or the file is damaged.
        OSError: The folder cannot be made or written.
    """
    if path is None:
        yield RowFile()
        return
    make_folder(path.parent)
    with lock_rows(path):
        yield RowFile(path, load_rows(path))


def load_rows(path: Path) -> Comparison:
    """Read a file of rows; without a file the comparison is empty.

    Raises:
        GenetsError: The file is damaged or has another version.
    """

    def read(record: Any) -> Comparison:
        check_version(record, newest=VERSION, oldest=VERSION)
        return Comparison(
            tuple(from_plain(ComparisonRow, row) for row in record["rows"]),
            tuple(from_plain(ReferenceLatency, r) for r in record["references"]),
        )

    return read_json(path, read, cure=CURE) or Comparison()


def check_same_conditions(
    stored: Comparison,
    timing: Timing,
    seeds: Mapping[str, int],
    path: Path | None,
    reference: ReferenceNetwork | None,
) -> None:
    """Check that stored rows were measured under the conditions of this call.

    Args:
        stored: The rows that would be used again.
        timing: How this call measures.
        seeds: Seed of the weights by network.
        path: The file of the rows, for the message.
        reference: The network that the ratios must be relative to. A row without a ratio fits every
            reference; None fits every row.

    Raises:
        GenetsError: A condition of a stored row differs; the message lists each difference.
    """
    for target in stored.targets:
        rows = stored.measured_on(target)
        # A target without a measured row, such as a device that this machine lacks, has no say.
        environment = describe_environment(target) if rows else {}
        for row in rows:
            m = row.measurement
            assert m is not None
            conditions = differing_conditions(m.environment, environment)
            then = {name: old for name, (old, _) in conditions.items()} | {
                "protocol": m.protocol, "time limit": row.time_limit_s, "seed": row.seed,
                "reference": row.reference and asdict(row.reference),
            }  # fmt: skip
            wanted = reference if reference and row.reference else row.reference
            now = {name: new for name, (_, new) in conditions.items()} | {
                "protocol": timing.protocol, "time limit": timing.time_limit_s,
                "seed": seeds[row.network],
                "reference": wanted and asdict(wanted),
            }  # fmt: skip
            changes = differences(then, now, "file", now="here")
            if changes:
                raise GenetsError(
                    f"{path} holds {row.network} on {target.name} under other conditions: "
                    f"{'; '.join(changes)}; {CURE}"
                )
