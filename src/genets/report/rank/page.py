"""The files of a rank analysis: page, pictures and CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from genets.analysis.rank.advice import Advice, BlockLatencies
from genets.analysis.rank.rank import NetworkRank, claim_sentence
from genets.core.files import write_atomic
from genets.report.charts import save_picture
from genets.report.html import Block, Cell, Figure, PageTable, Paragraph, Section, page
from genets.report.rank.charts import save_spectra, spectrum_chart, stages_chart
from genets.report.rank.tables import HEADER, TEXT_COLUMNS, cells, stages_csv, values_csv

TITLE = "Figure 4: singular values of the last k x k convolution of each stage"
STAGES_TITLE = "Share of directions that holds 90 % of the energy, by stage"
READING = (
    "The kernel of the last k x k convolution of each stage, as a matrix of output channels by "
    "input channels times k x k; its singular values over the largest, by index over the output "
    "channels (section 3.3). The faster a line falls, the lower the intrinsic rank."
)
COLUMNS = (
    "Stable rank: the sum of the squares over the largest square. Effective rank: exp of the "
    "entropy of the values over their sum. 90 % of energy: the least number of directions that "
    "holds 90 % of the sum of squares. All three are shares of the output channels. Random "
    "weights: the same 90 % for Gaussian weights of this shape (Marchenko and Pastur). Kept at "
    "0.5: the share of energy that the best approximation of half as many channels keeps."
)
ADVICE = (
    "A BL or DW block that goes through r times the channels keeps no more of a kernel's energy "
    "than the best approximation of that rank. That is a bound; what a block reaches, training "
    "shows."
)


def write_rank(
    networks: Sequence[NetworkRank],
    advice: Mapping[str, Sequence[Advice]],
    latencies: BlockLatencies | None,
    folder: Path,
    date: str,
) -> dict[str, Path]:
    """Write page, pictures and CSV into `folder`; what was written, by name. Raises OSError."""
    files = {
        "page": folder / "rank.html",
        "csv": folder / "rank.csv",
        "singular values": folder / "singular_values.csv",
        "figure 4": folder / "figure4.png",
        "by stage": folder / "rank_by_stage.png",
    }
    write_atomic(files["csv"], stages_csv(networks))
    write_atomic(files["singular values"], values_csv(networks))
    write_atomic(files["page"], rank_page(networks, advice, latencies, date))
    line = f"{_versions()}, {date}"
    save_spectra(networks, TITLE, line, files["figure 4"])
    save_picture(stages_chart(networks), STAGES_TITLE, line, files["by stage"])
    return files


def rank_page(
    networks: Sequence[NetworkRank],
    advice: Mapping[str, Sequence[Advice]],
    latencies: BlockLatencies | None,
    date: str,
) -> str:
    """The page as HTML."""
    figures = [Figure(spectrum_chart(one), f"{one.name} ({one.weights})") for one in networks]
    claims = [Paragraph(claim_sentence(found)) for found in networks]
    by_stage: list[Block] = [Figure(stages_chart(networks), STAGES_TITLE)]
    tables: list[Block] = []
    for found in networks:
        tables += [Paragraph(f"{found.name}, {found.weights}:"), _table(found)]
    sections = [
        Section("Singular values (Figure 4)", [Paragraph(READING, True), *claims, *figures]),
        Section("Rank by stage", [*by_stage, Paragraph(COLUMNS, True), *tables]),
        Section("Advice", _advice(advice, latencies)),
    ]
    facts = {
        "networks": ", ".join(f"{one.name} ({one.weights})" for one in networks),
        "versions": _versions(),
        "date": date,
    }
    title = "Intrinsic rank of convolutions"
    return page(title, facts, [section for section in sections if section.blocks])


def _table(found: NetworkRank) -> PageTable:
    rows: list[list[Cell | str]] = []
    for stage in found.stages:
        texts = cells(stage)
        rows.append([texts[0], *(Cell(text, "quiet") for text in texts[1:TEXT_COLUMNS]),
                     *texts[TEXT_COLUMNS:]])  # fmt: skip
    return PageTable(HEADER, rows)


def _advice(
    advice: Mapping[str, Sequence[Advice]], latencies: BlockLatencies | None
) -> list[Block]:
    blocks: list[Block] = []
    for name, found in advice.items():
        if found:
            blocks += [Paragraph(f"{name}:"), *(Paragraph(one.sentence) for one in found)]
            blocks.append(_choices(found))
    if not blocks:
        return []
    note = "No profile was given, so nothing is said on latency."
    if latencies is not None:
        note = (
            f"Latencies are those of a profile's chains of blocks, 5 XX beside 10 BL or DW, which "
            f"see the same region ({latencies.target}, {latencies.resolution} pixels), at its "
            "width that is nearest to the layer's. Faster than XX is what is so by more than both "
            "95 % intervals. ~: noisy, an interval did not come within 1 % of the median."
        )
    return [Paragraph(ADVICE, True), Paragraph(note, True), *blocks]


def _choices(found: Sequence[Advice]) -> PageTable:
    header = ["stage", "block", "can keep"]
    rows = [
        [str(one.stage.stage), choice.block(one.stage), f"{choice.kept:.1%}"]
        for one in found
        for choice in one.choices
    ]
    if any(one.width is not None for one in found):
        header += ["timed at width", "times XX's latency"]
        timed = [(one.width, choice) for one in found for choice in one.choices]
        for row, (width, choice) in zip(rows, timed, strict=True):
            row += [str(width), f"{choice.times_latency:.2f}{'~' * choice.noisy}"]
    best = {(one.stage.stage, one.best.block(one.stage)) for one in found if one.best}
    strong = frozenset(n for n, row in enumerate(rows) if (int(row[0]), row[1]) in best)
    return PageTable(header, rows, strong)


def _versions() -> str:
    return ", ".join(f"{name} {version(name)}" for name in ("torch", "timm"))
