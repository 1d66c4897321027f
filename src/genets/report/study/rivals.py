"""The rivals of a search beside its winner: a table on the screen, and a section of the page."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from rich.table import Table

from genets.nas.result import SearchResult
from genets.nas.settings.rival_names import RivalName
from genets.nas.snapshot import Snapshot
from genets.nas.study.records import Candidate
from genets.nas.study.rival_records import RivalResult
from genets.report.html import Cell, PageTable, Paragraph, Section
from genets.report.study.headline import tested_score
from genets.report.tables import screen_table
from genets.report.wording import aligned_texts, difference_text, noise_words, noisy_score_text
from genets.training.score import Metric, Score

IN_INT8 = "test top-1 in int8"
HEADER = ("network", "start", "ms per image", "up to", "budget, ms", "noise", "test top-1",
          IN_INT8, "compared with the winner")  # fmt: skip
TEXT = (
    "Rivals are published networks. Each rival was measured at {pixels} pixels, the winner's input "
    "size, in turn with the MasterNet. {training} start: the weights that a training starts from. "
    "up to: the upper end of the 95 % interval of the latency. The difference of test top-1 is "
    "paired over the test images, and has its 95 % interval."
)
TRAINING_TEXT = (
    "Rivals within the budget were trained for as many epochs as the winner ({epochs}): trained "
    "weights by the recipe finetune, fresh weights by the winner's recipe, without a teacher."
)
NO_TRAINING_TEXT = "No rival was trained."
INT8_TEXT = (
    " in int8: after quantisation with images of the training split, in the engine of the target. "
    "The difference compares the networks before quantisation."
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
    in_int8 = _in_int8(result.winner, result.rivals)
    shown = _shown_columns(left_out, in_int8=in_int8)
    return screen_table(
        f"Rivals, {budget}" if budget else "Rivals",
        [HEADER[number] for number in shown],
        [[row[number] for number in shown] for row in rows],
        left=2,
        fold=(HEADER[0], HEADER[-1]),
        caption=_text(result.rivals, in_int8=in_int8),
    )


def _in_int8(winner: Score | None, rivals: Sequence[RivalResult]) -> bool:
    """Whether a network was scored on the test split after quantisation."""
    scores = [winner, *(rival.test for rival in rivals)]
    return any(score is not None and score.quantised is not None for score in scores)


def _shown_columns(left_out: Collection[str] = (), *, in_int8: bool) -> list[int]:
    """The numbers of the columns in `HEADER` that a table has."""
    return [
        number
        for number, name in enumerate(HEADER)
        if name not in left_out and (in_int8 or name != IN_INT8)
    ]


def rivals_section(snapshot: Snapshot) -> Section:
    """The winner and its rivals; empty for a search without rivals."""
    rivals, selected = snapshot.rivals, snapshot.selected
    if not rivals or selected is None:
        return Section("Rivals", [])
    score = tested_score(snapshot, "winner")
    in_int8 = _in_int8(score, rivals)
    shown = _shown_columns(in_int8=in_int8)
    styles = {0: "text", 1: "left", len(HEADER) - 1: "text"}
    rows: list[list[Cell | str]] = [
        [Cell(row[n], styles[n]) if n in styles else row[n] for n in shown]
        for row in _rows(selected, score, rivals)
    ]
    table = PageTable([HEADER[number] for number in shown], rows, frozenset({0}))
    return Section("Rivals", [table, Paragraph(_text(rivals, in_int8=in_int8), True)])


def _rows(
    selected: Candidate, winner: Score | None, rivals: Sequence[RivalResult]
) -> list[list[str]]:
    """A row for the winner and for each rival."""
    medians = aligned_texts((selected.measured_ms, *(each.measured_ms for each in rivals)))
    highs = aligned_texts((selected.high_ms, *(each.high_ms for each in rivals)))
    budgets = aligned_texts((selected.budget_ms, *(each.budget_ms for each in rivals)))
    columns = zip(medians, highs, budgets, strict=True)
    own = ["winner", "", *next(columns), noise_words(selected),
           *_top1_texts(winner), ""]  # fmt: skip
    return [own, *(_rival_row(*pair) for pair in zip(rivals, columns, strict=True))]


def _rival_row(rival: RivalResult, latencies: Iterable[str]) -> list[str]:
    name = RivalName.parse(rival.name)
    return [
        name.network,
        Path(name.weights).name if rival.weights == "file" else rival.weights or "-",
        *latencies,
        noise_words(rival),
        *_top1_texts(rival.test),
        _outcome(rival),
    ]


def _top1_texts(score: Score | None) -> list[str]:
    """Top-1 before and after quantisation."""
    return [noisy_score_text(each, Metric.TOP1) for each in (score, score and score.quantised)]


def _outcome(rival: RivalResult) -> str:
    if rival.status in ("failed", "left out"):
        return f"{rival.status}: {rival.reason}"
    if rival.status == "above budget":
        return "above the budget, so not compared"
    if rival.difference is None:
        return "not known: the test images were not the same"
    return difference_text(rival.difference)


def _text(rivals: Sequence[RivalResult], *, in_int8: bool) -> str:
    epochs = sorted({rival.epochs for rival in rivals if rival.epochs is not None})
    pixels = sorted({rival.resolution for rival in rivals if rival.resolution is not None})
    training = TRAINING_TEXT if epochs else NO_TRAINING_TEXT
    text = TEXT.format(
        pixels=" and ".join(map(str, pixels)),
        training=training.format(epochs=" and ".join(map(str, epochs))),
    )
    return text + INT8_TEXT * in_int8
