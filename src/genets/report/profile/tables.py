"""Tables and records of a profile, for the screen, the page, CSV and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.table import Table

from genets.analysis.profile.findings import (
    ProfileFinding,
    batch_findings,
    batch_sentence,
    block_findings,
    block_sentence,
    cost_sentence,
)
from genets.analysis.profile.profile import Profile
from genets.report.comparison.tables import latency_cell
from genets.report.tables import screen_table
from genets.report.wording import NOISE_TEXTS, conditions

FINDING_HEADER = ("network", "compared with", "times faster", "95 % interval", "verdict",
                  "verdict of the paper, on a GPU")  # fmt: skip
BATCH_TEXT = (
    "The best batch (the smallest batch size within 5 % of the lowest latency per image) is "
    "compared with the smallest batch, and the slowest larger batch with the best batch. Unclear: "
    "the 95 % intervals of the two latencies touch."
)
BLOCK_TEXT = (
    "The latency of XX with equal parameters is interpolated between its widths. Each width is "
    "timed at another moment, so a change of the device's speed counts as well. The verdict of "
    "the paper is that of section 3.2, where it has one. Unclear: the 95 % intervals of the two "
    "latencies touch."
)
DATA_HEADER = ("network", "figure", "pixels", "batch", "M parameters", "M multiply-adds",
               "ms per image", "95 % interval", "noise",
               "ms per billion multiply-adds")  # fmt: skip


def profile_record(profile: Profile) -> dict[str, Any]:
    """Conditions, rows and findings, for JSON."""
    return {
        "conditions": conditions(profile.rows),
        "rows": row_records(profile),
        "findings": profile_sentences(profile),
        "batch_sizes": [finding.to_json() for finding in batch_findings(profile)],
        "blocks": [finding.to_json() for finding in block_findings(profile)],
    }


def profile_sentences(profile: Profile) -> dict[str, str]:
    """A sentence for each figure, and for rows that are missing or noisy."""
    sentences = {
        "figure2a": batch_sentence(profile),
        "figure2bc": cost_sentence(profile),
        "figure3": block_sentence(profile),
    }
    if profile.left_out:
        sentences["left_out"] = (
            f"Left out, because one run would take more than {profile.settings.run_limit_s:g} s or "
            f"failed: {', '.join(profile.left_out)}."
        )
    measured = [row.measurement for row in profile.rows if row.measurement]
    noisy = sum(measurement.noisy for measurement in measured)
    if noisy:
        sentences["noisy"] = (
            f"{noisy} of {len(measured)} latencies are noisy: an end of their 95 % interval is "
            "more than 1 % away from the median."
        )
    return sentences


def profile_tables(profile: Profile) -> list[Table]:
    """Latency by batch size (Figure 2a) and the findings, for the screen."""
    sizes = sorted({row.target.batch_size for row in profile.batches.rows})
    latencies = []
    for name in profile.batches.networks:
        rows = {r.target.batch_size: r for r in profile.batches.rows if r.network == name}
        latencies.append([name, *(latency_cell(rows.get(size)) for size in sizes)])
    title = "Figure 2a: ms per image by batch size"
    tables = [screen_table(title, ["network", *map(str, sizes)], latencies)]
    for title, findings, text in (
        ("Figure 2a: batch sizes compared", batch_findings(profile), BATCH_TEXT),
        ("Figure 3: blocks compared with XX", block_findings(profile), BLOCK_TEXT),
    ):
        if findings:
            cells = finding_rows(findings)
            tables.append(screen_table(title, FINDING_HEADER, cells, left=2, caption=text))
    return tables


def finding_rows(findings: Sequence[ProfileFinding]) -> list[list[str]]:
    """Cells below `FINDING_HEADER`."""
    rows = []
    for finding in findings:
        r = finding.ratio
        times, low, high = (_digits(value, 3) for value in (r.times, r.low, r.high))
        ratio = [times, f"{low} to {high}", r.verdict]
        rows.append([finding.network, finding.compared_with, *ratio, finding.paper or "-"])
    return rows


def data_rows(profile: Profile) -> list[list[str]]:
    """Cells below `DATA_HEADER`."""
    rows = []
    for record in row_records(profile):
        ms, size, work = (record[n] for n in ("ms_per_image", "parameters", "multiply_adds"))
        low, high = (record[f"{end}_ms_per_image"] for end in ("low", "high"))
        rows.append([
            record["network"],
            record["figure"],
            str(record["resolution"]),
            str(record["batch_size"]),
            "" if size is None else f"{size / 1e6:.3g}",
            "" if work is None else _digits(work / 1e6, 4),
            "-" if ms is None else f"{ms:.4g}",
            "" if ms is None else f"{low:.4g} to {high:.4g}",
            ", ".join(word for word in NOISE_TEXTS if record[word]),
            "" if ms is None or not work else _digits(ms / work * 1e9, 3),
        ])  # fmt: skip
    return rows


def row_records(profile: Profile) -> list[dict[str, Any]]:
    """A record for each row, with its figure and the block of its chain."""
    records = [
        *({"figure": "2a"} | row.summary() for row in profile.batches.rows),
        *({"figure": "2bc"} | row.summary() for row in profile.costs.rows),
    ]
    for row in profile.blocks.rows:
        chain = profile.chains[row.network]
        block = {"figure": "3", "type": chain.type, "width": chain.width, "ratio": chain.ratio}
        records.append(block | row.summary())
    return records


def _digits(value: float, digits: int) -> str:
    """Rounded to so many digits, without an exponent."""
    return np.format_float_positional(value, digits, fractional=False, trim="-")
