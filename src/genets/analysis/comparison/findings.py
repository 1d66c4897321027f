"""Findings of a comparison: frontier, agreement with the paper, speed-ups (Table 3)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from genets.analysis.comparison.networks import PAPER_NAMES
from genets.analysis.comparison.rows import Comparison, ComparisonRow
from genets.latency import Target
from genets.networks.baselines import PublishedTable, published_speed_ups, published_tables

MIN_RANKED = 3
ZOO_NAMES = {paper: zoo for zoo, paper in PAPER_NAMES.items()}


def frontier(rows: Iterable[ComparisonRow]) -> list[ComparisonRow]:
    """The rows that no other row beats in both latency and published accuracy, fastest first."""
    values = [(row.ms_per_image, row.top1_percent, row) for row in rows]
    rated = [(ms, top1, row) for ms, top1, row in values if ms is not None and top1 is not None]
    best: list[ComparisonRow] = []
    highest = float("-inf")
    for _, top1, row in sorted(rated, key=lambda item: (item[0], -item[1])):
        if top1 > highest:
            best.append(row)
            highest = top1
    return best


@dataclass(frozen=True, slots=True)
class RankCorrelation:
    """Spearman's rank correlation of measured latencies with those of the paper's table.

    Attributes:
        networks: Number of networks.
    """

    target: Target
    paper_table: str
    spearman: float
    networks: int


def rank_correlation(rows: Sequence[ComparisonRow]) -> RankCorrelation | None:
    """Correlate the rows of one target with the paper's latencies at the same batch size.

    Returns:
        The correlation; None where the paper has fewer than 3 of the networks.
    """
    pairs = [(r.ms_per_image, r.paper_ms) for r in rows if r.measurement and r.paper_ms is not None]
    value = spearman(pairs)
    if value is None:
        return None
    return RankCorrelation(rows[0].target, rows[0].paper_table, value, len(pairs))


def spearman(pairs: Sequence[tuple[Any, Any]]) -> float | None:
    """Rank correlation; None for fewer than 3 pairs or where one side is constant."""
    if len(pairs) < MIN_RANKED or any(len(set(side)) < 2 for side in zip(*pairs, strict=True)):
        return None
    from scipy.stats import spearmanr  # half a second, which other commands need not wait for

    return float(spearmanr(*zip(*pairs, strict=True)).statistic)


class Latency(NamedTuple):
    """A latency in ms per image with its 95 % interval."""

    ms: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class SpeedRatio:
    """How many times faster one network is than another; below 1 it is slower.

    Attributes:
        low, high: The smallest and largest ratio that the 95 % intervals of both latencies allow.
    """

    times: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """Either "faster" or "slower", or "unclear" where the intervals of the latencies touch."""
        if self.low > 1:
            return "faster"
        return "slower" if self.high < 1 else "unclear"

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"verdict": self.verdict}


def speed_ratio(latency: Latency, other: Latency) -> SpeedRatio:
    """The speed of the first network over that of the second one."""
    return SpeedRatio(other.ms / latency.ms, other.low / latency.high, other.high / latency.low)


def row_latency(row: ComparisonRow) -> Latency:
    """The latency of a measured row."""
    m = row.measurement
    assert m is not None
    return Latency(m.ms_per_image, m.low_ms_per_image, m.high_ms_per_image)


@dataclass(frozen=True, slots=True)
class SpeedUp:
    """One line of Table 3, on one target.

    The paper prints networks of similar accuracy beside each other, not always of equal accuracy:
    DFNet-2a has 76.0 % and GENet-light 75.7 %. A value is None where a network was not measured.

    Attributes:
        times: How many times faster than `reference` the network `genet` is here.
        paper_times: The same ratio as the paper prints it.
        clear: Whether the 95 % intervals of the two networks are apart, so that one of them is
            certainly faster.
        fastest: The fastest network here with at least the published top-1 accuracy of the
            reference; the reference itself where no such network is faster.
        fastest_times: How many times faster than `reference` the network `fastest` is.
        fastest_clear: Like `clear`, for `fastest`.
    """

    target: Target
    reference: str
    top1_percent: float
    reference_ms: float
    genet: str
    genet_ms: float | None
    times: float | None
    clear: bool | None
    paper_table: str
    paper_times: float
    fastest: str
    fastest_times: float
    fastest_clear: bool


def speed_ups(rows: Sequence[ComparisonRow]) -> list[SpeedUp]:
    """Table 3 from the rows of one target: the lines with a measured reference."""
    measured = {row.network: row for row in rows if row.measurement}
    latencies = {name: row_latency(row) for name, row in measured.items()}
    lines = []
    for line in published_speed_ups():
        reference = measured.get(line.network)
        if reference is None or reference.top1_percent is None or line.network == line.reference:
            continue
        latency = latencies[reference.network]
        genet = latencies.get(line.reference) or latencies.get(ZOO_NAMES[line.reference])
        ratio = speed_ratio(genet, latency) if genet else None
        as_accurate = [
            name for name, row in measured.items()
            if (row.top1_percent or 0.0) >= reference.top1_percent
        ]  # fmt: skip
        fastest = min(as_accurate, key=lambda name: latencies[name].ms)
        fastest_ratio = speed_ratio(latencies[fastest], latency)
        lines.append(
            SpeedUp(
                target=reference.target,
                reference=reference.network,
                top1_percent=reference.top1_percent,
                reference_ms=latency.ms,
                genet=line.reference,
                genet_ms=genet.ms if genet else None,
                times=ratio.times if ratio else None,
                clear=ratio.verdict != "unclear" if ratio else None,
                paper_table=reference.paper_table,
                paper_times=line.speed_up[reference.paper_table],
                fastest=fastest,
                fastest_times=fastest_ratio.times,
                fastest_clear=fastest == reference.network or fastest_ratio.verdict != "unclear",
            )
        )
    return lines


def run_note(comparison: Comparison, target: Target) -> str | None:
    """A sentence about rows of different runs; None where all rows were timed in one run.

    The sentence gives the latencies of the reference in each run, because the machine changes
    between runs.
    """
    runs = {row.run for row in comparison.measured_on(target)}
    if len(runs) < 2:
        return None
    references = [r for r in comparison.references if r.target == target and r.run in runs]
    note = f"The rows come from {len(runs)} runs; the networks of each run were timed in turn"
    for name in dict.fromkeys(reference.network for reference in references):
        times = [r.ms_per_image for r in references if r.network == name]
        if len(times) > 1:
            note += (
                f"; {name}, the reference in {len(times)} of them, took "
                f"{min(times):.4g} to {max(times):.4g} ms per image"
            )
    return f"{note}."


def findings(comparison: Comparison) -> list[dict[str, Any]]:
    """The findings on each target, as records for JSON."""
    records = []
    for target in comparison.targets:
        rows = comparison.on(target)
        correlation = rank_correlation(rows)
        records.append(
            {
                "target": target.to_json(),
                "frontier": [row.network for row in frontier(rows)],
                "rank_correlation": asdict(correlation) if correlation else None,
                "speed_ups": [asdict(speed_up) for speed_up in speed_ups(rows)],
                "note": run_note(comparison, target),
            }
        )
    return records


def find_paper_table(target: Target) -> str:
    """The paper's latency table of the nearest setting: 9 for INT8, 8 for TensorRT, else 7."""
    if target.precision == "int8":
        return "table9"
    return "table8" if target.provider == "tensorrt" else "table7"


def paper_title(name: str) -> str:
    """The title of a table of the paper, such as `Table 7 (V100, PyTorch, FP16)`."""
    table: PublishedTable = published_tables()[name]
    conditions = ", ".join((table.device, table.engine, table.precision.upper()))
    return f"Table {name.removeprefix('table')} ({conditions})"
