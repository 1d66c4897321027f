"""Figure 5: accuracy over latency, with the frontier."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from genets.analysis import ComparisonRow, frontier
from genets.report.charts import HEIGHT, PICTURE_WIDTH, chart_of, colours, shapes, styled
from genets.report.conditions import accuracy_name, interval_text

LATENCY = "ms per image (log scale)"
PADDING, NAMED_PADDING = 20, 80  # pixels around the points, without and with names
LETTER, LINE = 6.5, 13  # pixels of a name in a picture


def accuracy_chart(rows: Sequence[ComparisonRow], *, named: bool = False) -> Any | None:
    """The rows of one target that have a latency and a published accuracy; None below two.

    Every point is named on hover. named: those of the frontier always, for a picture.
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
        chart_of(best)
        .mark_line(color="#5b6570", strokeDash=[4, 3], interpolate="step-after")
        .encode(x=x, y=y)
    )
    chart = line + _dots(alt, points).encode(x=x, y=y)
    if named:
        names = chart_of(_placed(best, points))
        text = names.mark_text(align="right", dx=-8, fontSize=11)
        chart += text.encode(x=x, y=alt.Y("label:Q"), text="network:N")
    return styled(chart)


def _dots(alt: Any, points: Sequence[dict[str, Any]]) -> Any:
    families = list(dict.fromkeys(point["family"] for point in points))
    return (
        chart_of(points)
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
                alt.Tooltip("paper:N", title="paper, ms per image"),
            ],
        )
    )


def _placed(
    best: Sequence[dict[str, Any]], points: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The frontier with `label`: the height of each name, so that none covers another.

    Names stand to the left of their points, where above the frontier nothing else is.
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
        "paper": "" if row.paper_ms is None else f"{row.paper_ms:g}",
    }
