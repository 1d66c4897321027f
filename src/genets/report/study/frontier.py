"""The frontier of a study on a target, and the table of all measured networks."""

from __future__ import annotations

from collections.abc import Sequence

from genets.nas.selection.measured import TargetLatency
from genets.nas.snapshot import Snapshot
from genets.report.html import Block, Cell, Figure, PageTable, Paragraph, Section
from genets.report.study.charts import (
    budgets_ms,
    find_role,
    frontier_chart,
    shown_measured_ms,
    winner_on,
)
from genets.report.study.facts import accuracy_conditions, latency_conditions, pixels_text
from genets.report.wording import (
    SCORE_UNITS,
    aligned_texts,
    describe_target,
    noise_words,
    predicted_interval,
    predicted_score,
    scored_images_text,
    unit_text,
)
from genets.structure import Structure

FRONTIER_TEXT = (
    "Accuracy is predicted from trials: in a trial, one super-block of the MasterNet is replaced, "
    "trained for a short time, and scored on {images}. Whole structures that were trained inform "
    "the predictions, too. Latency is predicted from a latency table, which holds the measured "
    "times of parts of networks. The frontier is the best predicted structure for every latency, "
    "over the whole search space; up and left is better. The band is the 95 % interval. {budget} "
    "Marks are measured networks at the height of their prediction. Touch a point, or hover over "
    "it, for the structure.{worst}"
)
WORST_TEXT = " A cross-entropy above that of a random guess is drawn at the lower edge."
SPEED_TEXT = (
    "A machine is not always equally fast. The MasterNet was measured in turn with each network, "
    "and all latencies of the chart are scaled to the speed that the machine had {when}."
)
TABLE_TEXT = (
    "Measured networks, the fastest first. Latencies are as they were measured, in ms per image; "
    "low and high are the ends of the 95 % interval. A latency is noisy where this interval was "
    "still too wide when the time limit passed, and disturbed where something else used or slowed "
    "the device. Predicted ms is the latency from the latency table, scaled to the speed that the "
    "machine had during the measurement. The 95 % interval of a predicted score leaves out the "
    "noise of a measured score."
)


def frontier_section(snapshot: Snapshot, latency: TargetLatency) -> Section:
    """The charts of the frontier, one for each resolution, and the measured networks."""
    title = f"Frontier: {describe_target(latency.target)}"
    resolutions = latency.table.space.resolutions
    charts = [frontier_chart(snapshot, latency, resolution) for resolution in resolutions]
    if charts[0] is None:
        reason = snapshot.model_failure or "there are no trials yet"
        text = f"There is no frontier, because no accuracy can be predicted: {reason}."
        return Section(title, [Paragraph(text), *_measured_table(snapshot, latency)])
    several = len(resolutions) > 1
    when = "when the latency table was made"
    if winner_on(snapshot, latency) is not None:
        when = "when the winner was measured"
    label = snapshot.settings.metric.label
    text = FRONTIER_TEXT.format(
        images=scored_images_text(snapshot.settings.num_folds),
        budget=_budget_sentence(snapshot, latency),
        worst="" if snapshot.settings.metric.higher_is_better else WORST_TEXT,
    )
    return Section(title, [
        Paragraph(text),
        *([Paragraph(_resolutions_text(snapshot, resolutions))] if several else []),
        *(Figure(chart, f"Predicted {label} over latency" + f", {resolution} pixels" * several)
          for chart, resolution in zip(charts, resolutions, strict=True)),
        Paragraph(SPEED_TEXT.format(when=when), True),
        Paragraph(latency_conditions(latency), True),
        Paragraph(accuracy_conditions(snapshot), True),
        *_measured_table(snapshot, latency),
    ])  # fmt: skip


def _budget_sentence(snapshot: Snapshot, latency: TargetLatency) -> str:
    texts = [f"{limit_ms:.4g} ms" for limit_ms in budgets_ms(snapshot, latency)]
    if len(texts) == 1:
        return f"The dashed line is the budget, {texts[0]}."
    return f"The dashed lines are the budgets, {', '.join(texts)}."


def _resolutions_text(snapshot: Snapshot, resolutions: Sequence[int]) -> str:
    return (
        f"Structures are selected at {pixels_text(resolutions)} by the same predictions. The "
        f"predictions are for {snapshot.latest.master.resolution} pixels, the resolution of the "
        "trials. At another resolution they order structures but do not give their accuracy, so "
        "heights in different charts cannot be compared. The best resolution is found by training "
        "candidates of each."
    )


def _measured_table(snapshot: Snapshot, latency: TargetLatency) -> list[Block]:
    """A row for each measured network, sorted by its latency at one speed."""
    metric, table = snapshot.settings.metric, latency.table
    header = ["network", "ms per image", "low", "high", "noise", "times the MasterNet",
              "predicted ms", f"predicted {metric.label}, {SCORE_UNITS[metric]}", "95 % interval",
              "structure"]  # fmt: skip
    networks = sorted(
        latency.measured.items(), key=lambda item: shown_measured_ms(item[1], snapshot, latency)
    )
    if not networks:
        return []
    measured = [network.network for _, network in networks]
    predicted = [
        table.predict_ms_per_image(structure) * network.slowdown(table)
        for structure, network in networks
    ]
    predictions = [_prediction(snapshot, structure) for structure, _ in networks]
    columns: list[list[str]] = [
        aligned_texts(m.ms_per_image for m in measured),
        aligned_texts(m.low_ms_per_image for m in measured),
        aligned_texts(m.high_ms_per_image for m in measured),
        [noise_words(m) for m in measured],
        [f"{n.times_master:.3f}" for _, n in networks],
        aligned_texts(predicted),
        ["-" if score is None else unit_text(score, metric) for score, _ in predictions],
        [
            "-" if interval is None else " to ".join(unit_text(end, metric) for end in interval)
            for _, interval in predictions
        ],
    ]
    roles = [find_role(structure, snapshot) for structure, _ in networks]
    rows: list[list[Cell | str]] = [
        [role, *cells, Cell(str(structure), "text")]
        for role, cells, (structure, _) in zip(
            roles, zip(*columns, strict=True), networks, strict=True
        )
    ]
    strong = frozenset(number for number, role in enumerate(roles) if role == "winner")
    return [Paragraph(TABLE_TEXT), PageTable(header, rows, strong)]


def _prediction(
    snapshot: Snapshot, structure: Structure
) -> tuple[float | None, tuple[float, float] | None]:
    """The predicted score and its 95 % interval; None where they are not known."""
    model, metric = snapshot.model, snapshot.settings.metric
    if model is None or structure.resolution != model.master.resolution:
        return None, None
    prediction = model.predict(structure)
    interval = predicted_interval(prediction, metric)
    return predicted_score(prediction.value, metric), interval
