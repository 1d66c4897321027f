"""Predictions of a study compared with measurements and with the scores of trials."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from genets.nas.accuracy.observations import Observations
from genets.nas.selection.measured import TargetLatency
from genets.nas.snapshot import Snapshot
from genets.report.charts import colours, make_chart, shapes, styled
from genets.report.html import Block, Figure, Paragraph, Section
from genets.report.study.charts import GREY, ms_at_table_speed
from genets.report.study.facts import accuracy_conditions, latency_conditions, round_suffix
from genets.report.wording import SCORE_UNITS, describe_target, in_unit, predicted_score

SERIES = ("held out of the table", "candidate")
CHECKS_TEXT = (
    "On the dashed line, prediction and measurement agree. No point was used to fit its own "
    "prediction. The latency charts show whole networks that were held out of the latency table, "
    "and candidates, at the speed of the machine when the table was made. The accuracy chart shows "
    "each trial as all other trials predict it, with one standard deviation to either side."
)


def checks_section(snapshot: Snapshot) -> Section:
    """The charts of latency, one for each target, and of accuracy; empty without data."""
    figures: list[Block] = []
    notes: list[str] = []
    for latency in snapshot.targets:
        chart = latency_check_chart(snapshot, latency)
        if chart is not None:
            figures.append(Figure(chart, f"Latency: {describe_target(latency.target)}"))
            notes.append(latency_conditions(latency))
    chart = accuracy_check_chart(snapshot)
    if chart is not None:
        title = f"Accuracy of trials{round_suffix(snapshot)}: leave one out"
        figures.append(Figure(chart, title))
        notes += [_leave_one_out_error(snapshot), accuracy_conditions(snapshot)]
    if not figures:
        return Section("", [])
    quiet = [Paragraph(note, True) for note in dict.fromkeys(notes)]
    return Section("Predicted against measured", [Paragraph(CHECKS_TEXT), *figures, *quiet])


def _leave_one_out_error(snapshot: Snapshot) -> str:
    assert snapshot.model is not None
    left_out, metric = snapshot.model.leave_one_out(), snapshot.model.metric
    assert left_out is not None
    rank = ""
    if left_out.spearman is not None:
        rank = f", rank correlation (Spearman) of changes {left_out.spearman:.2f}"
    error = f"{in_unit(left_out.rmse, metric):.3g} {SCORE_UNITS[metric]}"
    return f"Leave-one-out error {error} (RMS){rank}."


def latency_check(snapshot: Snapshot, latency: TargetLatency) -> list[dict[str, Any]]:
    """Predicted and measured latency of whole networks that the table was not calibrated on."""
    table, batch_size = latency.table, latency.target.batch_size
    rows = [
        {"series": SERIES[0], "structure": str(n.structure),
         "predicted": table.predict_ms_per_image(n.structure),
         "measured": n.ms_per_batch / batch_size}
        for n in table.networks if n.use == "held-out"
    ]  # fmt: skip
    rows += [
        {"series": SERIES[1], "structure": str(structure),
         "predicted": table.predict_ms_per_image(structure),
         "measured": ms_at_table_speed(network, latency)}
        for structure, network in latency.measured.items() if structure != snapshot.master
    ]  # fmt: skip
    return rows


def latency_check_chart(snapshot: Snapshot, latency: TargetLatency) -> Any | None:
    """A point for each network of `latency_check`; None without networks."""
    import altair as alt

    rows = latency_check(snapshot, latency)
    if not rows:
        return None
    scale = alt.Scale(type="log", nice=False, padding=12)
    points = make_chart(rows).mark_point(size=70, filled=True, opacity=0.85).encode(
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
    """A point for each trial; None where the form of the model has no leave-one-out error."""
    import altair as alt

    model = snapshot.model
    left_out = model.leave_one_out() if model else None
    if model is None or left_out is None:
        return None
    metric, label = model.metric, model.master.stage_label
    observed = Observations.collect(model.master, snapshot.latest.results, metric)
    rows: list[dict[str, Any]] = []
    columns = (left_out.residual, left_out.low, left_out.high)
    for trial, value, residual, *ends in zip(
        observed.trials, observed.values, *columns, strict=True
    ):
        predicted = predicted_score(float(value - residual), metric)
        low, high = sorted(predicted_score(float(end), metric) for end in ends)
        control = trial.is_control(model.master)
        rows.append({
            "observed": predicted_score(float(value), metric), "predicted": predicted,
            "low": low, "high": high,
            "super-block": label(trial.index),
            "trial": "control" if control else "perturbed",
            "tried": str(trial.super_block),
        })  # fmt: skip
    places = [label(index) for index in sorted({trial.index for trial in observed.trials})]
    unit = f"{metric.label} ({SCORE_UNITS[metric]})"
    scale = alt.Scale(zero=False, padding=12, reverse=not metric.higher_is_better)
    colour = colours(alt, "super-block", places, "super-block")
    shared = make_chart(rows).encode(
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
    """The line on which both values are equal."""
    ends = [{x: end, y: end} for end in (min(values), max(values))]
    line = make_chart(ends).mark_line(color=GREY, strokeDash=[4, 3], strokeWidth=1)
    return line.encode(x=f"{x}:Q", y=f"{y}:Q")
