"""Networks that have a name, for the screen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from genets.networks.baselines import Baseline, published_tables
from genets.report.tables import columns_table, facts_table
from genets.structure import Structure


@dataclass(frozen=True, slots=True)
class ZooRow:
    """One network of the zoo. multiply_adds: for one image at `resolution` pixels."""

    name: str
    resolution: int
    parameters: int
    multiply_adds: int
    notation: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def zoo_table(rows: Iterable[ZooRow]) -> Table:
    """One line for each network."""
    table = columns_table(None, left=("name",), right=("pixels", "parameters", "multiply-adds"))
    table.add_column("notation", overflow="fold")
    for row in rows:
        counts = (f"{row.parameters / 1e6:.2f} M", f"{row.multiply_adds / 1e6:.0f} M")
        table.add_row(Text(row.name), str(row.resolution), *counts, Text(row.notation))
    return table


def baselines_table(rows: Iterable[Baseline]) -> Table:
    """One line for each network to compare with; every figure as published, `-` for none."""
    numbers = ("pixels", "parameters", "multiply-adds", "top-1")
    table = columns_table("Baselines, published figures", left=("name", "set"), right=numbers)
    table.add_column("from", overflow="fold")
    for row in rows:
        counts = [_or_dash(row.parameters_m, "{:g} M"), _or_dash(row.multiply_adds_m, "{:g} M")]
        top1 = _or_dash(row.top1_percent, "{:.1f} %")
        origin = Text(f"{row.network_from}; {row.source}")
        table.add_row(Text(row.name), row.set, str(row.resolution), *counts, top1, origin)
    return table


def baseline_tables(baseline: Baseline) -> list[Table]:
    """What is known of one baseline, and the paper's latencies of it by batch size."""
    facts = [
        ("set", baseline.set),
        ("family", baseline.family),
        ("network", baseline.network_from),
        ("resolution", f"{baseline.resolution} pixels"),
        ("parameters", _or_dash(baseline.parameters_m, "{:g} M")),
        ("multiply-adds", _or_dash(baseline.multiply_adds_m, "{:g} M")),
        ("top-1", _or_dash(baseline.top1_percent, "{:.1f} %")),
        ("source", baseline.source),
        *([("note", baseline.note)] if baseline.note else []),
    ]
    if not baseline.ms_per_image:
        return [facts_table(baseline.name, facts)]
    return [facts_table(baseline.name, facts), _published_table(baseline)]


def _published_table(baseline: Baseline) -> Table:
    """A line for each of the paper's latency tables, a column for each batch size."""
    batch_sizes = sorted({size for row in baseline.ms_per_image.values() for size in row})
    title = "The paper's latencies in ms per image, by batch size"
    table = columns_table(title, left=("measured on",), right=map(str, batch_sizes))
    for name, row in baseline.ms_per_image.items():
        published = published_tables()[name]
        conditions = f"{published.device}, {published.engine}, {published.precision}"
        table.add_row(conditions, *(_or_dash(row.get(size), "{:g}") for size in batch_sizes))
    return table


def stages_table(name: str, structure: Structure) -> Table:
    """One line for each stage; `pixels` along one side of what it hands on."""
    numbers = ("depth", "width", "stride", "kernel", "ratio", "pixels")
    table = columns_table(
        f"{name}, {structure.resolution} pixels", left=("stage", "type"), right=numbers
    )
    pixels = structure.resolution
    for number, stage in enumerate(structure.stages, start=1):
        pixels = -(-pixels // stage.stride)
        values = (stage.depth, stage.width, stage.stride, stage.kernel, f"{stage.ratio:g}", pixels)
        table.add_row(str(number), stage.type, *map(str, values))
    return table


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
