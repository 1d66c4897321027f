"""The test images of a study by class: scores of each class, and its confusions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from genets.nas.snapshot import Snapshot
from genets.nas.study.class_counts import ClassCounts
from genets.report.evaluation.confusion import (
    confusion_chart,
    confusion_table,
    most_frequent_confusion,
)
from genets.report.html import Cell, Figure, PageTable, Paragraph, Section
from genets.report.wording import share_text

MAX_CLASSES = 40  # in the table
ROW_HEIGHT = 26  # of the chart, in pixels; the squares are as wide as the screen allows
CLASSES_TEXT = (
    "The share of the test images of each class that is recognised; the weakest class of the "
    "winner is first. The range in brackets is the 95 % interval that comes from the number of "
    "images."
)


def classes_section(snapshot: Snapshot) -> Section:
    """Scores and confusions by class; empty before the winner is trained."""
    counts = snapshot.class_counts
    if counts is None:
        return Section("Classes", [])
    text = CLASSES_TEXT
    total = len(counts.class_names)
    if total > MAX_CLASSES:
        text += f" The table has {MAX_CLASSES} of {total} classes."
    table = confusion_table(counts.winner, counts.class_names)
    chart = confusion_chart(table, "bottom").properties(height=ROW_HEIGHT * len(table.counts))
    caption = "Winner: share of the images of each class (row) by predicted class (column)"
    return Section("Classes", [Paragraph(text), _table(counts), Figure(chart, caption)])


def _table(counts: ClassCounts) -> PageTable:
    header = ["class", "images", "winner, top-1 %", "MasterNet, top-1 %",
              "winner takes it most often for"]  # fmt: skip
    images = counts.winner.sum(axis=1)
    shares = np.diag(counts.winner) / np.maximum(images, 1)
    present = [int(number) for number in np.argsort(shares, kind="stable") if images[number]]
    rows: list[list[Cell | str]] = [
        [
            counts.class_names[number],
            str(images[number]),
            _share(counts.winner, number),
            _share(counts.master, number),
            Cell(
                most_frequent_confusion(counts.winner, counts.class_names, number, "images"), "text"
            ),
        ]
        for number in present[:MAX_CLASSES]
    ]
    return PageTable(header, rows)


def _share(table: NDArray[np.int64], number: int) -> str:
    """The share of a class that is recognised, in percent, with its interval."""
    images = int(table[number].sum())
    share = float(table[number, number]) / max(images, 1)
    return share_text(share, images, 1) if images else "-"
