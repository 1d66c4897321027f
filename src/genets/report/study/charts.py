"""The charts of a study: frontier, structures, pseudo-gradients, trials."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from genets.latency import Budget
from genets.nas.accuracy.model import DEVIATIONS_95
from genets.nas.selection.measured import TargetLatency
from genets.nas.selection.network_latency import NetworkLatency
from genets.nas.snapshot import RoundSnapshot, Snapshot
from genets.nas.study.records import Candidate
from genets.report.charts import colours, make_chart, shapes, styled
from genets.report.wording import (
    SCORE_UNITS,
    in_unit,
    interval_text,
    predicted_interval,
    predicted_score,
)
from genets.structure import Structure
from genets.training.score import Metric, metric_score

MAX_POINTS = 150  # of a frontier, on a page
GREY = "#5b6570"
TYPES = ("Conv", "XX", "BL", "DW")
ROLES = ("MasterNet", "winner", "measured")


def ms_at_table_speed(network: NetworkLatency, latency: TargetLatency) -> float:
    """The measured ms per image, scaled to the speed of the machine when the table was made.

    The MasterNet was measured in turn with each network, so its latency gives the factor.
    """
    return network.times_master * latency.table.master_ms_per_image


def shown_master_ms(snapshot: Snapshot, latency: TargetLatency) -> float:
    """The MasterNet's ms per image at the speed that the page shows.

    On the target of the search this is the speed of the machine when the winner was measured, so
    that the page has one budget. Without a winner, and on other targets, it is the speed when the
    latency table was made.
    """
    winner = winner_on(snapshot, latency)
    return latency.table.master_ms_per_image if winner is None else winner.master_ms


def winner_on(snapshot: Snapshot, latency: TargetLatency) -> Candidate | None:
    """The winner with its measurement, on the target of the search alone."""
    return snapshot.selected if latency is snapshot.own_latency else None


def shown_ms(structure: Structure, snapshot: Snapshot, latency: TargetLatency) -> float:
    """The predicted ms per image at the speed that the page shows."""
    factor = shown_master_ms(snapshot, latency) / latency.table.master_ms_per_image
    return latency.table.predict_ms_per_image(structure) * factor


def shown_measured_ms(network: NetworkLatency, snapshot: Snapshot, latency: TargetLatency) -> float:
    """The measured ms per image, scaled to the speed that the page shows."""
    return network.times_master * shown_master_ms(snapshot, latency)


def find_role(structure: Structure, snapshot: Snapshot) -> str:
    """One of `ROLES`."""
    winners = [each.selected.structure for each in snapshot.each_budget if each.selected]
    if structure in winners:
        return "winner"
    return "MasterNet" if structure == snapshot.master else "measured"


def budgets_ms(snapshot: Snapshot, latency: TargetLatency) -> list[float]:
    """Each budget of the search in ms per image, at the speed that the page shows."""
    shown_ms = shown_master_ms(snapshot, latency)
    limits_ms = []
    for each in snapshot.each_budget:
        budget, winner = Budget.parse(each.budget), winner_on(each, latency)
        limit_ms = budget.ms_per_image(shown_ms)
        if winner is not None:  # in older studies, a budget in x is a multiple of the low end
            slowdown = shown_ms / winner.master_ms if budget.is_relative else 1.0
            limit_ms = winner.budget_ms * slowdown
        limits_ms.append(limit_ms)
    return limits_ms


def frontier_chart(snapshot: Snapshot, latency: TargetLatency, resolution: int) -> Any | None:
    """The predicted score over latency, and each measured network at its measured latency."""
    import altair as alt

    model, front = snapshot.model, snapshot.frontier(latency.table, resolution)
    if model is None or front is None:
        return None
    metric, own = model.metric, model.master.resolution
    numbers = np.unique(np.linspace(0, len(front) - 1, MAX_POINTS).round().astype(int))
    best = [_point(front.structure(int(n), resolution), snapshot, latency) for n in numbers]
    points = [
        _point(structure, snapshot, latency, network)
        for structure, network in latency.measured.items()
        if structure.resolution == resolution
    ]
    x = alt.X("ms:Q", title="ms per image (log scale)",
              scale=alt.Scale(type="log", nice=False, padding=12))  # fmt: skip
    where = "" if resolution == own else f" at {own} pixels"
    y = _score_axis(
        alt,
        f"predicted {metric.label}{where} ({SCORE_UNITS[metric]})",
        metric,
        _shown_scores([*best, *points], metric, latency.table.num_classes),
    )
    tooltip = [
        alt.Tooltip("network:N"),
        alt.Tooltip("structure:N"),
        alt.Tooltip("score:Q", title=f"predicted {metric.label}, {SCORE_UNITS[metric]}",
                    format=".4g"),
        alt.Tooltip("spread:N", title="95 % interval"),
        alt.Tooltip("ms:Q", title="ms per image", format=".4g"),
        alt.Tooltip("latency:N", title="measured"),
    ]  # fmt: skip
    layers = []
    if "low" in best[0]:
        layers.append(make_chart(best).mark_area(color="#0072B2", opacity=0.12)
                      .encode(x=x, y=alt.Y("low:Q"), y2="high:Q"))  # fmt: skip
    line = make_chart(best).mark_line(color="#0072B2", strokeWidth=1.5, point={"size": 12})
    layers.append(line.encode(x=x, y=y, tooltip=tooltip))
    budgets = make_chart([{"ms": limit_ms} for limit_ms in budgets_ms(snapshot, latency)])
    layers.append(budgets.mark_rule(color=GREY, strokeDash=[4, 3]).encode(x="ms:Q"))
    if points:
        marks = make_chart(points).mark_point(size=90, filled=True, opacity=0.9)
        scale = alt.Scale(domain=list(ROLES), range=["#000000", "#D55E00", "#009E73"])
        colour = alt.Color("network:N", title="measured networks", scale=scale)
        shape = shapes(alt, "network", ROLES, "measured networks")
        layers.append(marks.encode(x=x, y=y, tooltip=tooltip, color=colour, shape=shape))
    return styled(alt.layer(*layers))


def _score_axis(
    alt: Any, title: str, metric: Metric, ends: tuple[float, float] | None = None
) -> Any:
    """The axis of the field `score`; better is up. Scores beyond the ends are drawn at the ends."""
    scale = {"padding": 12} if ends is None else {"domain": list(ends), "clamp": True}
    reverse = not metric.higher_is_better
    return alt.Y("score:Q", title=title, scale=alt.Scale(zero=False, reverse=reverse, **scale))


def _shown_scores(
    points: Sequence[Mapping[str, Any]], metric: Metric, num_classes: int
) -> tuple[float, float] | None:
    """The best cross-entropy of these points and that of a random guess, as the ends of an axis.

    None where no value is worse than a random guess, and for other metrics: the axis then shows all
    values.
    """
    values = [point[name] for point in points for name in ("score", "low", "high") if name in point]
    guess = math.log(num_classes)
    if metric.higher_is_better or max(values) <= guess or min(values) >= guess:
        return None
    return min(values), guess


def _point(
    structure: Structure,
    snapshot: Snapshot,
    latency: TargetLatency,
    network: NetworkLatency | None = None,
) -> dict[str, Any]:
    """A point of the frontier, or a measured network."""
    assert snapshot.model is not None
    metric, prediction = snapshot.model.metric, snapshot.model.predict(structure)
    score = predicted_score(prediction.value, metric)
    record: dict[str, Any] = {
        "network": find_role(structure, snapshot) if network else "frontier",
        "structure": str(structure),
        "score": score,
        "ms": shown_ms(structure, snapshot, latency),
        "latency": "predicted",
        "spread": "not known",
    }
    if (ends := predicted_interval(prediction, metric)) is not None:
        low, high = ends
        record |= {"low": low, "high": high, "spread": f"{low:.4g} to {high:.4g}"}
    if network:
        record["ms"] = shown_measured_ms(network, snapshot, latency)
        interval = interval_text(network.network)
        record["latency"] = f"{network.network.ms_per_image:.4g}, interval {interval}"
    return record


def structure_chart(structure: Structure, beside: Sequence[Structure]) -> Any:
    """A bar for each block, as high as the block is wide.

    beside: All structures that share the axes, this one included.
    """
    import altair as alt

    blocks = max(sum(stage.depth for stage in s.stages) for s in beside)
    widest = max(stage.width for s in beside for stage in s.stages)
    bars, labels = _blocks(structure)
    x = alt.X("start:Q", axis=None, scale=alt.Scale(domain=[0, blocks], nice=False))
    y = alt.Y("width:Q", title="width, channels", scale=alt.Scale(domain=[0, widest * 1.12]))
    middle = alt.X("middle:Q", axis=None)
    used = {stage.type for s in beside for stage in s.stages}
    types = [*filter(used.__contains__, TYPES), *sorted(used - set(TYPES))]
    drawn = make_chart(bars).mark_bar().encode(
        x=x, x2="end:Q", y=y, y2=alt.datum(0), color=colours(alt, "type", types).legend(offset=26),
        tooltip=["place:N", "type:N", "kernel:Q", "ratio:Q", "width:Q", "depth:Q", "stride:Q",
                 "notation:N"],
    )  # fmt: skip
    numbers = make_chart(labels).encode(x=middle, y=y)
    above = numbers.mark_text(dy=-8, fontSize=12).encode(text="width:Q")
    below = numbers.mark_text(dy=12, fontSize=11, color=GREY).encode(text="place:N", y=alt.datum(0))
    return styled(alt.layer(drawn, above, below)).properties(height=220)


def _blocks(structure: Structure) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A record for each block, and for the middle of each stage."""
    bars: list[dict[str, Any]] = []
    labels: list[dict[str, Any]] = []
    position = 0
    for index in structure.indices:
        stage = structure.stage(index)
        facts = {name: getattr(stage, name)
                 for name in ("type", "kernel", "ratio", "width", "depth", "stride")}  # fmt: skip
        facts["place"] = structure.stage_label(index)
        facts["notation"] = str(stage)
        bars += [facts | {"start": n + 0.04, "end": n + 0.96}
                 for n in range(position, position + stage.depth)]  # fmt: skip
        labels.append(facts | {"middle": position + stage.depth / 2})
        position += stage.depth
    return bars, labels


