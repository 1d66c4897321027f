"""The files of a comparison: page, pictures and CSV."""

from __future__ import annotations

from pathlib import Path

from genets.analysis import Comparison, speed_ups
from genets.analysis.comparison.findings import paper_title
from genets.core.files import write_atomic
from genets.latency import Target
from genets.report.charts import save_picture
from genets.report.comparison.charts import accuracy_chart
from genets.report.comparison.tables import (
    Setting,
    comparison_csv,
    failures,
    latency_header,
    latency_rows,
    legend,
    page_table,
    sentences,
    settings_of,
    speed_up_header,
    speed_up_rows,
)
from genets.report.conditions import accuracy_name, conditions, described, short_conditions
from genets.report.html import Block, Figure, Paragraph, Section, page


def write_comparison(comparison: Comparison, folder: Path, date: str) -> dict[str, Path]:
    """Write page, pictures and CSV into `folder`; what was written, by name. Raises OSError."""
    files = {"page": folder / "comparison.html", "csv": folder / "comparison.csv"}
    write_atomic(files["csv"], comparison_csv(comparison))
    write_atomic(files["page"], comparison_page(comparison, date))
    for target in comparison.targets:
        chart = accuracy_chart(comparison.on(target), named=True)
        if chart is not None:
            path = folder / f"accuracy-{target.name}.png"
            line = short_conditions(comparison.on(target), date)
            save_picture(chart, _chart_title(target), line, path)
            files[f"picture {target.name}"] = path
    return files


def comparison_page(comparison: Comparison, date: str) -> str:
    """The page as HTML."""
    sections = [_figures(comparison)]
    for setting in settings_of(comparison):
        sections.append(_latencies(comparison, setting))
        sections += [_speed_ups(comparison, target) for target in setting.targets
                     if speed_ups(comparison.on(target))]  # fmt: skip
    failed = failures(comparison.rows)
    if failed:
        sections.append(Section("Not measured", [Paragraph(line) for line in failed]))
    count = len(comparison.networks)
    title = f"Latency of {count} network{'s' * (count != 1)}"
    return page(title, conditions(comparison.rows, date), [s for s in sections if s.blocks])


def _figures(comparison: Comparison) -> Section:
    blocks: list[Block] = []
    for target in comparison.targets:
        chart = accuracy_chart(comparison.on(target))
        if chart is not None:
            blocks.append(Figure(chart, _chart_title(target)))
    if blocks:
        accuracy = (
            "Up and left is better. The dashed line is the frontier: no network here is both "
            "faster and more accurate than those on it. Accuracies are published ones, on "
            "ImageNet, in full precision; latencies were measured here. Touch or hover over a "
            "point for its name and figures."
        )
        blocks.insert(0, Paragraph(accuracy))
        unrated = dict.fromkeys(
            row.network for row in comparison.rows if row.measurement and row.top1_percent is None
        )
        if unrated:
            missing = f"Not in the figure, as no accuracy is known here: {', '.join(unrated)}."
            blocks.append(Paragraph(missing, True))
    return Section("Accuracy over latency (Figure 5)", blocks)


def _latencies(comparison: Comparison, setting: Setting) -> Section:
    table = page_table(latency_header(comparison, setting), latency_rows(comparison, setting))
    notes = [s for target in setting.targets for s in sentences(comparison, target)]
    printed = {paper_title(row.paper_table) for target in setting.targets
               for row in comparison.on(target) if row.paper_ms is not None}  # fmt: skip
    explained = "ms per image by batch size" + (
        f"; to the right, in grey, what the paper prints: {', '.join(sorted(printed))}."
        if printed
        else "."
    )
    rows = [row for target in setting.targets for row in comparison.on(target)]
    lines = [explained, *notes, *legend(rows)]
    return Section(f"Latency: {setting.title}", [table, *(Paragraph(x, True) for x in lines)])


def _speed_ups(comparison: Comparison, target: Target) -> Section:
    rows = comparison.on(target)
    speeds = speed_ups(rows)
    header = speed_up_header(speeds[0])
    explained = (
        "How much faster the GENet is than a network of about its accuracy, beside the ratio that "
        f"the paper prints in Table 3 for the setting of {paper_title(speeds[0].paper_table)}; and "
        "the fastest network here that is at least as accurate as the "
        "reference, by published top-1. DFNet-2a is slightly more accurate than GENet-light."
    )
    return Section(
        f"Speed-ups at equal accuracy (Table 3): {described(target)}",
        [page_table(header, speed_up_rows(speeds)), Paragraph(explained, True)],
    )


def _chart_title(target: Target) -> str:
    return f"{described(target)}: {accuracy_name(target)} over measured latency"
