"""A study as one page: what was found, what it rests on, and what is not there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from genets.core.files import write_atomic
from genets.nas.selection.measured import TargetLatency
from genets.nas.study.snapshot import Snapshot
from genets.nas.warnings import list_warnings
from genets.report.conditions import described
from genets.report.html import Block, Cell, Figure, PageTable, Paragraph, Section, page
from genets.report.study.charts import (
    at_table_pace,
    budget_ms,
    frontier_chart,
    gradient_chart,
    role_of,
    structure_chart,
    trials_chart,
)
from genets.report.study.checks import accuracy_check_chart, latency_check_chart
from genets.report.study.facts import (
    accuracy_conditions,
    latency_conditions,
    pixels_text,
    state_sentences,
    study_conditions,
)
from genets.report.study.sections import SHOWN, candidates_section, rounds_section
from genets.structure import Structure

MOST_REASONS = 20  # of failed trials, on a page


def write_study_page(snapshot: Snapshot, path: Path, date: str) -> None:
    """Raises OSError."""
    write_atomic(path, study_page(snapshot, date))


def study_page(snapshot: Snapshot, date: str) -> str:
    """The page as HTML."""
    found = [
        Section("State", [Paragraph(sentence) for sentence in state_sentences(snapshot)]),
        _result(snapshot),
        rounds_section(snapshot),
        candidates_section(snapshot),
        *(_frontier(snapshot, on) for on in snapshot.targets),
        _structures(snapshot),
        _gradients(snapshot),
        _trials(snapshot),
        _checks(snapshot),
        Section("Warnings", [Paragraph(sentence) for sentence in list_warnings(snapshot)]),
    ]
    title = f"Study {snapshot.folder.absolute().name}"
    sections = [section for section in found if section.blocks]
    return page(title, study_conditions(snapshot, date), sections)


def _result(snapshot: Snapshot) -> Section:
    selected, result = snapshot.selected, snapshot.result
    if selected is None:
        return Section("Result", [])
    scores = {"MasterNet": (result or {}).get("master"), "selected": (result or {}).get("winner")}
    rows = []
    for name, ms in (("MasterNet", selected.master_ms), ("selected", selected.measured_ms)):
        score = scores[name]
        test = (
            ["-", "-"] if not score else [f"{score['top1']:.2%}", f"{score['cross_entropy']:.4g}"]
        )
        rows.append([name, f"{ms:.4g}", *test])
    budget = (
        f"Budget {selected.budget_ms:.4g} ms per image ({snapshot.settings.budget}): predicted "
        f"{selected.predicted_ms:.4g}, measured {selected.measured_ms:.4g}, 95 % interval "
        f"{selected.low_ms:.4g} to {selected.high_ms:.4g}, so {abs(selected.margin):.1%} "
        f"{'below' if selected.margin >= 0 else 'ABOVE'} the budget."
    )
    header = ["network", "ms per image, measured", "test top-1", "test cross-entropy"]
    blocks: list[Block] = [Paragraph(budget), PageTable(header, rows, frozenset({1}))]
    own = [on for on in snapshot.targets if on.target == snapshot.settings.target.resolved()]
    blocks += [Paragraph(latency_conditions(on), True) for on in own]
    return Section("Result", blocks)


def _frontier(snapshot: Snapshot, on: TargetLatency) -> Section:
    title = f"Frontier: {described(on.target)}"
    resolutions = on.table.space.resolutions
    charts = [frontier_chart(snapshot, on, resolution) for resolution in resolutions]
    if charts[0] is None:
        reason = snapshot.model_failure or "there are no trials yet"
        said = f"No frontier, as no accuracy can be predicted: {reason}."
        return Section(title, [Paragraph(said), *_measured_table(snapshot, on)])
    explained = (
        "Up and left is better. The line is the best predicted structure for every predicted "
        "latency, exact over the whole design space; the band is one standard deviation to either "
        f"side. The dashed line is the search's budget, {budget_ms(snapshot, on):.4g} ms. "
        "Marks are networks that were measured, at their measured latency, brought to the pace of "
        "the latency table by the MasterNet that was measured in turn with each. Touch or hover "
        "for the structure."
    )
    several = len(resolutions) > 1
    return Section(title, [
        Paragraph(explained),
        *([Paragraph(_other_resolutions(snapshot, resolutions))] if several else []),
        *(Figure(chart, "Predicted accuracy over latency" + f", {resolution} pixels" * several)
          for chart, resolution in zip(charts, resolutions, strict=True)),
        Paragraph(latency_conditions(on), True),
        Paragraph(accuracy_conditions(snapshot), True),
        *_measured_table(snapshot, on),
    ])  # fmt: skip


def _other_resolutions(snapshot: Snapshot, resolutions: Sequence[int]) -> str:
    own = snapshot.latest.master.resolution
    return (
        f"Structures are selected at {pixels_text(resolutions)} by the same predictions, those for "
        f"{own} pixels, where the trials were made. Elsewhere they say which structure is better, "
        "not how good it is: heights in different charts are not to be compared. Which "
        "resolution is best is decided by training candidates of each."
    )


def _measured_table(snapshot: Snapshot, on: TargetLatency) -> list[Block]:
    model = snapshot.model
    shown = SHOWN[snapshot.settings.metric]
    header = ["network", f"predicted {shown.name}, {shown.unit}", "std", "predicted ms",
              "measured ms", "95 % interval", "MasterNet then, ms", "structure"]  # fmt: skip
    rows: list[list[Cell | str]] = []
    strong = set()
    for structure, known in sorted(
        on.measured.items(), key=lambda item: at_table_pace(item[1], on)
    ):
        m, prediction = known.network, None
        if model and structure.resolution == model.master.resolution:
            prediction = model.predict(structure)
        role = role_of(structure, snapshot)
        strong |= {len(rows)} if role == "selected" else set()
        std = prediction.std if prediction else float("nan")
        rows.append([
            role,
            f"{shown.score(prediction.value):.4g}" if prediction else "-",
            "-" if std != std else f"{shown.spread(std):.2g}",
            f"{on.table.predict_ms_per_image(structure):.4g}",
            f"{m.ms_per_image:.4g}{'~' * m.noisy}",
            f"{m.low_ms_per_image:.4g} to {m.high_ms_per_image:.4g}",
            f"{known.master_ms_per_image:.4g}",
            Cell(str(structure), "text"),
        ])  # fmt: skip
    if not rows:
        return []
    legend = "ms per image as measured; predicted ms at the pace of the latency table. ~ noisy."
    return [PageTable(header, rows, frozenset(strong)), Paragraph(legend, True)]


def _structures(snapshot: Snapshot) -> Section:
    master = snapshot.master
    chosen = snapshot.selected.structure if snapshot.selected else None
    both = [master] if chosen is None else [master, chosen]
    blocks: list[Block] = [Figure(structure_chart(master, both), f"MasterNet: {master}")]
    if chosen is not None:
        blocks.append(Figure(structure_chart(chosen, both), f"Chosen: {chosen}"))
    blocks.append(Paragraph(_BARS, True))
    if chosen is not None:
        names = ["input", *map(master.stage_label, master.indices)]
        pairs = list(zip(names, _rows(master), _rows(chosen), strict=True))
        rows = [[name, *pair] for name, *pair in pairs]
        changed = frozenset(n for n, (_, a, b) in enumerate(pairs) if a != b)
        blocks.append(PageTable(["super-block", "MasterNet", "chosen"], rows, changed))
    title = "The chosen structure beside the MasterNet" if chosen else "The MasterNet"
    return Section(title, blocks)


def _rows(structure: Structure) -> list[str]:
    stages = (str(stage) for stage in structure.stages)
    return [f"{structure.resolution} pixels", *stages]


_BARS = (
    "A bar for each block, as high as its output is wide (the number above, in channels); below, "
    "the number of the super-block."
)


def _gradients(snapshot: Snapshot) -> Section:
    title = "Pseudo-gradients" + _of_round(snapshot)
    if snapshot.model is None:
        return Section(title, [])
    gain = SHOWN[snapshot.model.metric].gain_unit
    bayes = snapshot.model.form == "bayes"
    per = ("e times the depth", "e times the width") if bayes else ("one block", "one channel")
    wanted = {
        "g0": ("Another block in place of the MasterNet's", f"gain, {gain}"),
        "g1": (f"Gain from {per[0]}", f"gain, {gain}"),
        "g2": (f"Gain from {per[1]}", f"gain, {gain}"),
    }
    charts = {name: gradient_chart(snapshot, name, axis) for name, (_, axis) in wanted.items()}
    figures: list[Block] = [Figure(chart, wanted[name][0])
                            for name, chart in charts.items() if chart is not None]  # fmt: skip
    if not figures:
        return Section(title, [])
    said = (
        "The fitted effect of type, depth and width of each super-block on accuracy; right is "
        "better. Bars are 95 % intervals. A block that was tried nowhere in a super-block rests on "
        "its trials elsewhere (hover for counts)."
        if bayes
        else "The literal formula of section 4.2; it has no error bars."
    )
    return Section(
        title, [Paragraph(said), *figures, Paragraph(accuracy_conditions(snapshot), True)]
    )


def _trials(snapshot: Snapshot) -> Section:
    blocks: list[Block] = []
    several = len(snapshot.rounds) > 1
    for each in snapshot.rounds:
        chart = trials_chart(each, snapshot.settings.metric)
        if chart is not None:
            of_round = f", round {each.number}" * several
            blocks.append(Figure(chart, f"Trials over time{of_round}"))
    if blocks:
        said = "In the order in which they ended. The dashed line is the trained MasterNet."
        blocks = [Paragraph(said), *blocks, Paragraph(accuracy_conditions(snapshot), True)]
    failed = snapshot.failed
    if failed:
        label = snapshot.master.stage_label
        rows: list[list[Cell | str]] = [
            [label(r.trial.index), Cell(str(r.trial.super_block), "text"),
             Cell(r.reason, "text")] for r in failed[:MOST_REASONS]
        ]  # fmt: skip
        more = f" The first {MOST_REASONS}:" * (len(failed) > MOST_REASONS)
        blocks.append(Paragraph(f"{len(failed)} trials failed and are left out.{more}"))
        blocks.append(PageTable(["super-block", "tried", "reason"], rows))
    return Section("Trials", blocks)


def _checks(snapshot: Snapshot) -> Section:
    figures: list[Block] = []
    notes: list[str] = []
    for on in snapshot.targets:
        chart = latency_check_chart(snapshot, on)
        if chart is not None:
            figures.append(Figure(chart, f"Latency: {described(on.target)}"))
            notes.append(latency_conditions(on))
    chart = accuracy_check_chart(snapshot)
    if chart is not None:
        title = f"Accuracy of trials{_of_round(snapshot)}: leave one out"
        figures.append(Figure(chart, title))
        notes += [_left_out(snapshot), accuracy_conditions(snapshot)]
    if not figures:
        return Section("", [])
    said = (
        "The dashed line is where both agree. Nothing here was used to fit what predicts it: whole "
        "networks held out of the latency table and candidates of selections, at the table's pace; "
        "each trial predicted from all others, with one standard deviation to either side."
    )
    return Section("Predicted against measured", [Paragraph(said), *figures, *_quiet(notes)])


def _of_round(snapshot: Snapshot) -> str:
    """Where there are several, which round the accuracy model is of."""
    return f", round {snapshot.latest.number}" * (len(snapshot.rounds) > 1)


def _left_out(snapshot: Snapshot) -> str:
    assert snapshot.model is not None
    left_out = snapshot.model.leave_one_out()
    assert left_out is not None
    shown = SHOWN[snapshot.model.metric]
    rank = "" if left_out.spearman is None else (
        f", rank correlation (Spearman) of changes {left_out.spearman:.2f}"
    )  # fmt: skip
    return f"Leave-one-out error {shown.spread(left_out.rmse):.3g} {shown.unit} (RMS){rank}."


def _quiet(notes: Iterable[Any]) -> list[Block]:
    return [Paragraph(note, True) for note in dict.fromkeys(notes)]
