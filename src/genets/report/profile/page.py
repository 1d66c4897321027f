"""The files of a profile: page, CSV, JSON and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from genets.analysis.profile.findings import ProfileFinding, batch_findings, block_findings
from genets.analysis.profile.profile import Profile
from genets.core.json_files import json_text
from genets.report.charts import draw_picture
from genets.report.comparison.tables import failures
from genets.report.files import current_date, write_files
from genets.report.html import Block, Figure, PageTable, Paragraph, Section, page
from genets.report.profile.charts import figures
from genets.report.profile.tables import (
    BATCH_TEXT,
    BLOCK_TEXT,
    DATA_HEADER,
    FINDING_HEADER,
    data_rows,
    finding_rows,
    profile_record,
    profile_sentences,
    row_records,
)
from genets.report.tables import csv_text
from genets.report.wording import conditions, describe_setting, describe_target, short_conditions

CHAINS_TEXT = (
    "Chains of 5 XX, 10 BL or 10 DW blocks with stride 1 and kernel 3. As in section 3.2 of the "
    "paper, the width of a DW block is here the width of its depth-wise layer, and its r is the "
    "output width divided by this width. In the notation of structures, the ratio of this DW block "
    "is 1/r."
)


def write_profile(profile: Profile, folder: Path) -> dict[str, Path]:
    """Write page, CSV, JSON and pictures into `folder`; returns the paths. Raises OSError."""
    date = current_date()
    contents: dict[str, tuple[str, str | bytes]] = {
        "page": ("profile.html", profile_page(profile, date)),
        "csv": ("profile.csv", csv_text(row_records(profile))),
    }
    line = f"{describe_setting(profile.settings.target)}; {short_conditions(profile.rows, date)}"
    for name, (title, chart) in figures(profile).items():
        contents[name] = (f"{name}.png", draw_picture(chart, title, line))
    contents["JSON"] = ("profile.json", json_text(profile_record(profile)))
    return write_files(folder, contents)


def profile_page(profile: Profile, date: str) -> str:
    """The page as HTML."""
    sentences = profile_sentences(profile)
    charts = {name: Figure(chart, title) for name, (title, chart) in figures(profile).items()}
    networks: list[Block] = [Paragraph(sentences["figure2a"]), Paragraph(sentences["figure2bc"])]
    networks += [charts[name] for name in charts if name.startswith("figure2")]
    if charts:
        networks.append(Paragraph("Upright lines are 95 % intervals of the medians.", True))
    networks += _table(batch_findings(profile), BATCH_TEXT)
    blocks: list[Block] = [Paragraph(CHAINS_TEXT, True), Paragraph(sentences["figure3"])]
    blocks += [charts[name] for name in charts if name.startswith("figure3")]
    blocks += _table(block_findings(profile), BLOCK_TEXT)
    notes = [sentences[name] for name in ("left_out", "noisy") if name in sentences]
    sections = [
        Section("Networks (Figure 2)", networks),
        Section("Blocks (Figure 3)", blocks),
        Section("Notes", [Paragraph(line, True) for line in (*notes, *failures(profile.rows))]),
        Section("Data", [PageTable(DATA_HEADER, data_rows(profile))]),
    ]
    title = f"Latency profile: {describe_target(profile.settings.target)}"
    return page(title, conditions(profile.rows, date), sections)


def _table(findings: Sequence[ProfileFinding], text: str) -> list[Block]:
    if not findings:
        return []
    return [PageTable(FINDING_HEADER, finding_rows(findings)), Paragraph(text, True)]
