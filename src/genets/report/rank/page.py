"""The files of a rank analysis: page, CSV, JSON and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from genets.analysis.rank.advice import Advice, BlockLatencies
from genets.analysis.rank.rank import NetworkRank, claim_sentence
from genets.core.json_files import json_text
from genets.report.charts import draw_picture
from genets.report.files import current_date, write_files
from genets.report.html import Block, Cell, Figure, PageTable, Paragraph, Section, page
from genets.report.rank.charts import draw_spectra, spectrum_chart, stages_chart
from genets.report.rank.tables import (
    HEADER,
    TEXT_COLUMNS,
    advice_rows,
    next_step,
    rank_cells,
    rank_record,
    stage_records,
    value_records,
)
from genets.report.tables import csv_text

TITLE = "Figure 4: singular values of the last k x k convolution of each stage"
STAGES_TITLE = "Share of directions that holds 90 % of the energy, by stage"
SPECTRUM_TEXT = (
    "The kernel of the last k x k convolution of each stage is a matrix of output channels by "
    "(input channels times k x k). The chart shows its singular values divided by the largest, by "
    "index divided by the number of output channels (section 3.3). The faster a line falls, the "
    "lower is the intrinsic rank."
)
COLUMNS_TEXT = (
    "Stable rank: the sum of the squares over the largest square. Effective rank: exp of the "
    "entropy of the values over their sum. 90 % of energy: the smallest number of directions that "
    "holds 90 % of the sum of squares. All three are shares of the output channels. Random "
    "weights: the share for 90 % of the energy of Gaussian weights of this shape (Marchenko and "
    "Pastur). Kept at 0.5: the share of energy that the best approximation with half as many "
    "channels keeps."
)
BOUND_TEXT = (
    "A BL or DW block with r times the channels keeps at most the energy of the best approximation "
    "of that rank. This is an upper bound: only training shows whether a block reaches it."
)


def write_rank(
    networks: Sequence[NetworkRank],
    advice: Mapping[str, Sequence[Advice]],
    latencies: BlockLatencies | None,
    folder: Path,
) -> dict[str, Path]:
    """Write page, CSV, JSON and pictures into `folder`; returns the paths. Raises OSError."""
    date = current_date()
    line = f"{_versions()}, {date}"
    by_stage = draw_picture(stages_chart(networks), STAGES_TITLE, line)
    return write_files(folder, {
        "page": ("rank.html", rank_page(networks, advice, latencies, date)),
        "csv": ("rank.csv", csv_text(stage_records(networks))),
        "singular values": ("singular_values.csv", csv_text(value_records(networks))),
        "figure 4": ("figure4.png", draw_spectra(networks, TITLE, line)),
        "by stage": ("rank_by_stage.png", by_stage),
        "JSON": ("rank.json", json_text(rank_record(networks, advice))),
    })  # fmt: skip


def rank_page(
    networks: Sequence[NetworkRank],
    advice: Mapping[str, Sequence[Advice]],
    latencies: BlockLatencies | None,
    date: str,
) -> str:
    """The page as HTML."""
    names = [f"{network.name} ({network.weights})" for network in networks]
    spectra = [
        Figure(spectrum_chart(network), name) for network, name in zip(networks, names, strict=True)
    ]
    claims = [Paragraph(claim_sentence(network)) for network in networks]
    tables: list[Block] = []
    for network, name in zip(networks, names, strict=True):
        tables += [Paragraph(f"{name}:"), _rank_table(network)]
    by_stage = Figure(stages_chart(networks), STAGES_TITLE)
    sections = [
        Section("Singular values (Figure 4)", [Paragraph(SPECTRUM_TEXT, True), *claims, *spectra]),
        Section("Rank by stage", [by_stage, Paragraph(COLUMNS_TEXT, True), *tables]),
        Section("Blocks in place of XX", _advice(advice, latencies)),
    ]
    facts = {"networks": ", ".join(names), "versions": _versions(), "date": date}
    return page("Intrinsic rank of convolutions", facts, sections)


def _rank_table(network: NetworkRank) -> PageTable:
    rows: list[list[Cell | str]] = []
    for stage in network.stages:
        texts = rank_cells(stage)
        rows.append([texts[0], *(Cell(text, "quiet") for text in texts[1:TEXT_COLUMNS]),
                     *texts[TEXT_COLUMNS:]])  # fmt: skip
    return PageTable(HEADER, rows)


def _advice(
    advice: Mapping[str, Sequence[Advice]], latencies: BlockLatencies | None
) -> list[Block]:
    blocks: list[Block] = []
    for name, items in advice.items():
        header, rows, advised = advice_rows(items)
        if rows:
            blocks += [Paragraph(f"{name}:"), PageTable(header, rows, advised)]
            step = next_step(name, items)
            blocks += [Paragraph(step)] if step else []
    if not blocks:
        return []
    note = "No profile was given, so latency is not considered."
    if latencies is not None:
        note = (
            "The latencies are those of a profile's chains of blocks, 5 XX beside 10 BL or DW, "
            f"which see the same region ({latencies.target}, {latencies.resolution} pixels), at "
            "the profile's width nearest to the layer's. A block is faster or slower only where "
            "the 95 % intervals of both latencies are apart. ~: noisy, an interval did not come "
            "within 1 % of the median."
        )
    return [Paragraph(BOUND_TEXT, True), Paragraph(note, True), *blocks]


def _versions() -> str:
    return ", ".join(f"{name} {version(name)}" for name in ("torch", "timm"))
