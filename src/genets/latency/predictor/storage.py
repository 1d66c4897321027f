"""The file of a latency table: JSON with all settings, conditions and timings of the table."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from genets.core.errors import TargetError
from genets.core.json_files import check_version
from genets.core.validation import from_plain, to_plain
from genets.latency.engines import ENGINES
from genets.latency.environment import describe_environment, differing_conditions
from genets.latency.predictor.builder import OWN_BLOCKS, WholeNetwork
from genets.latency.predictor.probes import BlockProbe, OverheadProbe, Probe, StemOrHeadProbe
from genets.latency.target import Target
from genets.networks.own_blocks import block_digests
from genets.structure import Block, DesignSpace, SearchSpace, Structure

if TYPE_CHECKING:
    from genets.latency.predictor.table import LatencyTable

VERSION = 2


@dataclass(frozen=True)
class TableSettings:
    """The inputs that a stored table must share to be used again, on the device of this machine.

    Attributes:
        space: The search space.
        target: The target.
        num_classes: The number of classes of the networks.
    """

    space: SearchSpace
    target: Target
    num_classes: int

    def differences(self, table: LatencyTable) -> Iterator[str]:
        """Yield each difference with its values in the table and here."""
        pairs: dict[str, tuple[Any, Any]] = {
            "MasterNet": (str(table.space.master), str(self.space.master)),
            "design space": (table.space.space, self.space.space),
            "target": (table.target.name, self.target.name),
            "number of classes": (table.num_classes, self.num_classes),
        }
        if OWN_BLOCKS in table.environment:
            then, now = table.environment[OWN_BLOCKS], block_digests(self.space)
            pairs |= {f"content of the file of {name}": (then.get(name, "missing")[:12],
                                                         now.get(name, "missing")[:12])
                      for name in dict.fromkeys((*then, *now))}  # fmt: skip
        pairs = {name: (old, new) for name, (old, new) in pairs.items() if old != new}
        packages = ("torch", *ENGINES[self.target.engine].packages)
        here = describe_environment(self.target)
        pairs |= differing_conditions(table.environment, here, packages)
        for name, (old, new) in pairs.items():
            yield f"{name} {old} in the table, {new} here"


def table_to_json(table: LatencyTable) -> dict[str, Any]:
    """See `LatencyTable.to_json`."""
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
                "predicted_ms_per_batch": table.predict_ms_per_image(n.structure)
                * table.target.batch_size,
            }
            for n in table.networks
        ],
        "entries": [{**to_plain(probe), "ms": ms} for probe, ms in table.timed_ms.items()],
    }


def read_fields(record: Mapping[str, Any]) -> dict[str, Any]:
    """Read the arguments of `LatencyTable` from the output of `table_to_json`.

    It raises the errors of foreign JSON; see `genets.core.json_files.READ_ERRORS`.
    """
    check_version(record, newest=VERSION, oldest=VERSION)
    space = dict(record["space"])
    space["blocks"] = tuple(Block(**block) for block in space["blocks"])
    return {
        "space": DesignSpace(**space).around(Structure.parse(record["master"])),
        "target": Target.from_json(record["target"]),
        "num_classes": record["num_classes"],
        "timed_ms": {_read_probe(entry): _read_ms(entry["ms"]) for entry in record["entries"]},
        "networks": tuple(
            WholeNetwork(Structure.parse(n["structure"]), _read_ms(n["ms_per_batch"]), n["use"])
            for n in record["networks"]
        ),
        "environment": dict(record["environment"]),
        "seconds": record.get("seconds", {}),
    }


def _read_probe(entry: Mapping[str, Any]) -> Probe:
    fields = {name: value for name, value in entry.items() if name != "ms"}
    if "block" in fields:
        return from_plain(BlockProbe, fields)
    if "name" in fields:
        return from_plain(StemOrHeadProbe, fields)
    return from_plain(OverheadProbe, fields)


def _read_ms(value: Any) -> float:
    ms = float(value)
    if not 0 <= ms < math.inf:
        raise TargetError(f"a latency is {ms} ms")
    return ms
