"""The confusion picture: of the images of each class, which share was taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genets.latency import Target
from genets.latency.evaluation import Accuracy, Evaluation
from genets.report.charts import chart_of, save_picture, styled
from genets.report.conditions import described

MOST_CLASSES = 40  # in a picture; more cannot be read
WITH_NUMBERS = 15  # up to so many, the shares stand in their places
LONGEST_NAME = 24  # characters
OTHERS = "all others"
SIZE = 620  # pixels, of the whole table


@dataclass(frozen=True, eq=False)
class Shown:
    """counts: (rows, columns), images; one more column than rows where classes are left out.

    classes: their numbers. names: of the rows, then of the columns beyond them.
    """

    counts: NDArray[np.int64]
    classes: Sequence[int]
    names: Sequence[str]


def save_confusion(found: Evaluation, target: Target, path: Path) -> None:
    """Write the picture of one target. Raises OSError."""
    accuracy = found.accuracy[target]
    shown = most_confused(accuracy, found.class_names)
    total = len(found.class_names)
    some = (
        "" if len(shown.classes) == total
        else f", the {len(shown.classes)} of {total} classes with the most mistakes"
    )  # fmt: skip
    line = (
        f"{found.network[:60]} on {accuracy.images} images of {found.data}, {found.split}; "
        f"{described(target)}; top-1 {accuracy.top1:.2%}"
    )
    save_picture(confusion_chart(shown), f"Confusions{some}", line, path)


def most_confused(accuracy: Accuracy, class_names: Sequence[str]) -> Shown:
    """All classes, or those with the most mistakes: of their images, and taken for them."""
    counts = accuracy.confusion
    if len(class_names) <= MOST_CLASSES:
        return Shown(counts, range(len(class_names)), _distinct(class_names))
    wrong = counts.sum(0) + counts.sum(1) - 2 * np.diag(counts)
    kept = np.sort(np.argsort(-wrong, kind="stable")[:MOST_CLASSES])
    rows = counts[kept]
    others = rows.sum(1) - rows[:, kept].sum(1)
    table = np.column_stack([rows[:, kept], others])
    names = [*_distinct([class_names[number] for number in kept]), OTHERS]
    return Shown(table, kept.tolist(), names)


def confusion_chart(shown: Shown) -> Any:
    """A square for each pair, as dark as the share of the row's images that it holds."""
    import altair as alt

    values = _cells(shown)
    rows, columns = shown.names[: len(shown.counts)], shown.names
    x = alt.X("taken:N", title="taken for", sort=list(columns),
              axis=alt.Axis(labelAngle=-60 if len(columns) > WITH_NUMBERS else 0))  # fmt: skip
    y = alt.Y("class:N", title="class", sort=list(rows))
    colour = alt.Color(
        "share:Q",
        title="share of the class's images",
        # By roots, so that a few images do not look like none.
        scale=alt.Scale(type="sqrt", domain=[0, 1], range=["#ffffff", "#08306b"],
                        interpolate="rgb"),
        legend=alt.Legend(format="%", orient="right", gradientLength=200,
                          values=[0, 0.01, 0.05, 0.2, 0.5, 1]),
    )  # fmt: skip
    shared = chart_of(values).encode(x=x, y=y)
    chart = shared.mark_rect(stroke="#d5d9de", strokeWidth=0.5).encode(color=colour)
    if len(columns) <= WITH_NUMBERS:
        ink = alt.condition("datum.share > 0.25", alt.value("#ffffff"), alt.value("#1b1f24"))
        chart += shared.mark_text(fontSize=11).encode(text="shown:N", color=ink)
    height = SIZE * len(rows) / len(columns)
    # Every name is wanted, however many there are.
    return styled(chart).properties(height=height).configure_axis(labelOverlap=False,
                                                                  labelLimit=200)  # fmt: skip


def _cells(shown: Shown) -> list[dict[str, Any]]:
    """Classes without images have no squares."""
    cells = []
    for name, row in zip(shown.names, shown.counts, strict=False):
        for other, count in zip(shown.names, row, strict=True):
            if row.sum():
                share = float(count / row.sum())
                text = f"{share:.0%}" if count else ""
                cells.append({"class": name, "taken": other, "share": share, "shown": text})
    return cells


def _distinct(names: Sequence[str]) -> list[str]:
    """Shortened names; those that are equal then are told apart by a number."""
    found: dict[str, None] = {}
    for name in names:
        short = name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
        unique, number = short, 2
        while unique in found or unique == OTHERS:
            unique, number = f"{short} ({number})", number + 1
        found[unique] = None
    return list(found)
