"""Tables of a comparison: networks by batch sizes (Tables 7 to 9) and speed-ups (Table 3).

The screen and the page show the same cells.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any

from rich.table import Table
from rich.text import Text

from genets.analysis import (
    Comparison,
    ComparisonRow,
    SpeedUp,
    findings,
    rank_correlation,
    run_note,
    speed_ups,
)
from genets.analysis.comparison.findings import find_paper_table, paper_title
from genets.analysis.comparison.rows import ReferenceNetwork
from genets.latency import Measurement, Target
from genets.report.html import Cell, PageTable
from genets.report.tables import screen_table
from genets.report.wording import (
    NOISE_TEXTS,
    accuracy_name,
    conditions,
    describe_setting,
    describe_target,
    noise_words,
)
from genets.structure.published import published_tables

LAUNCH_BOUND = "^"
ABSENT = "-"
UNCLEAR = "≈"
MAX_NAME = 20  # letters of a network in the header of a column


@dataclass(frozen=True, slots=True)
class Setting:
    """Targets that differ only in their batch size: one table."""

    targets: tuple[Target, ...]

    @property
    def title(self) -> str:
        return describe_setting(self.targets[0])


def group_settings(comparison: Comparison) -> list[Setting]:
    grouped: dict[Target, list[Target]] = {}
    for target in comparison.targets:
        grouped.setdefault(replace(target, batch_size=1), []).append(target)
    by_size = (sorted(targets, key=lambda t: t.batch_size) for targets in grouped.values())
    return [Setting(tuple(targets)) for targets in by_size]


def comparison_record(comparison: Comparison) -> dict[str, Any]:
    """Conditions, rows and findings, for JSON."""
    return {
        "conditions": conditions(comparison.rows),
        "rows": comparison.summary(),
        "findings": findings(comparison),
    }


def comparison_tables(comparison: Comparison) -> list[Table | Text]:
    """Latencies, speed-ups and notes, for the screen."""
    parts: list[Table | Text] = []
    for setting in group_settings(comparison):
        header = latency_header(comparison, setting)
        title = f"ms per image: {setting.title}"
        parts.append(screen_table(title, header, latency_rows(comparison, setting)))
        for target in setting.targets:
            speeds = speed_ups(comparison.on(target))
            if speeds:
                title = f"Speed-ups at equal accuracy (Table 3): {describe_target(target)}"
                parts.append(screen_table(title, speed_up_header(target), speed_up_rows(speeds)))
            parts += map(Text, notes(comparison, target))
    return [*parts, *map(Text, legend(comparison.rows)), *map(Text, failures(comparison.rows))]


def latency_header(comparison: Comparison, setting: Setting) -> list[str]:
    accuracy = accuracy_name(setting.targets[0])
    ours = list[str]()
    for target in setting.targets:
        references = comparison.references_on(target)
        names = (_reference_name(each, comparison.rows, MAX_NAME) for each in references)
        ours += [f"batch {target.batch_size}", *(f"x {name}" for name in names)]
    paper = [f"{paper_device(t)}, batch {t.batch_size}" for t in _with_paper(comparison, setting)]
    return ["network", "pixels", accuracy, *ours, *paper]


def latency_rows(comparison: Comparison, setting: Setting) -> list[list[Cell | str]]:
    """For each network its ms per image and ratio by batch size, then the paper's ms per image."""
    paper_targets = _with_paper(comparison, setting)
    lines: list[list[Cell | str]] = []
    for name in comparison.networks:
        rows = {row.target: row for row in comparison.rows if row.network == name}
        first = next((rows[target] for target in setting.targets if target in rows), None)
        if first is None:
            continue
        accuracy = "" if first.top1_percent is None else f"{first.top1_percent:.1f} %"
        ours = list[str]()
        for target in setting.targets:
            row, references = rows.get(target), comparison.references_on(target)
            ours += [interval_cell(row), *(ratio_cell(row, each) for each in references)]
        paper = [Cell(_paper_text(rows.get(target)), "quiet") for target in paper_targets]
        lines.append([name, str(first.resolution), accuracy, *ours, *paper])
    return lines


def speed_up_header(target: Target) -> list[str]:
    return ["reference", "top-1", f"ms, batch {target.batch_size}", "GENet", "ms", "times faster",
            f"times faster, {paper_device(target)}", "fastest as accurate",
            "times faster"]  # fmt: skip


def speed_up_rows(speeds: Iterable[SpeedUp]) -> list[list[Cell | str]]:
    return [
        [
            s.reference,
            f"{s.top1_percent:.1f} %",
            f"{s.reference_ms:.4g}",
            s.genet,
            ABSENT if s.genet_ms is None else f"{s.genet_ms:.4g}",
            ABSENT if s.times is None else f"{s.times:.2f}{UNCLEAR * (not s.clear)}",
            Cell(f"{s.paper_times:.1f}", "quiet"),
            s.fastest,
            f"{s.fastest_times:.2f}{UNCLEAR * (not s.fastest_clear)}",
        ]
        for s in speeds
    ]


def notes(comparison: Comparison, target: Target) -> list[str]:
    """Sentences on the agreement with the paper and on the runs of the rows."""
    sentences = []
    correlation = rank_correlation(comparison.on(target))
    if correlation:
        sentences.append(
            f"{describe_target(target)}: rank correlation {correlation.spearman:.2f} with the "
            f"paper's {paper_title(correlation.paper_table)}, batch size {target.batch_size}, over "
            f"{correlation.networks} networks (Spearman)."
        )
    note = run_note(comparison, target)
    return [*sentences, *([f"{describe_target(target)}: {note}"] if note else [])]


