"""The charts of a study: frontier, structures, pseudo-gradients, trials."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from genets.latency import Budget
from genets.nas.accuracy.observations import metric_value
from genets.nas.selection.measured import NetworkLatency, TargetLatency
from genets.nas.study.snapshot import RoundSnapshot, Snapshot
from genets.report.charts import chart_of, colours, shapes, styled
from genets.report.study.sections import SHOWN, Shown
from genets.structure import Structure
from genets.training.score import Metric

MOST_POINTS = 150  # of a frontier, on a page
INTERVAL = 1.96  # standard deviations to either side: 95 %
GREY = "#5b6570"
TYPES = ("Conv", "XX", "BL", "DW")
ROLES = ("MasterNet", "selected", "measured")


def at_table_pace(measured: NetworkLatency, on: TargetLatency) -> float:
    """ms per image had the machine been as fast as when the table was made.

    The MasterNet tells, which is measured in turn with every network.
    """
    pace = measured.master_ms_per_image / on.table.master_ms_per_image
    return measured.network.ms_per_image / pace


def role_of(structure: Structure, snapshot: Snapshot) -> str:
    selected = snapshot.selected.structure if snapshot.selected else None
    if structure == selected:
        return "selected"
    return "MasterNet" if structure == snapshot.master else "measured"


def frontier_chart(snapshot: Snapshot, on: TargetLatency, resolution: int) -> Any | None:
    """Predicted score over latency; every measured network at its measured latency."""
    import altair as alt

    model, front = snapshot.model, snapshot.frontier(on.table, resolution)
    if model is None or front is None:
        return None
    shown = SHOWN[model.metric]
    picked = np.unique(np.linspace(0, len(front) - 1, MOST_POINTS).round().astype(int))
    own = model.master.resolution
    best = [_network(front.structure(int(n), resolution), snapshot, on, shown) for n in picked]
    points = [
        _network(structure, snapshot, on, shown, measured)
        for structure, measured in on.measured.items()
        if structure.resolution == resolution
    ]
    x = alt.X("ms:Q", title="ms per image (log scale)",
              scale=alt.Scale(type="log", nice=False, padding=12))  # fmt: skip
    where = "" if resolution == own else f" at {own} pixels"
    y = _score_axis(alt, "score", f"predicted {shown.name}{where} ({shown.unit})", shown)
    layers = []
    if "low" in best[0]:
        layers.append(chart_of(best).mark_area(color="#0072B2", opacity=0.12)
                      .encode(x=x, y=alt.Y("low:Q"), y2="high:Q"))  # fmt: skip
    line = chart_of(best).mark_line(color="#0072B2", strokeWidth=1.5, point={"size": 12})
    layers.append(line.encode(x=x, y=y, tooltip=_network_tooltip(alt, shown)))
    budget = [{"ms": budget_ms(snapshot, on)}]
    layers.append(chart_of(budget).mark_rule(color=GREY, strokeDash=[4, 3]).encode(x="ms:Q"))
    if points:
        marks = chart_of(points).mark_point(size=90, filled=True, opacity=0.9)
        tooltip = _network_tooltip(alt, shown)
        layers.append(marks.encode(x=x, y=y, tooltip=tooltip, **_role_marks(alt)))
    return styled(alt.layer(*layers))


def budget_ms(snapshot: Snapshot, on: TargetLatency) -> float:
    """The search's budget at the pace of the table."""
    return Budget.parse(snapshot.settings.budget).ms_per_image(on.table.master_ms_per_image)


def _role_marks(alt: Any) -> dict[str, Any]:
    return {
        "color": _role_colours(alt),
        "shape": shapes(alt, "network", ROLES, "measured networks"),
    }


def _role_colours(alt: Any) -> Any:
    scale = alt.Scale(domain=list(ROLES), range=["#000000", "#D55E00", "#009E73"])
    return alt.Color("network:N", title="measured networks", scale=scale)


def _score_axis(alt: Any, field: str, title: str, shown: Shown) -> Any:
    """Better is up."""
    scale = alt.Scale(zero=False, reverse=shown.less_is_better, padding=12)
    return alt.Y(f"{field}:Q", title=title, scale=scale)


