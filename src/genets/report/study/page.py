"""The page of a study: results, predictions, trials and checks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from genets.core.errors import encodable
from genets.core.files import write_atomic
from genets.nas.selection.measured import TargetLatency
from genets.nas.study.snapshot import Snapshot
from genets.nas.warnings import list_warnings
from genets.report.html import Block, Cell, Figure, PageTable, Paragraph, Section, page
from genets.report.study.candidates import candidates_section, rounds_section
from genets.report.study.charts import (
    budget_ms,
    find_role,
    frontier_chart,
    gradient_chart,
    ms_at_table_speed,
    structure_chart,
    trials_chart,
)
from genets.report.study.checks import checks_section
from genets.report.study.facts import (
    accuracy_conditions,
    latency_conditions,
    pixels_text,
    round_suffix,
    state_sentences,
    study_conditions,
)
from genets.report.wording import (
    GAIN_UNITS,
    SCORE_UNITS,
    describe_target,
    in_unit,
    predicted_score,
    score_text,
)
from genets.structure import Structure
from genets.training.score import Metric

MAX_REASONS = 20  # of failed trials, on a page
BARS_TEXT = (
    "A bar for each block. The height of a bar is the width of the block's output, which is the "
    "number above it, in channels. Below the bars are the numbers of the super-blocks."
)
GRADIENTS_TEXT = {
    "bayes": "The fitted effects of type, depth and width of each super-block on accuracy; right "
    "is better. Bars are 95 % intervals. For a block without trials in a super-block, the effect "
    "comes from its trials in other super-blocks (hover for the number of trials).",
    "paper": "The literal formula of section 4.2, which has no error bars.",
}


def write_study_page(snapshot: Snapshot, path: Path, date: str) -> None:
    """Write the page of a study. Raises OSError."""
    write_atomic(path, encodable(study_page(snapshot, date)))


def study_page(snapshot: Snapshot, date: str) -> str:
    """The page as HTML."""
    sections = [
        Section("State", [Paragraph(sentence) for sentence in state_sentences(snapshot)]),
        _result(snapshot),
        rounds_section(snapshot),
        candidates_section(snapshot),
        *(_frontier(snapshot, latency) for latency in snapshot.targets),
        _structures(snapshot),
        _gradients(snapshot),
        _trials(snapshot),
        checks_section(snapshot),
        Section("Warnings", [Paragraph(sentence) for sentence in list_warnings(snapshot)]),
    ]
    title = f"Study {snapshot.folder.absolute().name}"
    return page(title, study_conditions(snapshot, date), sections)


def _result(snapshot: Snapshot) -> Section:
    selected, result = snapshot.selected, snapshot.result or {}
    if selected is None:
        return Section("Result", [])
    rows = []
    for name, ms, score in (
        ("MasterNet", selected.master_ms, result.get("master") or {}),
        ("selected", selected.measured_ms, result.get("winner") or {}),
    ):
        rows.append([name, f"{ms:.4g}", *(score_text(score.get(m), m) for m in Metric)])
    side = "below" if selected.margin >= 0 else "ABOVE"
    budget = (
        f"The budget is {selected.budget_ms:.4g} ms per image ({snapshot.settings.budget}). "
        f"Predicted were {selected.predicted_ms:.4g} ms and measured {selected.measured_ms:.4g} ms "
        f"(95 % interval {selected.low_ms:.4g} to {selected.high_ms:.4g}). The upper end of the "
        f"interval is {abs(selected.margin):.1%} {side} the budget."
    )
    header = ["network", "ms per image, measured", *(f"test {m.label}" for m in Metric)]
    own_target = snapshot.settings.target.resolved()
    notes = [latency_conditions(each) for each in snapshot.targets if each.target == own_target]
    table = PageTable(header, rows, frozenset({1}))
    return Section("Result", [Paragraph(budget), table, *(Paragraph(x, True) for x in notes)])


def _frontier(snapshot: Snapshot, latency: TargetLatency) -> Section:
    title = f"Frontier: {describe_target(latency.target)}"
    resolutions = latency.table.space.resolutions
    charts = [frontier_chart(snapshot, latency, resolution) for resolution in resolutions]
    if charts[0] is None:
        reason = snapshot.model_failure or "there are no trials yet"
        text = f"There is no frontier, because no accuracy can be predicted: {reason}."
        return Section(title, [Paragraph(text), *_measured_table(snapshot, latency)])
    text = (
        "Up and left is better. The line is the best predicted structure for every predicted "
        "latency, exact over the whole design space. The band is one standard deviation to either "
        f"side. The dashed line is the search's budget, {budget_ms(snapshot, latency):.4g} ms. "
        "Marks are measured networks at their measured latency, scaled to the speed of the machine "
        "when the latency table was made. The factor comes from the MasterNet, which was measured "
        "in turn with each network. Touch a point, or hover over it, for the structure."
    )
    several = len(resolutions) > 1
    return Section(title, [
        Paragraph(text),
        *([Paragraph(_resolutions_text(snapshot, resolutions))] if several else []),
        *(Figure(chart, "Predicted accuracy over latency" + f", {resolution} pixels" * several)
          for chart, resolution in zip(charts, resolutions, strict=True)),
        Paragraph(latency_conditions(latency), True),
        Paragraph(accuracy_conditions(snapshot), True),
        *_measured_table(snapshot, latency),
    ])  # fmt: skip


def _resolutions_text(snapshot: Snapshot, resolutions: Sequence[int]) -> str:
    return (
        f"Structures are selected at {pixels_text(resolutions)} by the same predictions. The "
        f"predictions are for {snapshot.latest.master.resolution} pixels, the resolution of the "
        "trials. At another resolution they order structures but do not give their accuracy, so "
        "heights in different charts cannot be compared. The best resolution is found by training "
        "candidates of each."
    )


def _measured_table(snapshot: Snapshot, latency: TargetLatency) -> list[Block]:
    model, metric = snapshot.model, snapshot.settings.metric
    header = ["network", f"predicted {metric.label}, {SCORE_UNITS[metric]}", "std", "predicted ms",
              "measured ms", "95 % interval", "MasterNet then, ms", "structure"]  # fmt: skip
    rows: list[list[Cell | str]] = []
    strong = set()
    by_latency = sorted(
        latency.measured.items(), key=lambda item: ms_at_table_speed(item[1], latency)
    )
    for structure, network in by_latency:
        m, score, std = network.network, "-", "-"
        if model and structure.resolution == model.master.resolution:
            prediction = model.predict(structure)
            score = f"{predicted_score(prediction.value, metric):.4g}"
            if not math.isnan(prediction.std):
                std = f"{in_unit(prediction.std, metric):.2g}"
        role = find_role(structure, snapshot)
        strong |= {len(rows)} if role == "selected" else set()
        rows.append([
            role,
            score,
            std,
            f"{latency.table.predict_ms_per_image(structure):.4g}",
            f"{m.ms_per_image:.4g}{'~' * m.noisy}",
            f"{m.low_ms_per_image:.4g} to {m.high_ms_per_image:.4g}",
            f"{network.master_ms_per_image:.4g}",
            Cell(str(structure), "text"),
        ])  # fmt: skip
    if not rows:
        return []
    legend = (
        "All latencies are ms per image. Measured latencies are not scaled; predicted latencies "
        "are for the speed of the machine when the latency table was made. ~: noisy."
    )
    return [PageTable(header, rows, frozenset(strong)), Paragraph(legend, True)]


def _structures(snapshot: Snapshot) -> Section:
    master = snapshot.master
    chosen = snapshot.selected.structure if snapshot.selected else None
    both = [master] if chosen is None else [master, chosen]
    blocks: list[Block] = [Figure(structure_chart(master, both), f"MasterNet: {master}")]
    if chosen is None:
        return Section("The MasterNet", [*blocks, Paragraph(BARS_TEXT, True)])
    names = ["input", *map(master.stage_label, master.indices)]
    pairs = list(zip(names, _stage_texts(master), _stage_texts(chosen), strict=True))
    changed = frozenset(n for n, (_, before, after) in enumerate(pairs) if before != after)
    blocks += [
        Figure(structure_chart(chosen, both), f"Chosen: {chosen}"),
        Paragraph(BARS_TEXT, True),
        PageTable(["super-block", "MasterNet", "chosen"], pairs, changed),
    ]
    return Section("The chosen structure beside the MasterNet", blocks)


def _stage_texts(structure: Structure) -> list[str]:
    stages = (str(stage) for stage in structure.stages)
    return [f"{structure.resolution} pixels", *stages]


def _gradients(snapshot: Snapshot) -> Section:
    title = "Pseudo-gradients" + round_suffix(snapshot)
    if snapshot.model is None:
        return Section(title, [])
    axis = f"gain, {GAIN_UNITS[snapshot.model.metric]}"
    form = "bayes" if snapshot.model.form == "bayes" else "paper"
    depth, width = {
        "bayes": ("e times the depth", "e times the width"),
        "paper": ("one block", "one channel"),
    }[form]
    captions = {
        "g0": "Another block in place of the MasterNet's",
        "g1": f"Gain from {depth}",
        "g2": f"Gain from {width}",
    }
    charts = {name: gradient_chart(snapshot, name, axis) for name in captions}
    figures = [Figure(chart, captions[name]) for name, chart in charts.items() if chart is not None]
    if not figures:
        return Section(title, [])
    conditions = Paragraph(accuracy_conditions(snapshot), True)
    return Section(title, [Paragraph(GRADIENTS_TEXT[form]), *figures, conditions])


def _trials(snapshot: Snapshot) -> Section:
    blocks: list[Block] = []
    for round_snapshot in snapshot.rounds:
        chart = trials_chart(round_snapshot, snapshot.settings.metric)
        if chart is not None:
            suffix = f", round {round_snapshot.number}" * (len(snapshot.rounds) > 1)
            blocks.append(Figure(chart, f"Trials over time{suffix}"))
    if blocks:
        text = "Trials in the order in which they ended. The dashed line is the trained MasterNet."
        blocks = [Paragraph(text), *blocks, Paragraph(accuracy_conditions(snapshot), True)]
    failed = snapshot.failed
    if failed:
        label = snapshot.master.stage_label
        rows: list[list[Cell | str]] = [
            [label(r.trial.index), Cell(str(r.trial.super_block), "text"),
             Cell(r.reason, "text")] for r in failed[:MAX_REASONS]
        ]  # fmt: skip
        more = f" The first {MAX_REASONS}:" * (len(failed) > MAX_REASONS)
        blocks.append(Paragraph(f"{len(failed)} trials failed and are left out.{more}"))
        blocks.append(PageTable(["super-block", "tried", "reason"], rows))
    return Section("Trials", blocks)
