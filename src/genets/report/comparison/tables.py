"""A comparison as tables: networks by batch sizes (Tables 7 to 9), speed-ups (Table 3), CSV.

The same cells go to the screen and to the page.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from io import StringIO

from rich.table import Table
from rich.text import Text

from genets.analysis import (
    Comparison,
    ComparisonRow,
    SpeedUp,
    rank_correlation,
    run_note,
    speed_ups,
)
from genets.analysis.comparison.findings import paper_title
from genets.latency import Target
from genets.report.conditions import accuracy_name, described, described_setting
from genets.report.html import Cell, PageTable

NOISY = "~"
LAUNCH_BOUND = "^"
FAILED = "-"
UNCLEAR = "≈"


@dataclass(frozen=True, slots=True)
class Setting:
    """Targets that differ in their batch size alone: one table."""

    targets: tuple[Target, ...]

    @property
    def title(self) -> str:
        return described_setting(self.targets[0])


def settings_of(comparison: Comparison) -> list[Setting]:
    grouped: dict[Target, list[Target]] = {}
    for target in comparison.targets:
        grouped.setdefault(replace(target, batch_size=1), []).append(target)
    by_size = (sorted(targets, key=lambda t: t.batch_size) for targets in grouped.values())
    return [Setting(tuple(targets)) for targets in by_size]


def latency_header(comparison: Comparison, setting: Setting) -> list[str]:
    accuracy = accuracy_name(setting.targets[0])
    sizes = [f"batch {target.batch_size}" for target in setting.targets]
    paper = [str(t.batch_size) for t in _with_paper(comparison, setting)]
    return ["network", "pixels", accuracy, *sizes, *(f"paper {size}" for size in paper)]


def latency_rows(comparison: Comparison, setting: Setting) -> list[list[Cell | str]]:
    """For each network ms per image by batch size, then the paper's."""
    paper = _with_paper(comparison, setting)
    found: list[list[Cell | str]] = []
    for name in comparison.networks:
        rows = {row.target: row for row in comparison.rows if row.network == name}
        one = next((rows[target] for target in setting.targets if target in rows), None)
        if one is None:
            continue
        accuracy = "" if one.top1_percent is None else f"{one.top1_percent:.1f} %"
        ours = [latency_cell(rows.get(target)) for target in setting.targets]
        theirs = [Cell(_paper(rows.get(target)), "quiet") for target in paper]
        found.append([name, str(one.resolution), accuracy, *ours, *theirs])
    return found


def latency_table(comparison: Comparison, setting: Setting) -> Table:
    """ms per image, networks by batch sizes, for the screen."""
    header = latency_header(comparison, setting)
    rows = latency_rows(comparison, setting)
    return _screen_table(f"ms per image: {setting.title}", header, rows)


def speed_up_header(speed: SpeedUp) -> list[str]:
    size = speed.target.batch_size
    return ["reference", "top-1", f"ms, batch {size}", "GENet", "ms", "times faster",
            "paper", "fastest as accurate", "times faster"]  # fmt: skip


def speed_up_rows(speeds: Iterable[SpeedUp]) -> list[list[Cell | str]]:
    return [
        [
            s.reference,
            f"{s.top1_percent:.1f} %",
            f"{s.reference_ms:.4g}",
            s.genet,
            FAILED if s.genet_ms is None else f"{s.genet_ms:.4g}",
            FAILED if s.times is None else f"{s.times:.2f}{UNCLEAR * (not s.clear)}",
            Cell(f"{s.paper_times:.1f}", "quiet"),
            s.fastest,
            f"{s.fastest_times:.2f}{UNCLEAR * (not s.fastest_clear)}",
        ]
        for s in speeds
    ]


def comparison_tables(comparison: Comparison) -> list[Table | Text]:
    """Everything for the screen: latencies, speed-ups, and the sentences about them."""
    shown: list[Table | Text] = []
    for setting in settings_of(comparison):
        shown.append(latency_table(comparison, setting))
        for target in setting.targets:
            rows = comparison.on(target)
            speeds = speed_ups(rows)
            if speeds:
                header = speed_up_header(speeds[0])
                title = f"Speed-ups at equal accuracy (Table 3): {described(target)}"
                shown.append(_screen_table(title, header, speed_up_rows(speeds)))
            shown += [Text(sentence) for sentence in sentences(comparison, target)]
    shown += [Text(line) for line in (*legend(comparison.rows), *failures(comparison.rows))]
    return shown


