"""Predictions of a study against what was measured and observed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from genets.nas.accuracy.observations import Observations
from genets.nas.selection.measured import TargetLatency
from genets.nas.study.snapshot import Snapshot
from genets.report.charts import chart_of, colours, shapes, styled
from genets.report.study.charts import GREY, at_table_pace
from genets.report.study.sections import SHOWN

SERIES = ("held out of the table", "candidate")


def latency_check(snapshot: Snapshot, on: TargetLatency) -> list[dict[str, Any]]:
    """(predicted, measured) of whole networks that the table was not calibrated on."""
    batch_size = on.target.batch_size
    rows = [
        {"series": SERIES[0], "structure": str(n.structure),
         "predicted": on.table.predict_ms_per_image(n.structure),
         "measured": n.ms_per_batch / batch_size}
        for n in on.table.networks if n.use == "held-out"
    ]  # fmt: skip
    rows += [
        {"series": SERIES[1], "structure": str(structure),
         "predicted": on.table.predict_ms_per_image(structure),
         "measured": at_table_pace(known, on)}
        for structure, known in on.measured.items() if structure != snapshot.master
    ]  # fmt: skip
    return rows


def latency_check_chart(snapshot: Snapshot, on: TargetLatency) -> Any | None:
    import altair as alt

    rows = latency_check(snapshot, on)
    if not rows:
        return None
    scale = alt.Scale(type="log", nice=False, padding=12)
    points = chart_of(rows).mark_point(size=70, filled=True, opacity=0.85).encode(
        x=alt.X("predicted:Q", title="predicted, ms per image (log scale)", scale=scale),
        y=alt.Y("measured:Q", title="measured, ms per image (log scale)", scale=scale),
        color=colours(alt, "series", SERIES),
        shape=shapes(alt, "series", SERIES),
        tooltip=["structure:N", "series:N", alt.Tooltip("predicted:Q", format=".4g"),
                 alt.Tooltip("measured:Q", format=".4g")],
    )  # fmt: skip
    ends = [value for row in rows for value in (row["predicted"], row["measured"])]
    return styled(alt.layer(_diagonal(ends, "predicted", "measured"), points))


def accuracy_check_chart(snapshot: Snapshot) -> Any | None:
    """Each trial as it was observed, and as all others predict it; None for the paper's form."""
    import altair as alt

    model = snapshot.model
    left_out = model.leave_one_out() if model else None
    if model is None or left_out is None:
        return None
    shown, label = SHOWN[model.metric], model.master.stage_label
    seen = Observations.collect(model.master, snapshot.latest.results, model.metric)
    rows: list[dict[str, Any]] = []
    for trial, value, residual, std in zip(
        seen.trials, seen.values, left_out.residual, left_out.std, strict=True
    ):
        predicted = shown.score(float(value - residual))
        spread = shown.spread(float(std))
        control = trial.is_control(model.master)
        rows.append({
            "observed": shown.score(float(value)), "predicted": predicted,
            "low": predicted - spread, "high": predicted + spread,
            "super-block": label(trial.index),
            "trial": "control" if control else "perturbed",
            "tried": str(trial.super_block),
        })  # fmt: skip
    places = [label(index) for index in sorted({trial.index for trial in seen.trials})]
    unit = f"{shown.name} ({shown.unit})"
    scale = alt.Scale(zero=False, padding=12, reverse=shown.less_is_better)
    colour = colours(alt, "super-block", places, "super-block")
    shared = chart_of(rows).encode(
        y=alt.Y("observed:Q", title=f"observed {unit}", scale=scale),
        color=colour.legend(symbolOpacity=1),
    )
    bars = shared.mark_rule(opacity=0.35).encode(
        x=alt.X("low:Q", title=f"predicted {unit}", scale=scale), x2="high:Q"
    )
    points = shared.mark_point(size=60, filled=True, opacity=0.85).encode(
        x=alt.X("predicted:Q", scale=scale),
        shape=shapes(alt, "trial", ("perturbed", "control"), "trial"),
        tooltip=["super-block:N", "tried:N", "trial:N", alt.Tooltip("observed:Q", format=".4g"),
                 alt.Tooltip("predicted:Q", format=".4g")],
    )  # fmt: skip
    ends = [value for row in rows for value in (row["predicted"], row["observed"])]
    return styled(alt.layer(_diagonal(ends, "predicted", "observed"), bars, points))


def _diagonal(values: Sequence[float], x: str, y: str) -> Any:
    """Where both are equal."""
    ends = [{x: end, y: end} for end in (min(values), max(values))]
    line = chart_of(ends).mark_line(color=GREY, strokeDash=[4, 3], strokeWidth=1)
    return line.encode(x=f"{x}:Q", y=f"{y}:Q")
