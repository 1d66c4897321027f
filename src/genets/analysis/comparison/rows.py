"""Rows of a comparison, and what holds them together.

The file of a comparison: its rows with every sample and their conditions, as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genets.core.errors import GenetsError
from genets.core.files import FileLock, write_atomic
from genets.latency import Measurement, Target
from genets.latency.environment import describe_environment

if TYPE_CHECKING:
    from genets.analysis.comparison.compare import Timing


Key = tuple[str, Target, int]


@dataclass(frozen=True)
class ComparisonRow:
    """One network on one target: a measurement, or the sentence that says why there is none.

    resolution: pixels. multiply_adds: of one image; None, like `parameters`, where the network
        does not run at all.
    top1_percent: published, of the full-precision network at its own resolution.
    paper_table, paper_ms: the paper's table of the nearest setting (`table7` ...), and what it
        prints for this network and batch size, ms per image; None where it has nothing.
    run: rows of one run were timed in turn, A B A B.
    time_limit_s: of its sampling. seed: of its weights.
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

    def __post_init__(self) -> None:
        assert (self.measurement is None) != (self.error is None)

    @property
    def key(self) -> Key:
        return (self.network, self.target, self.resolution)

    @property
    def ms_per_image(self) -> float | None:
        return self.measurement.ms_per_image if self.measurement else None

    def to_json(self) -> dict[str, Any]:
        """With every sample; `from_json` reads it back without loss."""
        return asdict(self) | {
            "measurement": self.measurement.to_json() if self.measurement else None
        }

    def summary(self) -> dict[str, Any]:
        """For people and tables: no samples, no environment."""
        m = self.measurement
        return {
            "network": self.network,
            "family": self.family,
            **self.target.to_json(),
            "resolution": self.resolution,
            "parameters": self.parameters,
            "multiply_adds": self.multiply_adds,
            "published_top1_percent": self.top1_percent,
            "ms_per_image": m.ms_per_image if m else None,
            "low_ms_per_image": m.low_ms_per_image if m else None,
            "high_ms_per_image": m.high_ms_per_image if m else None,
            "p90_ms_per_image": m.p90_ms_per_image if m else None,
            "p99_ms_per_image": m.p99_ms_per_image if m else None,
            "noisy": m.noisy if m else None,
            "samples": len(m.samples_ms) if m else None,
            "launch_bound": m.launch_bound if m else None,
            "memory_bytes": m.memory_bytes if m else None,
            "prepare_seconds": sum(m.seconds.values()) if m else None,
            "paper_table": self.paper_table if self.paper_ms is not None else None,
            "paper_ms_per_image": self.paper_ms,
            "run": self.run,
            "error": self.error,
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> ComparisonRow:
        """Raises KeyError, TypeError or TargetError: no row."""
        values = dict(record)
        values["target"] = Target.from_json(values["target"])
        if values["measurement"] is not None:
            values["measurement"] = Measurement.from_json(values["measurement"])
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Reference:
    """What the reference network took in a run. ms_per_image: at the target's batch size."""

    run: int
    target: Target
    network: str
    ms_per_image: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Reference:
        return cls(**{**record, "target": Target.from_json(record["target"])})


@dataclass(frozen=True)
class Comparison:
    """Rows in the order in which they were asked for."""

    rows: tuple[ComparisonRow, ...] = ()
    references: tuple[Reference, ...] = ()

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

    def row(self, network: str, target: Target) -> ComparisonRow | None:
        return next((r for r in self.on(target) if r.network == network), None)

    def with_rows(
        self, rows: Iterable[ComparisonRow], references: Iterable[Reference] = ()
    ) -> Comparison:
        """With these rows added, or in place of those of the same network and target."""
        merged = {row.key: row for row in self.rows} | {row.key: row for row in rows}
        return replace(
            self, rows=tuple(merged.values()), references=(*self.references, *references)
        )

    def only(self, keys: Iterable[Key]) -> Comparison:
        """Those rows, in that order, as far as they are there."""
        known = {row.key: row for row in self.rows}
        rows = tuple(known[key] for key in dict.fromkeys(keys) if key in known)
        runs = {(row.target, row.run) for row in rows}
        kept = tuple(r for r in self.references if (r.target, r.run) in runs)
        return Comparison(rows, kept)

    def summary(self) -> list[dict[str, Any]]:
        return [row.summary() for row in self.rows]


VERSION = 2
SAME = ("device_name", "threads", "packages")  # of the environment, for rows to stand together


@contextmanager
def only_user(path: Path) -> Iterator[None]:
    """Keep other processes from writing the same rows. Raises GenetsError if one does; OSError."""
    try:
        lock = FileLock(path.with_name(f".{path.name}.lock"))
    except BlockingIOError as error:
        raise GenetsError(
            f"{path} is {error.strerror}; wait until it ends, or take another folder"
        ) from error
    with lock:
        yield


def save_rows(comparison: Comparison, path: Path) -> None:
    """Write atomically. Raises GenetsError where it cannot be written."""
    rows = ",\n".join(json.dumps(row.to_json(), allow_nan=False) for row in comparison.rows)
    references = json.dumps([r.to_json() for r in comparison.references], allow_nan=False)
    text = f'{{"version": {VERSION}, "references": {references}, "rows": [\n{rows}\n]}}\n'
    write_atomic(path, text)


def load_rows(path: Path) -> Comparison:
    """What is there; nothing, if there is no such file. Raises GenetsError if it is damaged."""
    try:
        record = json.loads(path.read_bytes())
        if record["version"] != VERSION:
            raise GenetsError(f"version {record['version']} instead of {VERSION}")
        return Comparison(
            tuple(ComparisonRow.from_json(row) for row in record["rows"]),
            tuple(Reference.from_json(r) for r in record["references"]),
        )
    except FileNotFoundError:
        return Comparison()
    except (ValueError, KeyError, TypeError) as error:  # GenetsError is a ValueError
        raise GenetsError(
            f"{path} is damaged or of another version ({error}); remove it, or take another folder"
        ) from error


def check_still_valid(
    known: Comparison, timing: Timing, seeds: Mapping[str, int], path: Path | None
) -> None:
    """Raise GenetsError if rows that would be used again are from other conditions.

    seeds: of the weights, by network.
    """
    for target in known.targets:
        here = describe_environment(target)
        for row in known.measured_on(target):
            assert row.measurement is not None
            there = row.measurement.environment
            pairs: dict[str, tuple[Any, Any]] = {n: (there.get(n), here.get(n)) for n in SAME}
            pairs["protocol"] = (row.measurement.protocol, timing.protocol)
            pairs["time limit"] = (row.time_limit_s, timing.time_limit_s)
            pairs["seed"] = (row.seed, seeds[row.network])
            found = [
                f"{n} {old} there, {new} here" for n, (old, new) in pairs.items() if old != new
            ]
            if found:
                raise GenetsError(
                    f"{path} holds {row.network} on {target.name} under other conditions: "
                    f"{'; '.join(found)}; take another folder, or remove it"
                )
