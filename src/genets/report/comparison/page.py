"""The files of a comparison: page, CSV, JSON and pictures."""

from __future__ import annotations

from pathlib import Path

from genets.analysis import Comparison, speed_ups
from genets.analysis.comparison.findings import paper_title
from genets.core.errors import counted
from genets.core.json_files import json_text
from genets.latency import Target
from genets.report.charts import draw_picture
from genets.report.comparison.charts import accuracy_chart
from genets.report.comparison.tables import (
    Setting,
    comparison_record,
    failures,
    group_settings,
    latency_header,
    latency_rows,
    legend,
    notes,
    page_table,
    speed_up_header,
    speed_up_rows,
)
from genets.report.files import current_date, write_files
from genets.report.html import Block, Figure, Paragraph, Section, page
from genets.report.tables import csv_text
from genets.report.wording import accuracy_name, conditions, describe_target, short_conditions

FIGURE_TEXT = (
    "Up and left is better. The dashed line is the frontier: no network here is both faster and "
    "more accurate than a network on the line. Accuracies are published top-1 accuracies on "
    "ImageNet, in full precision. Latencies were measured here. Touch a point, or hover over it, "
    "for its name and figures."
)


def write_comparison(comparison: Comparison, folder: Path) -> dict[str, Path]:
    """Write page, CSV, JSON and pictures into `folder`; returns the paths. Raises OSError."""
    date = current_date()
    contents: dict[str, tuple[str, str | bytes]] = {
        "page": ("comparison.html", comparison_page(comparison, date)),
        "csv": ("comparison.csv", csv_text(comparison.summary())),
    }
    for target in comparison.targets:
        chart = accuracy_chart(comparison.on(target), named=True)
        if chart is not None:
            line = short_conditions(comparison.on(target), date)
            picture = draw_picture(chart, _chart_title(target), line)
            contents[f"picture {target.name}"] = (f"accuracy-{target.name}.png", picture)
    contents["JSON"] = ("comparison.json", json_text(comparison_record(comparison)))
    return write_files(folder, contents)


def comparison_page(comparison: Comparison, date: str) -> str:
    """The page as HTML."""
    sections = [_figures(comparison)]
    for setting in group_settings(comparison):
        sections.append(_latencies(comparison, setting))
        sections += [_speed_ups(comparison, target) for target in setting.targets]
    failed = [Paragraph(line) for line in failures(comparison.rows)]
    sections.append(Section("Not measured", failed))
    title = f"Latency of {counted(len(comparison.networks), 'network')}"
    return page(title, conditions(comparison.rows, date), sections)


def _figures(comparison: Comparison) -> Section:
    blocks: list[Block] = []
    for target in comparison.targets:
        chart = accuracy_chart(comparison.on(target))
        if chart is not None:
            blocks.append(Figure(chart, _chart_title(target)))
    if blocks:
        blocks.insert(0, Paragraph(FIGURE_TEXT))
        unrated = dict.fromkeys(
            row.network for row in comparison.rows if row.measurement and row.top1_percent is None
        )
        if unrated:
            missing = f"Not in the figure, because no accuracy is known: {', '.join(unrated)}."
            blocks.append(Paragraph(missing, True))
    return Section("Accuracy over latency (Figure 5)", blocks)


def _latencies(comparison: Comparison, setting: Setting) -> Section:
    table = page_table(latency_header(comparison, setting), latency_rows(comparison, setting))
    rows = [row for target in setting.targets for row in comparison.on(target)]
    papers = sorted({paper_title(row.paper_table) for row in rows if row.paper_ms is not None})
    printed = (
        f" The grey columns were not measured here; the paper prints them in {', '.join(papers)}."
        if papers
        else ""
    )
    lines = [
        f"ms per image by batch size.{printed}",
        *(note for target in setting.targets for note in notes(comparison, target)),
        *legend(rows),
    ]
    return Section(f"Latency: {setting.title}", [table, *(Paragraph(x, True) for x in lines)])


def _speed_ups(comparison: Comparison, target: Target) -> Section:
    title = f"Speed-ups at equal accuracy (Table 3): {describe_target(target)}"
    speeds = speed_ups(comparison.on(target))
    if not speeds:
        return Section(title, [])
    explained = (
        "How many times faster the GENet is than a network of about its accuracy. The grey column "
        "is the ratio that the paper prints in Table 3 for the setting of "
        f"{paper_title(speeds[0].paper_table)}. The last two columns show the fastest network here "
        "with at least the published top-1 accuracy of the reference. DFNet-2a is slightly more "
        "accurate than GENet-light."
    )
    table = page_table(speed_up_header(target), speed_up_rows(speeds))
    return Section(title, [table, Paragraph(explained, True)])


def _chart_title(target: Target) -> str:
    return f"{describe_target(target)}: {accuracy_name(target)} over measured latency"
