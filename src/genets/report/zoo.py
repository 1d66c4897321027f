"""Tables of the zoo and of the networks to compare with, for the screen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rich.table import Table

from genets.report.tables import facts_table, screen_table
from genets.structure import Structure
from genets.structure.published import PublishedNetwork, published_tables


@dataclass(frozen=True, slots=True)
class ZooRow:
    """One network of the zoo. multiply_adds: for one image at `resolution` pixels."""

    name: str
    resolution: int
    parameters: int
    multiply_adds: int
    notation: str


def zoo_table(rows: Iterable[ZooRow]) -> Table:
    """One line for each network."""
    header = ("name", "pixels", "parameters", "multiply-adds", "notation")
    cells = (
        [row.name, str(row.resolution), f"{row.parameters / 1e6:.2f} M",
         f"{row.multiply_adds / 1e6:.0f} M", row.notation]
        for row in rows
    )  # fmt: skip
    return screen_table(None, header, cells, fold=("notation",))


def baselines_table(rows: Iterable[PublishedNetwork]) -> Table:
    """One line for each network to compare with; every figure is published, `-` where none is."""
    header = ("name", "set", "pixels", "parameters", "multiply-adds", "top-1", "from")
    cells = (
        [row.name, row.set, str(row.resolution), *_published_figures(row),
         f"{row.network_from}; {row.source}"]
        for row in rows
    )  # fmt: skip
    return screen_table("Baselines, published figures", header, cells, left=2, fold=("from",))


def baseline_tables(baseline: PublishedNetwork) -> list[Table]:
    """The facts about one baseline, and the paper's latencies of it by batch size."""
    parameters, multiply_adds, top1 = _published_figures(baseline)
    facts = [
        ("set", baseline.set),
        ("family", baseline.family),
        ("network", baseline.network_from),
        ("resolution", f"{baseline.resolution} pixels"),
        ("parameters", parameters),
        ("multiply-adds", multiply_adds),
        ("top-1", top1),
        ("source", baseline.source),
        *([("note", baseline.note)] if baseline.note else []),
    ]
    latencies = [_published_latencies(baseline)] if baseline.ms_per_image else []
    return [facts_table(baseline.name, facts), *latencies]


def _published_latencies(baseline: PublishedNetwork) -> Table:
    """A line for each latency table of the paper, a column for each batch size."""
    batch_sizes = sorted({size for row in baseline.ms_per_image.values() for size in row})
    rows = []
    for name, by_size in baseline.ms_per_image.items():
        table = published_tables()[name]
        conditions = f"{table.device}, {table.engine}, {table.precision}"
        rows.append([conditions, *(_or_dash(by_size.get(size), "{:g}") for size in batch_sizes)])
    title = "The paper's latencies in ms per image, by batch size"
    return screen_table(title, ["measured on", *map(str, batch_sizes)], rows)


def stages_table(name: str, structure: Structure) -> Table:
    """One line for each stage; `pixels` is the size of its output along one side."""
    pixels, rows = structure.resolution, []
    for number, stage in enumerate(structure.stages, start=1):
        pixels = -(-pixels // stage.stride)
        values = (stage.depth, stage.width, stage.stride, stage.kernel, f"{stage.ratio:g}", pixels)
        rows.append([str(number), stage.type, *map(str, values)])
    header = ("stage", "type", "depth", "width", "stride", "kernel", "ratio", "pixels")
    return screen_table(f"{name}, {structure.resolution} pixels", header, rows, left=2)


def _published_figures(row: PublishedNetwork) -> list[str]:
    """Parameters, multiply-adds and top-1 accuracy."""
    return [
        _or_dash(row.parameters_m, "{:g} M"),
        _or_dash(row.multiply_adds_m, "{:g} M"),
        _or_dash(row.top1_percent, "{:.1f} %"),
    ]


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
