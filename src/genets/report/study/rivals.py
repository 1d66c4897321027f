"""The rivals of a search beside its winner: a table on the screen, and a section of the page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.table import Table

from genets.nas.result import SearchResult
from genets.nas.settings.rival_names import RivalName
from genets.nas.study.records import Candidate
from genets.nas.study.rival_records import RivalResult
from genets.nas.study.snapshot import Snapshot
from genets.report.html import Block, Cell, PageTable, Paragraph, Section
from genets.report.tables import screen_table
from genets.report.wording import aligned_texts, difference_text, noise_words, noisy_score_text
from genets.training.score import Metric, Score

HEADER = ("network", "start", "ms per image", "up to", "budget, ms", "noise", "test top-1",
          "compared with the winner")  # fmt: skip
TEXT = (
    "Rivals are published networks. Each rival was measured at {pixels} pixels, the winner's input "
    "size, in turn with the MasterNet. Rivals within the budget were trained for as many epochs as "
    "the winner ({epochs}): trained weights by the recipe finetune, fresh weights by the winner's "
    "recipe, without a teacher. start: the weights that a training started from. up to: the upper "
    "end of the 95 % interval of the latency. The difference of test top-1 is paired over the "
    "test images, and has its 95 % interval."
)


def rivals_tables(result: SearchResult) -> list[Table]:
    """A table for each budget; none for a search without rivals."""
    budgets = result.budgets or {"": result}
    tables = [_screen_table(budget, each) for budget, each in budgets.items() if each.rivals]
    for table in tables[:-1]:
        table.caption = None  # the text of the last table explains all of them
    return tables


def _screen_table(budget: str, result: SearchResult) -> Table:
    """The table of one budget, without the budget, and without an empty column for noise."""
    rows = _rows(result.selected, result.winner, result.rivals)
    noise = HEADER.index("noise")
    left_out = {"budget, ms"} if any(row[noise] for row in rows) else {"budget, ms", "noise"}
    shown = [number for number, name in enumerate(HEADER) if name not in left_out]
    return screen_table(
        f"Rivals, {budget}" if budget else "Rivals",
        [HEADER[number] for number in shown],
        [[row[number] for number in shown] for row in rows],
        left=2,
        fold=(HEADER[0], HEADER[-1]),
        caption=_text(result.rivals),
    )


def rivals_section(snapshot: Snapshot) -> Section:
    """The winner and its rivals; empty for a search without rivals."""
    rivals, selected = snapshot.rivals, snapshot.selected
    if not rivals or selected is None:
        return Section("Rivals", [])
    counts, score = snapshot.class_counts, snapshot.winner_score
    if counts is not None and score is not None:
        score = Score(score.top1, score.cross_entropy, int(counts.winner.sum()))
    rows: list[list[Cell | str]] = [
        [Cell(row[0], "text"), Cell(row[1], "left"), *row[2:-1], Cell(row[-1], "text")]
        for row in _rows(selected, score, rivals)
    ]
    blocks: list[Block] = [PageTable(HEADER, rows, frozenset({0})), Paragraph(_text(rivals), True)]
    return Section("Rivals", blocks)


def _rows(
    selected: Candidate, winner: Score | None, rivals: Sequence[RivalResult]
) -> list[list[str]]:
    """A row for the winner and for each rival."""
    medians = aligned_texts((selected.measured_ms, *(each.measured_ms for each in rivals)))
    highs = aligned_texts((selected.high_ms, *(each.high_ms for each in rivals)))
    budgets = aligned_texts((selected.budget_ms, *(each.budget_ms for each in rivals)))
    columns = zip(medians, highs, budgets, strict=True)
    own = ["winner", "", *next(columns), noise_words(selected),
           noisy_score_text(winner, Metric.TOP1), ""]  # fmt: skip
    return [own, *(_rival_row(*pair) for pair in zip(rivals, columns, strict=True))]


def _rival_row(rival: RivalResult, latencies: Iterable[str]) -> list[str]:
    name = RivalName.parse(rival.name)
    return [
        name.network,
        Path(name.weights).name if rival.weights == "file" else rival.weights or "-",
        *latencies,
        noise_words(rival),
        noisy_score_text(rival.test, Metric.TOP1),
        _outcome(rival),
    ]


def _outcome(rival: RivalResult) -> str:
    if rival.status in ("failed", "left out"):
        return f"{rival.status}: {rival.reason}"
    if rival.status == "above budget":
        return "above the budget, so not compared"
    if rival.difference is None:
        return "not known: the test images were not the same"
    return difference_text(rival.difference)


def _text(rivals: Sequence[RivalResult]) -> str:
    epochs = sorted({rival.epochs for rival in rivals if rival.epochs is not None})
    pixels = sorted({rival.resolution for rival in rivals if rival.resolution is not None})
    return TEXT.format(
        pixels=" and ".join(map(str, pixels)),
        epochs=" and ".join(map(str, epochs)) or "none was trained",
    )