def _network(
    structure: Structure,
    snapshot: Snapshot,
    on: TargetLatency,
    shown: Shown,
    measured: NetworkLatency | None = None,
) -> dict[str, Any]:
    assert snapshot.model is not None
    prediction = snapshot.model.predict(structure)
    record: dict[str, Any] = {
        "network": role_of(structure, snapshot) if measured else "frontier",
        "structure": str(structure),
        "score": shown.score(prediction.value),
        "ms": on.table.predict_ms_per_image(structure),
        "latency": "predicted",
        "spread": "not known",
    }
    if not math.isnan(prediction.std):
        spread = shown.spread(prediction.std)
        record |= {"low": record["score"] - spread, "high": record["score"] + spread,
                   "spread": f"{spread:.3g}"}  # fmt: skip
    if measured:
        m = measured.network
        record["ms"] = at_table_pace(measured, on)
        record["latency"] = (
            f"{m.ms_per_image:.4g}, interval {m.low_ms_per_image:.4g} to {m.high_ms_per_image:.4g}"
            + ", noisy" * m.noisy
        )
    return record


def _network_tooltip(alt: Any, shown: Shown) -> list[Any]:
    return [
        alt.Tooltip("network:N"),
        alt.Tooltip("structure:N"),
        alt.Tooltip("score:Q", title=f"predicted {shown.name}, {shown.unit}", format=".4g"),
        alt.Tooltip("spread:N", title="its standard deviation"),
        alt.Tooltip("ms:Q", title="ms per image, table's pace", format=".4g"),
        alt.Tooltip("latency:N", title="measured"),
    ]


def structure_chart(structure: Structure, beside: Sequence[Structure]) -> Any:
    """A bar for each block, as high as it is wide. beside: what shares the axes with it."""
    import altair as alt

    blocks = max(sum(stage.depth for stage in s.stages) for s in beside)
    widest = max(stage.width for s in beside for stage in s.stages)
    bars, labels = _blocks(structure)
    x = alt.X("start:Q", axis=None, scale=alt.Scale(domain=[0, blocks], nice=False))
    y = alt.Y("width:Q", title="width, channels", scale=alt.Scale(domain=[0, widest * 1.12]))
    middle = alt.X("middle:Q", axis=None)
    types = [t for t in (*TYPES, *_other_types(beside)) if any(_has(s, t) for s in beside)]
    drawn = chart_of(bars).mark_bar().encode(
        x=x, x2="end:Q", y=y, y2=alt.datum(0), color=colours(alt, "type", types).legend(offset=26),
        tooltip=["place:N", "type:N", "kernel:Q", "ratio:Q", "width:Q", "depth:Q", "stride:Q",
                 "notation:N"],
    )  # fmt: skip
    numbers = chart_of(labels).encode(x=middle, y=y)
    above = numbers.mark_text(dy=-8, fontSize=12).encode(text="width:Q")
    below = numbers.mark_text(dy=12, fontSize=11, color=GREY).encode(text="place:N", y=alt.datum(0))
    return styled(alt.layer(drawn, above, below)).properties(height=220)


