"""The winners of several budgets beside the MasterNet, as a section of the page of a study."""

from __future__ import annotations

from collections.abc import Sequence

from genets.nas.study.snapshot import Snapshot
from genets.report.html import Block, Cell, PageTable, Paragraph, Section
from genets.report.wording import (
    accuracy_words,
    aligned_texts,
    difference_text,
    noise_words,
    noisy_score_text,
    shown_by,
)
from genets.training.score import Score

BUDGETS_TEXT = (
    "One search found a network for each budget; latency table, MasterNet and trials are shared. A "
    "latency is the median time for one image, in ms; low and high are the ends of its 95 % "
    "interval. A budget in x is a multiple of the low end of the MasterNet's interval. The "
    "MasterNet's latency was measured in turn with the winner of the largest budget. Scores are on "
    "the test images; a range in brackets is a 95 % interval. The difference from the MasterNet is "
    "in points of top-1, paired over the test images."
)


def budgets_section(snapshot: Snapshot) -> Section:
    """A row for the MasterNet and for each budget; empty for a study of one budget."""
    if not snapshot.budgets:
        return Section("Budgets", [])
    latencies = aligned_texts(ms for each in snapshot.budgets for ms in _latencies(each))
    quarters = [latencies[start : start + 4] for start in range(0, len(latencies), 4)]
    rows = [_master_row(snapshot), *map(_budget_row, snapshot.budgets, quarters)]
    header = ("budget", "ms per image", "low", "high", "budget, ms", "noise",
              *(f"test {metric.label}" for metric in shown_by(snapshot.settings.metric)),
              "compared with the MasterNet", "structure")  # fmt: skip
    blocks: list[Block] = [PageTable(header, rows), Paragraph(BUDGETS_TEXT, True)]
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
    scores = _score_texts(snapshot, "master")
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


def _budget_row(snapshot: Snapshot, latencies: Sequence[str]) -> list[Cell | str]:
    selected = snapshot.selected
    if selected is None:
        state = "not met" if snapshot.refusal is not None else "not selected yet"
        dashes = ["-" for _ in shown_by(snapshot.settings.metric)]
        return [snapshot.budget, *latencies, "", *dashes, "", Cell(state, "text")]
    return [
        snapshot.budget,
        *latencies,
        noise_words(selected),
        *_score_texts(snapshot, "winner"),
        Cell(_difference_text(snapshot), "text"),
        Cell(str(selected.structure), "text"),
    ]


def _score_texts(snapshot: Snapshot, name: str) -> list[str]:
    """The scores of `master` or `winner` on the test images, by metric."""
    record, counts = (snapshot.result or {}).get(name), snapshot.class_counts
    images = None if counts is None else int(counts.winner.sum())
    score = None if record is None else Score.from_json({"images": images, **record})
    return [noisy_score_text(score, metric) for metric in shown_by(snapshot.settings.metric)]


def _difference_text(snapshot: Snapshot) -> str:
    counts, result = snapshot.class_counts, snapshot.result
    if counts is not None and counts.difference is not None:
        return difference_text(counts.difference)
    if result is None:
        return "not trained yet"
    master, winner = (Score.from_json(result[name]) for name in ("master", "winner"))
    return accuracy_words(winner.top1 - master.top1)
