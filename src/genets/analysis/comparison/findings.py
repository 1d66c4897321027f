"""What a comparison shows: the frontier, agreement with the paper, speed-ups (Table 3).

The paper's table that a target is compared with.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from scipy.stats import spearmanr

from genets.analysis.comparison.networks import PAPER_NAMES
from genets.analysis.comparison.rows import Comparison, ComparisonRow
from genets.latency import Target
from genets.networks.baselines import PublishedTable, published_speed_ups, published_tables

LEAST_RANKED = 3
ZOO_NAMES = {paper: zoo for zoo, paper in PAPER_NAMES.items()}


def frontier(rows: Iterable[ComparisonRow]) -> list[ComparisonRow]:
    """Those that no other beats in latency and published accuracy at once, fastest first."""
    known = [(r.ms_per_image, r.top1_percent, r) for r in rows]
    rated = [(ms, top1, r) for ms, top1, r in known if ms is not None and top1 is not None]
    best: list[ComparisonRow] = []
    highest = float("-inf")
    for _, top1, row in sorted(rated, key=lambda item: (item[0], -item[1])):
        if top1 > highest:
            best.append(row)
            highest = top1
    return best


@dataclass(frozen=True, slots=True)
class RankCorrelation:
    """Spearman's, between our latencies and those of the paper's table; `networks`: how many."""

    target: Target
    paper_table: str
    spearman: float
    networks: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def rank_correlation(rows: Sequence[ComparisonRow]) -> RankCorrelation | None:
    """Of the rows of one target; None with fewer than 3 that the paper has at its batch size."""
    pairs = [(r.ms_per_image, r.paper_ms) for r in rows if r.measurement and r.paper_ms is not None]
    value = spearman(pairs)
    if value is None:
        return None
    return RankCorrelation(rows[0].target, rows[0].paper_table, value, len(pairs))


def spearman(pairs: Sequence[tuple[Any, Any]]) -> float | None:
    """Rank correlation of pairs; None where there are too few, or one side never changes."""
    if len(pairs) < LEAST_RANKED or any(len(set(side)) < 2 for side in zip(*pairs, strict=True)):
        return None
    return float(spearmanr(*zip(*pairs, strict=True)).statistic)


def is_faster(row: ComparisonRow, other: ComparisonRow) -> bool | None:
    """Whether one measured row is faster than another; None where their 95 % intervals touch."""
    return is_below(_interval(row), _interval(other))


def is_below(own: tuple[float, float], other: tuple[float, float]) -> bool | None:
    """Whether the interval `own` lies below `other`; None where they touch."""
    if own[1] < other[0]:
        return True
    return False if own[0] > other[1] else None


@dataclass(frozen=True, slots=True)
class SpeedUp:
    """One line of Table 3, on one target.

    times: how much faster `genet` is than `reference` here; paper_times: as printed.
    clear: whether their 95 % intervals are apart, so that one of them is the faster one.
    fastest: the fastest network here whose published top-1 is at least the reference's, the
        reference itself where no other is faster; fastest_times: how much faster that is;
        fastest_clear: as `clear`.
    None where a network was not measured. The paper prints accuracies around each other,
    not always equal: DFNet-2a has 76.0 % beside GENet-light's 75.7 %.
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

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def speed_ups(rows: Sequence[ComparisonRow]) -> list[SpeedUp]:
    """Table 3 from the rows of one target: the lines whose reference was measured."""
    measured = {row.network: row for row in rows if row.measurement}
    found = []
    for line in published_speed_ups():
        reference = measured.get(line.network)
        if reference is None or reference.top1_percent is None or line.network == line.reference:
            continue
        genet = measured.get(line.reference) or measured.get(ZOO_NAMES[line.reference])
        reference_ms, genet_ms = _ms(reference), _ms(genet) if genet else None
        as_good = [
            r for r in measured.values() if (r.top1_percent or 0.0) >= reference.top1_percent
        ]
        fastest = min(as_good, key=_ms)
        found.append(
            SpeedUp(
                target=reference.target,
                reference=reference.network,
                top1_percent=reference.top1_percent,
                reference_ms=reference_ms,
                genet=line.reference,
                genet_ms=genet_ms,
                times=reference_ms / genet_ms if genet_ms else None,
                clear=is_faster(genet, reference) is not None if genet else None,
                paper_table=reference.paper_table,
                paper_times=line.speed_up[reference.paper_table],
                fastest=fastest.network,
                fastest_times=reference_ms / _ms(fastest),
                fastest_clear=fastest is reference or is_faster(fastest, reference) is not None,
            )
        )
    return found


def run_note(comparison: Comparison, target: Target) -> str | None:
    """A sentence on rows that were not timed in turn with each other; None where all were."""
    runs = {row.run for row in comparison.measured_on(target)}
    if len(runs) < 2:
        return None
    shared = [r for r in comparison.references if r.target == target and r.run in runs]
    note = f"The rows come from {len(runs)} runs, each with its networks timed in turn"
    for name in dict.fromkeys(r.network for r in shared):
        times = [r.ms_per_image for r in shared if r.network == name]
        if len(times) > 1:
            note += (
                f"; {name}, the reference in {len(times)} of them, took "
                f"{min(times):.4g} to {max(times):.4g} ms per image"
            )
    return f"{note}."


def findings(comparison: Comparison) -> list[dict[str, Any]]:
    """All of the above for each target, as a record."""
    records = []
    for target in comparison.targets:
        rows = comparison.on(target)
        correlation = rank_correlation(rows)
        records.append(
            {
                "target": target.to_json(),
                "frontier": [row.network for row in frontier(rows)],
                "rank_correlation": correlation.to_json() if correlation else None,
                "speed_ups": [s.to_json() for s in speed_ups(rows)],
                "note": run_note(comparison, target),
            }
        )
    return records


def _ms(row: ComparisonRow) -> float:
    assert row.measurement is not None
    return row.measurement.ms_per_image


def _interval(row: ComparisonRow) -> tuple[float, float]:
    assert row.measurement is not None
    return row.measurement.low_ms_per_image, row.measurement.high_ms_per_image


def paper_table(target: Target) -> str:
    """The latency table of the nearest setting: 9 for INT8, 8 for TensorRT, else 7."""
    if target.precision == "int8":
        return "table9"
    return "table8" if target.provider == "tensorrt" else "table7"


def paper_title(name: str) -> str:
    """`Table 7 (V100, PyTorch, FP16)`."""
    table: PublishedTable = published_tables()[name]
    conditions = ", ".join((table.device, table.engine, table.precision.upper()))
    return f"Table {name.removeprefix('table')} ({conditions})"
