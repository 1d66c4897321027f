"""Figures 2 and 3: latency by batch size, multiply-adds, parameters; blocks by width and size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from genets.analysis.comparison.rows import ComparisonRow
from genets.analysis.profile.profile import Profile
from genets.report.charts import colours, make_chart, shapes, styled
from genets.report.wording import interval_text

MS = "ms per image"


def batch_chart(profile: Profile) -> Any | None:
    """Figure 2a: a line for each network."""
    values = [
        {**_values(row), "series": row.network} for row in profile.batches.rows if row.measurement
    ]
    return _lines(values, "batch_size", "batch size (log scale)", base=2)


def cost_chart(profile: Profile, field: str) -> Any | None:
    """Figure 2b (field `gmacs`) and 2c (`mparams`): a point for each network."""
    import altair as alt

    values = [
        {**_values(row), "series": row.family} for row in profile.costs.rows if row.measurement
    ]
    if not values:
        return None
    series = list(dict.fromkeys(value["series"] for value in values))
    shared = make_chart(values).encode(
        x=alt.X(f"{field}:Q", title=TITLES[field]),
        y=alt.Y("ms:Q", title=MS),
        color=colours(alt, "series", series),
    )
    points = shared.mark_point(size=80, filled=True, opacity=0.9).encode(
        shape=shapes(alt, "series", series), tooltip=_tooltip(alt)
    )
    return styled(_intervals(shared) + points)


def block_chart(profile: Profile, block_type: str, field: str) -> Any | None:
    """Figure 3: XX and a block type (`BL` or `DW`), by `width` or by `mparams`."""
    values = []
    for row in profile.blocks.rows:
        chain = profile.chains[row.network]
        if row.measurement and chain.type in ("XX", block_type):
            values.append({**_values(row), "series": chain.series, "width": chain.width})
    title = "width, channels (log scale)" if field == "width" else f"{TITLES[field]} (log scale)"
    return _lines(values, field, title, base=2 if field == "width" else 10)


TITLES = {"gmacs": "multiply-adds, billions", "mparams": "parameters, millions"}


def figures(profile: Profile) -> dict[str, tuple[str, Any]]:
    """By file name the title and the chart of each figure that has data."""
    settings = profile.settings
    batch = f"{settings.resolution} pixels, batch size {settings.target.batch_size}"
    blocks = f"{settings.block_resolution} pixels, batch size {settings.target.batch_size}"
    charts = {
        "figure2a": (
            f"Figure 2a: latency by batch size, {settings.resolution} pixels",
            batch_chart(profile),
        ),
        "figure2b": (
            f"Figure 2b: latency by multiply-adds, {batch}",
            cost_chart(profile, "gmacs"),
        ),
        "figure2c": (
            f"Figure 2c: latency by parameters, {batch}",
            cost_chart(profile, "mparams"),
        ),
    }
    for letter, block_type, field, axis in (
        ("a", "DW", "width", "width"),
        ("b", "BL", "width", "width"),
        ("c", "DW", "mparams", "parameters"),
        ("d", "BL", "mparams", "parameters"),
    ):
        title = f"Figure 3{letter}: XX and {block_type} by {axis}, {blocks}"
        charts[f"figure3{letter}"] = (title, block_chart(profile, block_type, field))
    return {name: pair for name, pair in charts.items() if pair[1] is not None}


def _lines(values: Sequence[dict[str, Any]], field: str, title: str, *, base: int) -> Any | None:
    """A line with marked points for each series."""
    import altair as alt

    if not values:
        return None
    series = list(dict.fromkeys(value["series"] for value in values))
    ticks = sorted({value[field] for value in values}) if base == 2 else alt.Undefined
    scale = alt.Scale(type="log", base=base, nice=False, padding=12)
    shared = make_chart(values).encode(
        x=alt.X(f"{field}:Q", title=title, scale=scale, axis=alt.Axis(values=ticks)),
        y=alt.Y("ms:Q", title=f"{MS} (log scale)", axis=alt.Axis(format=".3~r"),
                scale=alt.Scale(type="log", nice=False, padding=12)),
        color=colours(alt, "series", series),
    )  # fmt: skip
    points = shared.mark_point(size=60, filled=True).encode(
        shape=shapes(alt, "series", series), tooltip=_tooltip(alt)
    )
    return styled(shared.mark_line(strokeWidth=1.5) + _intervals(shared) + points)


def _intervals(chart: Any) -> Any:
    """Upright lines for the 95 % intervals of the points of `chart`, in their colours."""
    return chart.mark_rule(strokeWidth=1.5, opacity=0.5).encode(y="low:Q", y2="high:Q")


def _tooltip(alt: Any) -> list[Any]:
    return [
        alt.Tooltip("network:N", title="network"),
        alt.Tooltip("ms:Q", title=MS, format=".4g"),
        alt.Tooltip("interval:N", title="95 % interval"),
        alt.Tooltip("batch_size:Q", title="batch size"),
        alt.Tooltip("gmacs:Q", title="multiply-adds, billions", format=".3g"),
        alt.Tooltip("mparams:Q", title="parameters, millions", format=".3g"),
        alt.Tooltip("resolution:Q", title="pixels"),
    ]


def _values(row: ComparisonRow) -> dict[str, Any]:
    m = row.measurement
    assert m
    assert row.multiply_adds is not None
    assert row.parameters is not None
    return {
        "network": row.network,
        "ms": m.ms_per_image,
        "low": m.low_ms_per_image,
        "high": m.high_ms_per_image,
        "interval": interval_text(m),
        "batch_size": row.target.batch_size,
        "gmacs": row.multiply_adds / 1e9,
        "mparams": row.parameters / 1e6,
        "resolution": row.resolution,
    }
