"""The latencies of the paper's Tables 7, 8 and 9, and the speed-ups of its Table 3."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class PublishedTable:
    """One of the paper's latency tables.

    Attributes:
        name: `table7`, `table8` or `table9`.
        device: The GPU.
        engine: The inference engine.
        precision: The precision.
        column: The prefix of this table's columns in `table3.csv`.
        table3_batch_size: The batch size of the latencies that Table 3 uses.
        top1_percent: Network -> top-1 accuracy on ImageNet, in percent.
        ms_per_image: Network -> batch size -> latency in ms per image.
    """

    name: str
    device: str
    engine: str
    precision: str
    column: str
    table3_batch_size: int
    top1_percent: Mapping[str, float]
    ms_per_image: Mapping[str, Mapping[int, float]]


@dataclass(frozen=True, slots=True)
class SpeedUp:
    """One line of Table 3: the speed-up of a GENet against another network.

    Attributes:
        reference: The GENet.
        network: The other network.
        top1_percent: Top-1 accuracy of the other network on ImageNet, in percent.
        ms_per_image: Its latency as Table 3 prints it, by the name of the latency table.
        speed_up: This latency divided by that of the GENet, as Table 3 prints it, likewise.
    """

    reference: str
    network: str
    top1_percent: float
    ms_per_image: Mapping[str, float]
    speed_up: Mapping[str, float]


CONDITIONS = {
    "table7": ("V100", "PyTorch", "fp16", "v100_fp16", 64),
    "table8": ("T4", "TensorRT", "fp16", "t4_fp16", 32),
    "table9": ("T4", "TensorRT", "int8", "t4_int8", 32),
}
LATENCY = "ms_per_image_batch"


@cache
def published_tables() -> Mapping[str, PublishedTable]:
    """The tables `table7`, `table8` and `table9` by name.

    INT8 accuracies were not published; Table 9 has the floating-point ones.
    """
    return {name: _table(name) for name in CONDITIONS}


@cache
def published_speed_ups() -> tuple[SpeedUp, ...]:
    """The lines of Table 3, in its order.

    They are as printed, with three oddities: Table 3 calls DFNet-2a DNANet-2a; it gives
    RegNetY-600MF on the V100 the latency of RegNetY-800MF (0.31; Table 7 has 0.25); and it gives
    GENet-large 0.34 there (Table 7 has 0.33).
    """
    tables = published_tables().values()
    return tuple(
        SpeedUp(
            reference=row["reference"],
            network=row["model"],
            top1_percent=float(row["top1_percent"]),
            ms_per_image={t.name: float(row[f"{t.column}_ms"]) for t in tables},
            speed_up={t.name: float(row[f"{t.column}_speed_up"]) for t in tables},
        )
        for row in _rows("table3")
    )


def _table(name: str) -> PublishedTable:
    rows = _rows(name)
    return PublishedTable(
        name,
        *CONDITIONS[name],
        top1_percent={row["model"]: float(row["top1_percent"]) for row in rows},
        ms_per_image={row["model"]: _by_batch_size(row) for row in rows},
    )


def _by_batch_size(row: Mapping[str, str]) -> dict[int, float]:
    columns = [column for column in row if column.startswith(LATENCY)]
    return {int(column.removeprefix(LATENCY)): float(row[column]) for column in columns}


def _rows(name: str) -> list[dict[str, str]]:
    text = files(__package__).joinpath(f"{name}.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))
