"""The file of a comparison: its rows with every sample and their conditions, as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genets.analysis.comparison.rows import Comparison, Reference, Row
from genets.core.errors import GenetsError
from genets.core.files import FileLock, write_atomic
from genets.latency.environment import describe_environment

if TYPE_CHECKING:
    from genets.analysis.comparison.compare import Timing

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
            tuple(Row.from_json(row) for row in record["rows"]),
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
