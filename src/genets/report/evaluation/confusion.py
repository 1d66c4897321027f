"""The picture of confusions: the share of each class's images by predicted class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from genets.latency import Target
from genets.latency.evaluation import Evaluation
from genets.report.charts import draw_picture, make_chart, styled
from genets.report.wording import describe_target

MAX_CLASSES = 40  # in a picture; more cannot be read
MAX_NUMBERED = 15  # classes; in a larger picture the shares are not printed
MAX_NAME = 24  # characters
OTHERS = "all others"
SIZE = 620  # of the picture's table, in pixels


@dataclass(frozen=True, eq=False)
class ConfusionTable:
    """The confusions of some classes.

    Attributes:
        counts: (rows, columns), images; one more column than rows where classes are left out.
        classes: The numbers of the classes.
        names: The names of the columns; the rows have the first of them.
    """

    counts: NDArray[np.int64]
    classes: Sequence[int]
    names: Sequence[str]


def draw_confusion(evaluation: Evaluation, target: Target) -> bytes:
    """A PNG of the confusions on one target."""
    accuracy = evaluation.accuracy[target]
    table = confusion_table(accuracy.confusion, evaluation.class_names)
    total, title = len(evaluation.class_names), "Confusions"
    if len(table.classes) < total:
        title += f", the {len(table.classes)} of {total} classes with the most mistakes"
    line = (
        f"{evaluation.network[:60]} on {accuracy.images} images of {evaluation.data}, "
        f"{evaluation.split}; {describe_target(target)}; top-1 {accuracy.top1:.2%}"
    )
    return draw_picture(confusion_chart(table), title, line)


def confusion_table(counts: NDArray[np.int64], class_names: Sequence[str]) -> ConfusionTable:
    """The confusions of all classes, or of the 40 classes with the most mistakes.

    The mistakes of a class are its images with a wrong prediction and the other images that were
    predicted to be of this class.

    Args:
        counts: (classes, classes), images by true and predicted class.
        class_names: The names of the classes.
    """
    if len(class_names) <= MAX_CLASSES:
        return ConfusionTable(counts, range(len(class_names)), _distinct(class_names))
    wrong = counts.sum(0) + counts.sum(1) - 2 * np.diag(counts)
    kept = np.sort(np.argsort(-wrong, kind="stable")[:MAX_CLASSES])
    rows = counts[kept]
    others = rows.sum(1) - rows[:, kept].sum(1)
    names = [*_distinct([class_names[number] for number in kept]), OTHERS]
    return ConfusionTable(np.column_stack([rows[:, kept], others]), kept.tolist(), names)


def most_frequent_confusion(
    counts: NDArray[np.int64], class_names: Sequence[str], number: int, unit: str = ""
) -> str:
    """The class that a class is most often taken for; empty where no image is taken for another.

    Args:
        counts: See `confusion_table`.
        class_names: The names of the classes.
        number: The number of the true class.
        unit: The word after the number of images.
    """
    row = counts[number].copy()
    row[number] = 0
    other = int(row.argmax())
    count = f"{row[other]} {unit}".rstrip()
    return f"{class_names[other]} ({count})" if row[other] else ""


def confusion_chart(table: ConfusionTable, legend: Literal["right", "bottom"] = "right") -> Any:
    """A square for each pair of classes; a larger share of the row's images is darker.

    legend: The side of the legend; on a phone, one at the right would leave no room.
    """
    import altair as alt

    values = _cells(table)
    rows, columns = table.names[: len(table.counts)], table.names
    x = alt.X("taken:N", title="predicted class", sort=list(columns),
              axis=alt.Axis(labelAngle=-60 if len(columns) > MAX_NUMBERED else 0))  # fmt: skip
    y = alt.Y("class:N", title="class", sort=list(rows))
    colour = alt.Color(
        "share:Q",
        title="share of the class's images",
        # A square-root scale, so that a few images differ visibly from none.
        scale=alt.Scale(type="sqrt", domain=[0, 1], range=["#ffffff", "#08306b"],
                        interpolate="rgb"),
        legend=alt.Legend(format="%", orient=legend, gradientLength=200, titleLimit=0,
                          values=[0, 0.01, 0.05, 0.2, 0.5, 1]),
    )  # fmt: skip
    shared = make_chart(values).encode(x=x, y=y)
    chart = shared.mark_rect(stroke="#d5d9de", strokeWidth=0.5).encode(color=colour)
    if len(columns) <= MAX_NUMBERED:
        ink = alt.condition("datum.share > 0.25", alt.value("#ffffff"), alt.value("#1b1f24"))
        chart += shared.mark_text(fontSize=11).encode(text="shown:N", color=ink)
    height = SIZE * len(rows) / len(columns)
    # Every name is printed, however many there are.
    return styled(chart).properties(height=height).configure_axis(labelOverlap=False,
                                                                  labelLimit=200)  # fmt: skip


def _cells(table: ConfusionTable) -> list[dict[str, Any]]:
    """A record for each square; a class without images has none."""
    cells = []
    for name, row in zip(table.names, table.counts, strict=False):
        for other, count in zip(table.names, row, strict=True):
            if row.sum():
                share = float(count / row.sum())
                text = f"{share:.0%}" if count else ""
                cells.append({"class": name, "taken": other, "share": share, "shown": text})
    return cells


def _distinct(names: Sequence[str]) -> list[str]:
    """Shortened names; a number distinguishes names that are equal when shortened."""
    distinct: dict[str, None] = {}
    for name in names:
        short = name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"
        unique, number = short, 2
        while unique in distinct or unique == OTHERS:
            unique, number = f"{short} ({number})", number + 1
        distinct[unique] = None
    return list(distinct)