def legend(rows: Sequence[ComparisonRow]) -> list[str]:
    """The meaning of each mark that occurs in the tables of these rows."""
    measured = [row.measurement for row in rows if row.measurement]
    lines = []
    if measured:
        lines.append(
            "±: the farther end of the 95 % interval of the median, in percent of the latency."
        )
    lines += [
        f"x {name}: the latency as a multiple of the latency of {name}, from samples that were "
        f"taken in turn; {ABSENT} without such samples."
        for name in dict.fromkeys(
            _reference_name(row.reference, rows) for row in rows if row.reference
        )
    ]
    lines += [
        f"{word}: {text}."
        for word, text in NOISE_TEXTS.items()
        if any(getattr(m, word) for m in measured)
    ]
    if any(m.launch_bound for m in measured):
        lines.append(
            f"{LAUNCH_BOUND}: launch-bound, launching a run took the host more than 80 % of the "
            "device's time."
        )
    targets = dict.fromkeys(row.target for row in rows)
    speeds = [s for each in targets for s in speed_ups([r for r in rows if r.target == each])]
    if any(s.clear is False or not s.fastest_clear for s in speeds):
        lines.append(
            f"{UNCLEAR}: the 95 % intervals of the two networks touch; either may be the faster."
        )
    rated = (row for row in rows if row.measurement and row.top1_percent is not None)
    if any(row.target.precision == "int8" for row in rated):
        lines.append(
            "Accuracies beside INT8 latencies are published accuracies of the full-precision "
            "networks. The networks that were timed have initial weights and were quantised only "
            "for their latency."
        )
    return lines


def failures(rows: Iterable[ComparisonRow]) -> list[str]:
    """A sentence for each reason; several networks often fail for one reason."""
    by_reason: dict[str, list[ComparisonRow]] = {}
    for row in rows:
        if row.error:
            by_reason.setdefault(row.error, []).append(row)
    return [
        f"{failed[0].network} on {describe_target(failed[0].target)}"
        f"{f' and {len(failed) - 1} more' if len(failed) > 1 else ''}: {reason}"
        for reason, failed in by_reason.items()
    ]


def page_table(header: Sequence[str], rows: Sequence[Sequence[Cell | str]]) -> PageTable:
    """A table with highlighted GENets."""
    strong = {n for n, row in enumerate(rows) if str(row[0]).lower().startswith("genet")}
    return PageTable(header, rows, frozenset(strong))


def _reference_name(
    reference: ReferenceNetwork, rows: Iterable[ComparisonRow], letters: int | None = None
) -> str:
    """The name, with the resolution where rows have the network at another resolution.

    letters: The largest number of letters of the name; None for the whole name.
    """
    name = reference.name
    if letters is not None and len(name) > letters:
        name = f"{name[: letters - 3]}..."
    pixels = {row.resolution for row in rows if row.network == reference.name}
    at_other = pixels and reference.resolution not in pixels
    return f"{name} at {reference.resolution} pixels" if at_other else name


def _with_paper(comparison: Comparison, setting: Setting) -> list[Target]:
    return [t for t in setting.targets if any(r.paper_ms is not None for r in comparison.on(t))]


def paper_device(target: Target) -> str:
    """The device of the paper's figures beside those of a target, such as `paper's V100 FP16`."""
    table = published_tables()[find_paper_table(target)]
    return f"paper's {table.device} {table.precision.upper()}"


def interval_cell(row: ComparisonRow | None) -> str:
    """A latency with its interval, such as `5.12 ± 1.4 % noisy`; see `latency_cell`."""
    m = row.measurement if row else None
    if m is None:
        return latency_cell(row)
    interval = _half_text(m.ms_per_image, m.low_ms_per_image, m.high_ms_per_image)
    return _latency_text(m, interval)


def ratio_cell(row: ComparisonRow | None, reference: ReferenceNetwork) -> str:
    """The ratio of a latency to that of the reference, such as `1.234 ± 0.4 %`.

    Empty where no measurement was asked for.
    """
    if row is None:
        return ""
    if row.measurement and (row.network, row.resolution) == astuple(reference):
        return "1"
    if row.ratio is None or row.reference != reference:
        return ABSENT
    middle, low, high = astuple(row.ratio)
    return f"{middle:.4g} {_half_text(middle, low, high)}"


def latency_cell(row: ComparisonRow | None) -> str:
    """ms per image with its mark and words; empty where no measurement was asked for."""
    if row is None or row.measurement is None:
        return "" if row is None else ABSENT
    return _latency_text(row.measurement)


def _half_text(middle: float, low: float, high: float) -> str:
    """The distance of the farther end of an interval, in percent of the value."""
    return f"± {100 * max(high - middle, middle - low) / middle:.1f} %"


def _latency_text(m: Measurement, *interval: str) -> str:
    latency = f"{m.ms_per_image:.4g}{LAUNCH_BOUND * bool(m.launch_bound)}"
    return " ".join(filter(None, (latency, *interval, noise_words(m))))


def _paper_text(row: ComparisonRow | None) -> str:
    return "" if row is None or row.paper_ms is None else f"{row.paper_ms:g}"