def gradient_chart(snapshot: Snapshot, name: str, title: str) -> Any | None:
    """One coefficient by super-block and block, with 95 % intervals.

    Args:
        snapshot: A study with an accuracy model.
        name: "g0", "g1" or "g2".
        title: The title of the axis.
    """
    import altair as alt

    assert snapshot.model is not None
    factor = in_unit(1.0, snapshot.model.metric)
    rows = []
    gradients: Any = snapshot.model.to_json()["pseudo_gradients"]
    for row in gradients:
        if name not in row:
            continue
        mean, std = row[name]["mean"] * factor, row[name]["std"]
        half = 0.0 if std is None else DEVIATIONS_95 * std * factor
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
    shared = make_chart(rows).encode(
        y=y, yOffset=offset, color=colours(alt, "block", blocks, "block")
    )
    bars = shared.mark_rule(strokeWidth=1.5).encode(x="low:Q", x2="high:Q")
    points = shared.mark_point(size=45, filled=True, opacity=1).encode(
        x=alt.X("mean:Q", title=title), shape=shapes(alt, "block", blocks, "block"), tooltip=tooltip
    )
    zero = make_chart([{"mean": 0}]).mark_rule(color=GREY, strokeDash=[4, 3]).encode(x="mean:Q")
    height = max(120, len(places) * (14 * len(blocks) + 12))
    return styled(alt.layer(zero, bars, points)).properties(height=height)


