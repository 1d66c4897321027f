"""What a search or a selection found, for the screen.

Tables and records of what was selected from a study.

The ranking of structures that a MasterNet is chosen from.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from genets.analysis.masters import RankedMaster
from genets.core.errors import InfeasibleBudgetError
from genets.nas.study.records import Candidate, SearchResult, TrainedCandidate
from genets.report.tables import Fact, facts_table, ms_text
from genets.training.score import Metric


def search_table(result: SearchResult) -> Table:
    """What a search found: the promise, the scores on test images, and where the files are."""
    failed = f", {result.trials_failed} failed" if result.trials_failed else ""
    return facts_table(
        "Result",
        [
            *promise_facts(result.selected),
            *_outside_facts(result.selected),
            ("MasterNet", f"{ms_text(result.selected.master_ms)}; {_scores(result.master)}"),
            ("winner", f"{ms_text(result.selected.measured_ms)}; {_scores(result.winner)}"),
            *_confirmed_facts(result),
            *_round_facts(result),
            ("trials", f"{result.trials_done} done{failed}"),
            ("time", _duration(sum(result.seconds.values()))),
            *((name, str(path)) for name, path in result.files.items()),
            ("in Python", f"import genets; network = genets.load({_quoted(result.results)})"),
        ],
    )


def _confirmed_facts(result: SearchResult) -> Iterable[Fact]:
    """What the winner was chosen among, the best predicted first, and by which score."""
    if result.confirmed:
        several = len({one.structure.resolution for one in result.confirmed}) > 1
        scores = [
            _confirmed_scores(one)
            + f" at {one.structure.resolution} pixels" * several
            + " (winner)" * (one.structure == result.selected.structure)
            for one in result.confirmed
        ]
        epochs = f"on validation images after {result.confirmed[0].epochs} epochs"
        decides = result.metric.label
        yield "candidates", f"{'; '.join(scores)}; {epochs}; {decides} decides"


def _confirmed_scores(one: TrainedCandidate) -> str:
    if one.top1 is None or one.cross_entropy is None:
        return "failed"
    return f"cross-entropy {one.cross_entropy:.4g}, {one.top1:.2%} right"


def _round_facts(result: SearchResult) -> Iterable[Fact]:
    """Which MasterNet each round took its trials around, and its score on validation images."""
    for each in result.rounds:
        around = f"{each.trials_done} trials around {each.master}"
        right = f"{each.score['top1']:.2%} of validation images right"
        own = f"{right}, cross-entropy {each.score['cross_entropy']:.4g}"
        yield f"round {each.number}", f"{around}; {own}"


def selected_table(selected: Candidate) -> Table:
    """A structure selected from a study, with its promise."""
    facts = [*promise_facts(selected), *_value_facts(selected)]
    return facts_table("Selected", [*facts, ("structure", str(selected.structure))])


def _value_facts(selected: Candidate) -> Iterable[Fact]:
    value, std = selected.predicted_accuracy, selected.predicted_accuracy_std
    if value is None:
        pixels = f"{selected.structure.resolution} pixels"
        yield "predicted value", f"none, as trials say nothing of what {pixels} bring"
        return
    spread = "" if std is None else f" ± {std:.4f}"
    said = "top-1, or minus the cross-entropy, on validation images"
    yield "predicted value", f"{value:.4f}{spread} ({said})"
    yield from _outside_facts(selected)


def _outside_facts(selected: Candidate) -> Iterable[Fact]:
    """Where a prediction goes beyond what trials have tried."""
    if selected.outside:
        yield "extrapolated", "; ".join(selected.outside)


def promise_facts(selected: Candidate) -> list[Fact]:
    """Budget, predicted, measured, bound and margin."""
    interval = f"95 % interval {selected.low_ms:.4g} to {selected.high_ms:.4g}"
    side = "below" if selected.margin >= 0 else "ABOVE"
    return [
        ("budget", ms_text(selected.budget_ms)),
        (
            "predicted",
            f"{ms_text(selected.predicted_ms)}; table error {selected.table_rmspe:.1%} RMSPE",
        ),
        ("measured", f"{ms_text(selected.measured_ms)}; {interval}{', noisy' * selected.noisy}"),
        ("bound", ms_text(selected.high_ms)),
        ("margin", f"{abs(selected.margin):.1%} {side} the budget"),
    ]


def fastest_table(error: InfeasibleBudgetError) -> Table | None:
    """The fastest network there is, for a budget that none keeps; None if it is not known."""
    if error.fastest is None:
        return None
    facts = [("structure", error.fastest)]
    if error.fastest_ms is not None:
        facts.append(("latency", ms_text(error.fastest_ms)))
    if error.budget_ms is not None:
        facts.append(("budget", ms_text(error.budget_ms)))
    return facts_table("Fastest network of the design space", facts)


def _quoted(path: Path) -> str:
    return json.dumps(str(path), ensure_ascii=False)


def _scores(score: dict[str, float]) -> str:
    return f"{score['top1']:.2%} of test images right, cross-entropy {score['cross_entropy']:.4g}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def alternatives_table(found: Sequence[Candidate]) -> Table:
    """A line for each alternative, the best first. All latencies are ms per image."""
    table = Table(title=Text("Alternatives, ms per image"), title_justify="left")
    numbers = ["", "value", "std"]
    for name in (*numbers, "budget", "predicted", "measured", "x MasterNet", "up to", "below"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("types", no_wrap=True)
    table.add_column("structure", overflow="fold", min_width=24)
    for number, one in enumerate(found, start=1):
        values = (one.predicted_accuracy, one.predicted_accuracy_std)
        cells = [str(number), *("-" if value is None else f"{value:.4f}" for value in values)]
        cells[1] += "*" * bool(one.outside)
        cells += [f"{ms:.4g}" for ms in (one.budget_ms, one.predicted_ms)]
        cells += [f"{one.measured_ms:.4g}{'~' * one.noisy}"]
        cells += [f"{one.measured_ms / one.master_ms:.2f}", f"{one.high_ms:.4g}"]
        cells.append(f"{one.margin:.1%}")
        types = " ".join(super_block.type for super_block in one.structure.super_blocks)
        table.add_row(*cells, types, Text(str(one.structure)))
    table.caption = Text(_LEGEND)
    table.caption_justify = "left"
    return table


_LEGEND = (
    "value: predicted top-1, or minus the cross-entropy, on validation images. up to: the upper "
    "end of the 95 % interval; below: what it leaves of the budget. ~ noisy. * beyond what trials "
    "have tried there"
)


def masters_table(ranked: Sequence[RankedMaster], metric: Metric) -> Table:
    """A line for each structure, the best first."""
    percent = metric is Metric.TOP1
    table = Table(title=Text("MasterNets"), title_justify="left")
    table.add_column("structure", no_wrap=True)
    for name in ("top-1" if percent else "cross-entropy", "95 % interval", "behind", "ms/image"):
        table.add_column(name, justify="right", no_wrap=True)

    def shown(value: float) -> str:
        return f"{value:.2%}" if percent else f"{value:.4f}"

    for row in ranked:
        interval = "-" if row.low != row.low else f"{shown(row.low)} to {shown(row.high)}"
        behind = f"{shown(row.behind)}{' ~' if row.tied and row.behind else ''}"
        ms = "-" if row.ms_per_image is None else f"{row.ms_per_image:.4g}"
        table.add_row(Text(row.name), shown(row.mean), interval, behind, ms)
    table.caption = Text(
        f"Mean of {ranked[0].trainings} training(s) each, on the validation images, which are the "
        "same for all. ~ not told from the best"
    )
    table.caption_justify = "left"
    return table
