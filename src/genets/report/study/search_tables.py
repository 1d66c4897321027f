"""What a search or a selection found, for the screen."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from rich.table import Table

from genets.core.errors import InfeasibleBudgetError
from genets.nas.study.records import Confirmed, SearchResult, Selected
from genets.report.tables import Fact, facts_table, ms_text


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
        decides = result.response.replace("_", "-")
        yield "candidates", f"{'; '.join(scores)}; {epochs}; {decides} decides"


def _confirmed_scores(one: Confirmed) -> str:
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


def selected_table(selected: Selected, caution: float = 0.0) -> Table:
    """A structure selected from a study, with its promise.

    caution: the standard deviations that were taken off when it was selected.
    """
    facts = [*promise_facts(selected), *_value_facts(selected, caution)]
    return facts_table("Selected", [*facts, ("structure", str(selected.structure))])


def _value_facts(selected: Selected, caution: float) -> Iterable[Fact]:
    value, std = selected.predicted_accuracy, selected.predicted_accuracy_std
    if value is None:
        pixels = f"{selected.structure.resolution} pixels"
        yield "predicted value", f"none, as trials say nothing of what {pixels} bring"
        return
    spread = "" if std is None else f" ± {std:.4f}"
    said = "top-1, or minus the cross-entropy, on validation images"
    yield "predicted value", f"{value:.4f}{spread} ({said})"
    yield from _outside_facts(selected)
    if caution:
        deviations = "standard deviation" if caution == 1 else "standard deviations"
        bound = f"{value - caution * (std or 0):.4f}, {caution:g} {deviations} below"
        yield "lower bound", f"{bound}; by this it was selected"


def _outside_facts(selected: Selected) -> Iterable[Fact]:
    """Where a prediction goes beyond what trials have tried."""
    if selected.outside:
        yield "extrapolated", "; ".join(selected.outside)


def promise_facts(selected: Selected) -> list[Fact]:
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