def _blocks(structure: Structure) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Every block, and for each stage the middle of its blocks."""
    bars: list[dict[str, Any]] = []
    labels: list[dict[str, Any]] = []
    at = 0
    for index in structure.indices:
        stage = structure.stage(index)
        facts = {name: getattr(stage, name)
                 for name in ("type", "kernel", "ratio", "width", "depth", "stride")}  # fmt: skip
        facts["place"] = structure.stage_label(index)
        facts["notation"] = str(stage)
        bars += [facts | {"start": at + n + 0.04, "end": at + n + 0.96} for n in range(stage.depth)]
        labels.append(facts | {"middle": at + stage.depth / 2})
        at += stage.depth
    return bars, labels


def _has(structure: Structure, name: str) -> bool:
    return any(stage.type == name for stage in structure.stages)


def _other_types(structures: Sequence[Structure]) -> list[str]:
    return sorted({stage.type for s in structures for stage in s.stages} - set(TYPES))


def gradient_chart(snapshot: Snapshot, name: str, title: str) -> Any | None:
    """One coefficient by super-block and block, with 95 % intervals. name: g0, g1 or g2."""
    import altair as alt

    assert snapshot.model is not None
    factor = SHOWN[snapshot.model.metric].gain_factor
    rows = []
    for row in _gradients(snapshot):
        if name not in row:
            continue
        mean, std = row[name]["mean"] * factor, row[name]["std"]
        half = 0.0 if std is None else INTERVAL * std * factor
        place = snapshot.model.master.stage_label(row["super_block"])
        rows.append({"place": place, "block": row["block"], "mean": mean,
                     "low": mean - half, "high": mean + half, "trials": row["trials"]})  # fmt: skip
    if not rows:
        return None
    blocks = sorted({row["block"] for row in rows})
    places = list(dict.fromkeys(row["place"] for row in rows))
    y = alt.Y("place:N", title="super-block", sort=places)
    offset = alt.YOffset("block:N", sort=blocks, scale=alt.Scale(paddingInner=0.4))
    tooltip = [alt.Tooltip("place:N", title="super-block"), "block:N",
               alt.Tooltip("mean:Q", format=".3g"), alt.Tooltip("low:Q", format=".3g"),
               alt.Tooltip("high:Q", format=".3g"), "trials:Q"]  # fmt: skip
    shared = chart_of(rows).encode(
        y=y, yOffset=offset, color=colours(alt, "block", blocks, "block")
    )
    bars = shared.mark_rule(strokeWidth=1.5).encode(x="low:Q", x2="high:Q")
    points = shared.mark_point(size=45, filled=True, opacity=1).encode(
        x=alt.X("mean:Q", title=title), shape=shapes(alt, "block", blocks, "block"), tooltip=tooltip
    )
    zero = chart_of([{"mean": 0}]).mark_rule(color=GREY, strokeDash=[4, 3]).encode(x="mean:Q")
    height = max(120, len(places) * (14 * len(blocks) + 12))
    return styled(alt.layer(zero, bars, points)).properties(height=height)


def _gradients(snapshot: Snapshot) -> list[dict[str, Any]]:
    assert snapshot.model is not None
    rows: Any = snapshot.model.to_json()["pseudo_gradients"]
    return list(rows)


def trials_chart(there: RoundSnapshot, metric: Metric) -> Any | None:
    """The score of each trial of a round over the compute time spent so far."""
    import altair as alt

    shown, minutes = SHOWN[metric], 0.0
    rows: list[dict[str, Any]] = []
    label = there.master.stage_label
    for result in there.results:
        minutes += result.seconds / 60
        value = metric_value(result, metric)
        if result.status == "done" and math.isfinite(value):
            control = result.trial.is_control(there.master)
            rows.append({
                "minutes": minutes, "score": shown.score(value), "seconds": result.seconds,
                "super-block": label(result.trial.index),
                "trial": "control" if control else "perturbed",
                "tried": str(result.trial.super_block),
            })  # fmt: skip
    if not rows:
        return None
    places = [label(index) for index in sorted({r.trial.index for r in there.results})]
    points = chart_of(rows).mark_point(size=60, filled=True, opacity=0.85).encode(
        x=alt.X("minutes:Q", title="compute time of trials so far, minutes"),
        y=_score_axis(alt, "score", f"validation {shown.name} ({shown.unit})", shown),
        color=colours(alt, "super-block", places, "super-block"),
        shape=shapes(alt, "trial", ("perturbed", "control"), "trial"),
        tooltip=["super-block:N", "tried:N", "trial:N", alt.Tooltip("score:Q", format=".4g"),
                 alt.Tooltip("seconds:Q", format=".3g")],
    )  # fmt: skip
    if there.score is None:
        return styled(points)
    own = there.score[metric] * (100 if metric is Metric.TOP1 else 1)
    rule = chart_of([{"score": own}]).mark_rule(color=GREY, strokeDash=[4, 3])
    return styled(alt.layer(rule.encode(y="score:Q"), points))