def sentences(comparison: Comparison, target: Target) -> list[str]:
    """Agreement with the paper, and how the rows were timed."""
    rows = comparison.on(target)
    found = []
    correlation = rank_correlation(rows)
    if correlation:
        found.append(
            f"{described(target)}: rank correlation {correlation.spearman:.2f} with the paper's "
            f"{paper_title(correlation.paper_table)}, batch size {target.batch_size}, over "
            f"{correlation.networks} networks (Spearman)."
        )
    note = run_note(comparison, target)
    return [*found, *([f"{described(target)}: {note}"] if note else [])]


def legend(rows: Sequence[ComparisonRow]) -> list[str]:
    """What the marks in the tables of these rows mean, as far as they occur."""
    measured = [row.measurement for row in rows if row.measurement]
    lines = []
    if any(m.noisy for m in measured):
        lines.append(
            f"{NOISY}: noisy, the 95 % interval did not come within 1 % of the median in time."
        )
    if any(m.launch_bound for m in measured):
        lines.append(
            f"{LAUNCH_BOUND}: launch-bound, the host took over 0.8 of the device's time to hand "
            "over a run."
        )
    targets = dict.fromkeys(row.target for row in rows)
    speeds = [s for one in targets for s in speed_ups([r for r in rows if r.target == one])]
    if any(s.clear is False or not s.fastest_clear for s in speeds):
        lines.append(
            f"{UNCLEAR}: the 95 % intervals of the two networks touch; either may be the faster."
        )
    rated = (row for row in rows if row.measurement and row.top1_percent is not None)
    if any(row.target.precision == "int8" for row in rated):
        lines.append(
            "Accuracies beside INT8 latencies are published ones of the full-precision networks, "
            "not of what was timed: networks with fresh weights, quantised for their latency."
        )
    return lines


def failures(rows: Iterable[ComparisonRow]) -> list[str]:
    """A sentence for each reason; a precision that an engine lacks is the same for all networks."""
    by_reason: dict[str, list[ComparisonRow]] = {}
    for row in rows:
        if row.error:
            by_reason.setdefault(row.error, []).append(row)
    return [
        f"{failed[0].network} on {described(failed[0].target)}"
        f"{f' and {len(failed) - 1} more' if len(failed) > 1 else ''}: {reason}"
        for reason, failed in by_reason.items()
    ]


def comparison_csv(comparison: Comparison) -> str:
    """One line for each row; the names of the columns are those of the JSON."""
    records = comparison.summary()
    text = StringIO()
    names = dict.fromkeys(name for record in records for name in record)
    writer = csv.DictWriter(text, fieldnames=list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def page_table(header: Sequence[str], rows: Sequence[Sequence[Cell | str]]) -> PageTable:
    """GENets stand out."""
    strong = {n for n, row in enumerate(rows) if str(row[0]).lower().startswith("genet")}
    return PageTable(header, rows, frozenset(strong))


def _with_paper(comparison: Comparison, setting: Setting) -> list[Target]:
    return [t for t in setting.targets if any(r.paper_ms is not None for r in comparison.on(t))]


def latency_cell(row: ComparisonRow | None) -> str:
    """ms per image with its marks; empty where nothing was asked for."""
    if row is None or row.measurement is None:
        return "" if row is None else FAILED
    m = row.measurement
    return f"{m.ms_per_image:.4g}{NOISY * m.noisy}{LAUNCH_BOUND * bool(m.launch_bound)}"


def _paper(row: ComparisonRow | None) -> str:
    return "" if row is None or row.paper_ms is None else f"{row.paper_ms:g}"


def _screen_table(title: str, header: Sequence[str], rows: Sequence[Sequence[Cell | str]]) -> Table:
    table = Table(title=Text(title), title_justify="left")
    for number, name in enumerate(header):
        table.add_column(Text(name), justify="left" if number == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(_screen_cell(cell) for cell in row))
    return table


def _screen_cell(cell: Cell | str) -> Text:
    if isinstance(cell, Cell):
        return Text(cell.text, style="dim" if cell.style == "quiet" else "")
    return Text(cell)
