"""The winners of several budgets beside the MasterNet, as a section of the page of a study."""

from __future__ import annotations

from collections.abc import Sequence

from genets.nas.snapshot import Snapshot
from genets.report.html import Block, Cell, PageTable, Paragraph, Section
from genets.report.study.headline import (
    INT8_TEXT,
    RATIO_INTERVAL_TEXT,
    accuracy_outcome,
    tested_in_int8,
    tested_score,
)
from genets.report.wording import (
    aligned_texts,
    noise_words,
    noisy_score_texts,
    score_names,
)

BUDGETS_TEXT = (
    "One search found a network for each budget; latency table, MasterNet and trials are shared. A "
    "latency is the median time for one image, in ms; low and high are the ends of its 95 % "
    "interval. A budget in x is a multiple of the MasterNet's latency, and the interval is then "
    f"{RATIO_INTERVAL_TEXT}. The MasterNet's latency was measured in turn with the winner of the "
    "largest budget. Scores are on the test images; a range in brackets is a 95 % interval. The "
    "difference from the MasterNet is in points of top-1, paired over the images."
)


def budgets_section(snapshot: Snapshot) -> Section:
    """A row for the MasterNet and for each budget; empty for a study of one budget."""
    if not snapshot.budgets:
        return Section("Budgets", [])
    latencies = aligned_texts(ms for each in snapshot.budgets for ms in _latencies(each))
    quarters = [latencies[start : start + 4] for start in range(0, len(latencies), 4)]
    rows = [_master_row(snapshot)]
    rows += [_budget_row(snapshot, *each) for each in zip(snapshot.budgets, quarters, strict=True)]
    quantised = tested_in_int8(snapshot)
    header = ("budget", "ms per image", "low", "high", "budget, ms", "noise",
              *score_names(snapshot.settings.metric, quantised=quantised, prefix="test "),
              "compared with the MasterNet", "structure")  # fmt: skip
    text = BUDGETS_TEXT + INT8_TEXT * quantised
    blocks: list[Block] = [PageTable(header, rows), Paragraph(text, True)]
    blocks += [
        Paragraph(f"The budget {each.budget} is not met: {each.refusal}.")
        for each in snapshot.budgets
        if each.refusal is not None
    ]
    return Section("Budgets", blocks)


def with_budget(section: Section, snapshot: Snapshot) -> Section:
    """The section with the budget in its title."""
    return Section(f"{section.title}, {snapshot.budget}", section.blocks)


def _master_row(snapshot: Snapshot) -> list[Cell | str]:
    (latency,) = aligned_texts([snapshot.selected.master_ms if snapshot.selected else None])
    scores = _score_texts(snapshot, snapshot, "master")
    return [
        "MasterNet",
        latency,
        "-",
        "-",
        "-",
        "",
        *scores,
        "",
        Cell(str(snapshot.master), "text"),
    ]


def _latencies(snapshot: Snapshot) -> tuple[float | None, ...]:
    """Median, low end and high end of the winner's latency, and the budget; in ms per image."""
    selected = snapshot.selected
    if selected is None:
        return (None,) * 4
    return selected.measured_ms, selected.low_ms, selected.high_ms, selected.budget_ms


def _budget_row(snapshot: Snapshot, budget: Snapshot, latencies: Sequence[str]) -> list[Cell | str]:
    """The row of one budget. snapshot: The study with all budgets."""
    selected, scores = budget.selected, _score_texts(snapshot, budget, "winner")
    if selected is None:
        state = "not met" if budget.refusal is not None else "not selected yet"
        return [budget.budget, *latencies, "", *scores, "", Cell(state, "text")]
    return [
        budget.budget,
        *latencies,
        noise_words(selected),
        *scores,
        Cell(accuracy_outcome(budget), "text"),
        Cell(str(selected.structure), "text"),
    ]


def _score_texts(snapshot: Snapshot, budget: Snapshot, name: str) -> list[str]:
    """The scores of `master` or `winner` on the test images, by metric."""
    quantised = tested_in_int8(snapshot)
    score = tested_score(budget, name)
    return noisy_score_texts(score, snapshot.settings.metric, quantised=quantised)
