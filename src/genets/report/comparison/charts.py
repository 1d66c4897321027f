"""Figure 5: accuracy over latency, with the frontier."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from genets.analysis import ComparisonRow, frontier
from genets.report.charts import HEIGHT, PICTURE_WIDTH, colours, make_chart, shapes, styled
from genets.report.comparison.tables import paper_device
from genets.report.wording import accuracy_name, interval_text

LATENCY = "ms per image (log scale)"
PADDING, NAMED_PADDING = 20, 80  # pixels around the points; the second one leaves room for names
LETTER, LINE = 6.5, 13  # width of a letter and height of a name, in pixels


def accuracy_chart(rows: Sequence[ComparisonRow], *, named: bool = False) -> Any | None:
    """A point for each row of one target with a latency and a published accuracy.

    Args:
        rows: The rows of one target.
        named: Whether the names of the frontier are printed, for a picture. On a page the names
            appear on hover.

    Returns:
        The chart; None for fewer than two points.
    """
    import altair as alt

    points = [_point(r) for r in rows if r.measurement and r.top1_percent is not None]
    if len(points) < 2:
        return None
    best = [_point(row) for row in frontier(rows)]
    padding = NAMED_PADDING if named else PADDING
    x = alt.X("ms:Q", title=LATENCY, scale=alt.Scale(type="log", nice=False, padding=padding))
    y = alt.Y(
        "top1:Q",
        title=f"{accuracy_name(rows[0].target)} (%)",
        scale=alt.Scale(zero=False, padding=PADDING),
    )
    line = (
        make_chart(best)
        .mark_line(color="#5b6570", strokeDash=[4, 3], interpolate="step-after")
        .encode(x=x, y=y)
    )
    chart = line + _dots(alt, points).encode(x=x, y=y)
    if named:
        names = make_chart(_placed(best, points))
        text = names.mark_text(align="right", dx=-8, fontSize=11)
        chart += text.encode(x=x, y=alt.Y("label:Q"), text="network:N")
    return styled(chart)


def _dots(alt: Any, points: Sequence[dict[str, Any]]) -> Any:
    families = list(dict.fromkeys(point["family"] for point in points))
    return (
        make_chart(points)
        .mark_point(size=80, filled=True, opacity=0.9)
        .encode(
            color=colours(alt, "family", families),
            shape=shapes(alt, "family", families),
            tooltip=[
                alt.Tooltip("network:N"),
                alt.Tooltip("family:N"),
                alt.Tooltip("ms:Q", title="ms per image", format=".4g"),
                alt.Tooltip("interval:N", title="95 % interval"),
                alt.Tooltip("top1:Q", title="published top-1 (%)", format=".1f"),
                alt.Tooltip("resolution:Q", title="pixels"),
                alt.Tooltip("paper:N", title="ms per image, printed in the paper"),
            ],
        )
    )


def _placed(
    best: Sequence[dict[str, Any]], points: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The points of the frontier with `label`, the height of the name, so that no names overlap.

    A name stands to the left of its point, because the area above the frontier is empty.
    """
    left, right = (math.log(f(p["ms"] for p in points)) for f in (min, max))
    low, high = (f(p["top1"] for p in points) for f in (min, max))
    across = (PICTURE_WIDTH - 2 * NAMED_PADDING) / max(right - left, 1e-9)  # pixels
    up = (HEIGHT - 2 * PADDING) / max(high - low, 1e-9)
    boxes: list[tuple[float, float, float]] = []
    placed = []
    for point in reversed(best):
        end = (math.log(point["ms"]) - left) * across - 8
        start, height = end - LETTER * len(point["network"]), point["top1"] * up + LINE / 2
        for other_start, other_end, other in sorted(boxes, key=lambda box: box[2]):
            beside = end < other_start or other_end < start
            if not beside and abs(height - other) < LINE:
                height = other + LINE
        boxes.append((start, end, height))
        placed.append({**point, "label": height / up})
    return placed


def _point(row: ComparisonRow) -> dict[str, Any]:
    m = row.measurement
    assert m is not None
    return {
        "network": row.network,
        "family": row.family,
        "ms": m.ms_per_image,
        "interval": interval_text(m),
        "top1": row.top1_percent,
        "resolution": row.resolution,
        "paper": "" if row.paper_ms is None else f"{row.paper_ms:g} ({paper_device(row.target)})",
    }
