"""The page of a study: results, predictions, trials and checks."""

from __future__ import annotations

from pathlib import Path

from genets.core.errors import encodable
from genets.core.files import write_atomic
from genets.nas.snapshot import Snapshot
from genets.nas.warnings import list_warnings
from genets.report.html import Block, Cell, Figure, PageTable, Paragraph, Section, page
from genets.report.study.budgets import budgets_section, with_budget
from genets.report.study.candidates import (
    candidates_section,
    rounds_section,
    screening_section,
)
from genets.report.study.charts import gradient_chart, structure_chart, trials_chart
from genets.report.study.checks import checks_section
from genets.report.study.classes import classes_section
from genets.report.study.facts import (
    accuracy_conditions,
    round_suffix,
    state_sentences,
    study_conditions,
)
from genets.report.study.frontier import frontier_section
from genets.report.study.headline import headline, lead, next_steps, result_section
from genets.report.study.rivals import rivals_section
from genets.report.wording import GAIN_UNITS, describe_target
from genets.structure import Structure

MAX_REASONS = 20  # of failed trials, on a page
BARS_TEXT = (
    "A bar for each block; its height is the number of output channels, which is above it. A "
    "super-block is some equal blocks in a row, and its number is below the bars. A Conv block is "
    "one convolution. XX is two k x k convolutions. BL is 1 x 1, k x k and 1 x 1 with fewer "
    "channels inside. DW is 1 x 1, depth-wise k x k and 1 x 1 with more channels inside. "
    "BL3x96s2r0.25*2 is written for: BL, k = 3, 96 channels, stride 2, 0.25 times the channels "
    "inside, 2 blocks."
)
GRADIENTS_TEXT = {
    "bayes": "A pseudo-gradient is the effect of a change of one super-block on accuracy, fitted "
    "to the trials: of another block type, of a larger depth or width. Right is better. Bars are "
    "95 % intervals. For a block without trials in a super-block, the effect comes from its trials "
    "in other super-blocks (hover for the number of trials).",
    "paper": "A pseudo-gradient is the effect of a change of one super-block on accuracy, by the "
    "literal formula of section 4.2, which has no error bars.",
}


def write_study_page(snapshot: Snapshot, path: Path, date: str) -> None:
    """Write the page of a study. Raises OSError."""
    write_atomic(path, encodable(study_page(snapshot, date)))


def study_page(snapshot: Snapshot, date: str) -> str:
    """The page as HTML."""
    refused = any(each.refusal for each in snapshot.each_budget)
    is_finished = not snapshot.missing() and not snapshot.failure and not refused
    state = [] if is_finished else [Paragraph(text) for text in state_sentences(snapshot)]
    sections = [
        Section("State", state),
        budgets_section(snapshot) if snapshot.budgets else result_section(snapshot),
        next_steps(snapshot),
        Section("Warnings", [Paragraph(sentence) for sentence in list_warnings(snapshot)]),
        *_sections_of_budgets(snapshot),
        *([] if snapshot.budgets else [rivals_section(snapshot), classes_section(snapshot)]),
        *([] if snapshot.budgets else [_structures(snapshot)]),
        *(frontier_section(snapshot, latency) for latency in snapshot.targets),
        *([] if snapshot.budgets else [candidates_section(snapshot), screening_section(snapshot)]),
        rounds_section(snapshot),
        _trials(snapshot),
        _gradients(snapshot),
        checks_section(snapshot),
    ]
    name, settings = snapshot.folder.absolute().name, snapshot.settings
    title = f"Study {name}: {settings.data} on {describe_target(settings.target)}"
    conditions = study_conditions(snapshot, date)
    return page(title, conditions, sections, headline(snapshot), lead(snapshot))


def _sections_of_budgets(snapshot: Snapshot) -> list[Section]:
    """The winner and the candidates of each of several budgets; none with one budget."""
    return [
        with_budget(section, each)
        for each in snapshot.budgets
        if each.selected is not None
        for section in (
            result_section(each),
            rivals_section(each),
            classes_section(each),
            _structures(each),
            candidates_section(each),
            screening_section(each),
        )
    ]


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
        Figure(structure_chart(chosen, both), f"Winner: {chosen}"),
        Paragraph(BARS_TEXT, True),
        PageTable(
            ["super-block", "MasterNet", "winner"],
            [[name, *(Cell(text, "left") for text in texts)] for name, *texts in pairs],
            changed,
        ),
    ]
    return Section("The winner beside the MasterNet", blocks)


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
        fresh = " with fresh weights" * snapshot.settings.from_scratch
        text = (
            "A point for each trial, in the order in which they ended. A control trial has the "
            f"MasterNet's own super-block{fresh}; the other trials of that super-block are "
            "compared with it. The dashed line is the trained MasterNet."
        )
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
