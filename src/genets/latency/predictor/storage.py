"""The file of a latency table: JSON with everything that the table was made from."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from genets.core.errors import GenetsError, TargetError
from genets.latency.engines import ENGINES
from genets.latency.environment import describe_environment
from genets.latency.predictor.probes import Edge, End, Piece, Probe
from genets.latency.predictor.table import LatencyTable, WholeNetwork
from genets.latency.target import Target
from genets.structure import Block, DesignSpace, SearchSpace, Structure

VERSION = 2
CUDA_VERSIONS = ("driver", "cuda", "cudnn")  # in the environment; on a CPU there are none


def table_to_json(table: LatencyTable) -> dict[str, Any]:
    """Settings, conditions, timings, whole networks; and, for readers, what follows from them."""
    predicted = {n.structure: table.predict_ms_per_image(n.structure) for n in table.networks}
    return {
        "version": VERSION,
        "target": table.target.to_json(),
        "master": str(table.space.master),
        "space": asdict(table.space.space),
        "num_classes": table.num_classes,
        "environment": dict(table.environment),
        "seconds": dict(table.seconds),
        "rmspe": table.rmspe,
        "calibration": {
            "factors": table.calibration.factors.tolist(),
            "offset_ms": table.calibration.offset_ms,
        },
        "networks": [
            {
                "structure": str(n.structure),
                "use": n.use,
                "ms_per_batch": n.ms_per_batch,
                "predicted_ms_per_batch": predicted[n.structure] * table.target.batch_size,
            }
            for n in table.networks
        ],
        "entries": [{**piece.to_json(), "ms": ms} for piece, ms in table.timed_ms.items()],
    }


@dataclass(frozen=True)
class TableSettings:
    """What a table must be for, to be used again; and the device must be the one here."""

    space: SearchSpace
    target: Target
    num_classes: int

    def differences(self, table: LatencyTable) -> Iterator[str]:
        """Each difference as `name: in the table, here`."""
        here = describe_environment(self.target)
        there = table.environment
        pairs: dict[str, tuple[Any, Any]] = {
            "MasterNet": (str(table.space.master), str(self.space.master)),
            "design space": (table.space.space, self.space.space),
            "target": (table.target.name, self.target.name),
            "number of classes": (table.num_classes, self.num_classes),
            "device": (there.get("device_name"), here["device_name"]),
            "threads": (there.get("threads"), here["threads"]),
        }
        pairs |= {name: (there.get(name), here.get(name)) for name in CUDA_VERSIONS}
        old_packages, new_packages = there.get("packages", {}), here["packages"]
        for name in ("torch", *ENGINES[self.target.engine].packages):
            pairs[name] = (old_packages.get(name), new_packages.get(name))
        for name, (old, new) in pairs.items():
            if old != new:
                yield f"{name} {old} there, {new} here"


def read_table(path: Path, expect: TableSettings | None) -> LatencyTable:
    """See `LatencyTable.load`."""
    try:
        table = _from_json(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise TargetError(f"cannot read latency table {path}: {error.strerror}") from error
    # What foreign JSON may raise; GenetsError is a ValueError.
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = str(error) if isinstance(error, GenetsError) else "it is damaged or foreign"
        raise TargetError(f"{path} is not a latency table of this version: {reason}") from error
    found = list(expect.differences(table)) if expect else []
    if found:
        raise TargetError(f"latency table {path} is for other settings: {'; '.join(found)}")
    return table


def _from_json(record: Mapping[str, Any]) -> LatencyTable:
    if record["version"] != VERSION:
        raise TargetError(f"version is {record['version']}, not {VERSION}")
    space = dict(record["space"])
    space["blocks"] = tuple(Block(**block) for block in space["blocks"])
    return LatencyTable(
        DesignSpace(**space).around(Structure.parse(record["master"])),
        Target.from_json(record["target"]),
        record["num_classes"],
        {_piece(entry): _ms(entry["ms"]) for entry in record["entries"]},
        tuple(
            WholeNetwork(Structure.parse(n["structure"]), _ms(n["ms_per_batch"]), n["use"])
            for n in record["networks"]
        ),
        dict(record["environment"]),
        record.get("seconds", {}),
    )


def _piece(entry: Mapping[str, Any]) -> Probe:
    fields = {name: value for name, value in entry.items() if name != "ms"}
    if "block" in fields:
        return Piece.from_json(fields)
    return End.from_json(fields) if "name" in fields else Edge.from_json(fields)


def _ms(value: Any) -> float:
    ms = float(value)
    if not 0 <= ms < math.inf:
        raise TargetError(f"a latency is {ms} ms")
    return ms