def trials_chart(round_snapshot: RoundSnapshot, metric: Metric) -> Any | None:
    """The score of each trial of a round over the compute time of the trials up to it."""
    import altair as alt

    minutes = 0.0
    rows: list[dict[str, Any]] = []
    label = round_snapshot.master.stage_label
    for result in round_snapshot.results:
        minutes += result.seconds / 60
        score = metric_score(result, metric)
        if result.status == "done" and score is not None and math.isfinite(score):
            control = result.trial.is_control(round_snapshot.master)
            rows.append({
                "minutes": minutes, "score": in_unit(score, metric), "seconds": result.seconds,
                "super-block": label(result.trial.index),
                "trial": "control" if control else "perturbed",
                "tried": str(result.trial.super_block),
            })  # fmt: skip
    if not rows:
        return None
    places = [label(index) for index in sorted({r.trial.index for r in round_snapshot.results})]
    points = make_chart(rows).mark_point(size=60, filled=True, opacity=0.85).encode(
        x=alt.X("minutes:Q", title="compute time of the trials so far, minutes"),
        y=_score_axis(alt, f"validation {metric.label} ({SCORE_UNITS[metric]})", metric),
        color=colours(alt, "super-block", places, "super-block"),
        shape=shapes(alt, "trial", ("perturbed", "control"), "trial"),
        tooltip=["super-block:N", "tried:N", "trial:N", alt.Tooltip("score:Q", format=".4g"),
                 alt.Tooltip("seconds:Q", format=".3g")],
    )  # fmt: skip
    if round_snapshot.score is None:
        return styled(points)
    own = in_unit(round_snapshot.score[metric], metric)
    rule = make_chart([{"score": own}]).mark_rule(color=GREY, strokeDash=[4, 3])
    return styled(alt.layer(rule.encode(y="score:Q"), points))
