"""What the paper printed: the latencies of Tables 7, 8 and 9 and the speed-ups of Table 3."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class PublishedTable:
    """One of the paper's latency tables; in Table 3 it stands for `table3_batch_size`.

    column: how the columns of `table3.csv` begin.
    top1_percent: network -> top-1 accuracy on ImageNet, in percent.
    ms_per_image: network -> batch size -> latency in ms per image.
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
    """One line of Table 3: `reference` is so many times faster than `network`.

    ms_per_image, speed_up: by the name of the latency table, as Table 3 prints them.
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
    """`table7`, `table8` and `table9` by name. INT8 accuracies were not published: FP ones."""
    return {name: _table(name) for name in CONDITIONS}


@cache
def published_speed_ups() -> tuple[SpeedUp, ...]:
    """The lines of Table 3, in its order.

    As printed, with three oddities: what it calls DNANet-2a is DFNet-2a; RegNetY-600MF has
    on the V100 the latency of RegNetY-800MF (0.31, in Table 7 0.25); GENet-large has 0.34
    there, in Table 7 0.33.
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
