"""The files of a profile: page, pictures, CSV; and its table for the screen."""

from __future__ import annotations

import csv
from io import StringIO
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from genets.analysis.profile.findings import batch_sentence, block_sentence, cost_sentence
from genets.analysis.profile.profile import Profile
from genets.core.files import write_atomic
from genets.report.charts import save_picture
from genets.report.comparison.tables import NOISY, failures, latency_cell
from genets.report.conditions import conditions, described, described_setting, short_conditions
from genets.report.html import Block, Figure, PageTable, Paragraph, Section, page
from genets.report.profile.charts import figures


def profile_record(profile: Profile) -> dict[str, Any]:
    """Conditions, rows and findings, for JSON."""
    return {
        "conditions": conditions(profile.rows),
        "rows": _records(profile),
        "findings": profile_sentences(profile),
    }


def profile_sentences(profile: Profile) -> dict[str, str]:
    """One sentence for each figure, and on what is not there."""
    found = {
        "figure2a": batch_sentence(profile),
        "figure2bc": cost_sentence(profile),
        "figure3": block_sentence(profile),
    }
    if profile.left_out:
        limit = profile.settings.run_limit_s
        found["left_out"] = (
            f"Left out, because one run would take more than {limit:g} s or failed: "
            f"{', '.join(profile.left_out)}."
        )
    measured = [row.measurement for row in profile.rows if row.measurement]
    noisy = sum(one.noisy for one in measured)
    if noisy:
        found["noisy"] = (
            f"{noisy} of {len(measured)} latencies are noisy: their 95 % interval did not come "
            "within 1 % of the median in the time given (~ in the table)."
        )
    return found


def write_profile(profile: Profile, folder: Path, date: str) -> dict[str, Path]:
    """Write page, pictures and CSV into `folder`; what was written, by name. Raises OSError."""
    files = {"page": folder / "profile.html", "csv": folder / "profile.csv"}
    write_atomic(files["csv"], _csv(profile))
    write_atomic(files["page"], profile_page(profile, date))
    for name, (title, chart) in figures(profile).items():
        files[name] = folder / f"{name}.png"
        line = (
            f"{described_setting(profile.settings.target)}; {short_conditions(profile.rows, date)}"
        )
        save_picture(chart, title, line, files[name])
    return files


def profile_page(profile: Profile, date: str) -> str:
    """The page as HTML."""
    said = profile_sentences(profile)
    charts = {name: Figure(chart, title) for name, (title, chart) in figures(profile).items()}
    networks: list[Block] = [Paragraph(said["figure2a"]), Paragraph(said["figure2bc"])]
    networks += [charts[name] for name in charts if name.startswith("figure2")]
    if charts:
        networks.append(Paragraph("Upright lines are 95 % intervals of the medians.", True))
    blocks: list[Block] = [Paragraph(_BLOCKS, True), Paragraph(said["figure3"])]
    blocks += [charts[name] for name in charts if name.startswith("figure3")]
    notes = [Paragraph(said[name], True) for name in ("left_out", "noisy") if name in said]
    notes += [Paragraph(line, True) for line in failures(profile.rows)]
    sections = [
        Section("Networks (Figure 2)", networks),
        Section("Blocks (Figure 3)", blocks),
        Section("Notes", notes),
        Section("Data", [_data(profile)]),
    ]
    title = f"Latency profile: {described(profile.settings.target)}"
    facts = conditions(profile.rows, date)
    return page(title, facts, [section for section in sections if section.blocks])


_BLOCKS = (
    "Chains of 5 XX, 10 BL or 10 DW blocks, stride 1, kernel 3. The width of a DW block is here "
    "that of its depth-wise layer, and r the width that it hands on over that width, as in "
    "section 3.2 of the paper; elsewhere its ratio is 1/r."
)


def profile_table(profile: Profile) -> Table:
    """ms per image, networks by batch sizes (Figure 2a), for the screen."""
    sizes = sorted({row.target.batch_size for row in profile.batches.rows})
    table = Table(title=Text("Figure 2a: ms per image by batch size"), title_justify="left")
    table.add_column("network")
    for size in sizes:
        table.add_column(str(size), justify="right")
    for name in profile.batches.networks:
        rows = {r.target.batch_size: r for r in profile.batches.rows if r.network == name}
        table.add_row(Text(name), *(latency_cell(rows.get(size)) for size in sizes))
    return table


def _data(profile: Profile) -> PageTable:
    header = ["network", "figure", "pixels", "batch", "M parameters", "M multiply-adds",
              "ms per image", "95 % interval"]  # fmt: skip
    rows = []
    for record in _records(profile):
        ms, size, work = (record[n] for n in ("ms_per_image", "parameters", "multiply_adds"))
        low, high = (record[f"{end}_ms_per_image"] for end in ("low", "high"))
        rows.append([
            record["network"],
            record["figure"],
            str(record["resolution"]),
            str(record["batch_size"]),
            "" if size is None else f"{size / 1e6:.3g}",
            "" if work is None else f"{float(f'{work / 1e6:.4g}'):g}",  # no exponent
            "-" if ms is None else f"{ms:.4g}{NOISY * record['noisy']}",
            "" if ms is None else f"{low:.4g} to {high:.4g}",
        ])  # fmt: skip
    return PageTable(header, rows)


def _records(profile: Profile) -> list[dict[str, Any]]:
    records = [
        *({"figure": "2a"} | row.summary() for row in profile.batches.rows),
        *({"figure": "2bc"} | row.summary() for row in profile.costs.rows),
    ]
    for row in profile.blocks.rows:
        chain = profile.chains[row.network]
        own = {"figure": "3", "type": chain.type, "width": chain.width, "ratio": chain.ratio}
        records.append(own | row.summary())
    return records


def _csv(profile: Profile) -> str:
    records = _records(profile)
    names = dict.fromkeys(name for record in reversed(records) for name in record)
    text = StringIO()
    writer = csv.DictWriter(text, fieldnames=list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()
