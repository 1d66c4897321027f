"""Tables of a search, a selection and a ranking of MasterNets, for the screen."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.table import Table

from genets.analysis.masters import RankedMaster
from genets.core.errors import InfeasibleBudgetError, counted
from genets.nas.result import SearchResult
from genets.nas.study.records import Candidate, TrainedCandidate
from genets.report.study.rivals import rivals_tables
from genets.report.tables import Fact, facts_table, screen_table
from genets.report.wording import (
    accuracy_words,
    decided_in_int8,
    difference_text,
    duration_text,
    folds_text,
    ms_text,
    noise_words,
    score_names,
    score_text,
    shown_by,
)
from genets.training.score import Metric, Score, metric_score

ALTERNATIVES_HEADER = ("95 %", "budget", "predicted", "measured", "noise", "x MasterNet", "up to",
                       "below", "types", "structure")  # fmt: skip
ALTERNATIVES_TEXT = (
    "{metric}: predicted for validation images. 95 %: the interval of this prediction. up to: the "
    "upper end of the 95 % interval of the latency. below: the share of the budget that this end "
    "leaves. noisy: the interval was still too wide when the time limit passed. disturbed: "
    "something else used or slowed the device. *: the prediction is extrapolated beyond the trials"
)

BUDGETS_TEXT = (
    "Scores on test images. up to: the upper end of the 95 % interval of the latency. compared "
    "with the MasterNet: the difference of top-1, with its 95 % interval over the test images."
)
BUDGETS_INT8_TEXT = " in int8: after quantisation; the difference is that before quantisation."


def search_tables(result: SearchResult) -> list[Table]:
    """The result of a search; with several budgets, a table of all budgets comes first."""
    if not (result.budgets or result.refused):
        return [search_table(result), *rivals_tables(result)]
    failed = f", {result.trials_failed} failed" if result.trials_failed else ""
    shared = [
        ("trials", f"{result.trials_done} done{failed}"),
        *_screening_facts(result),
        ("time", duration_text(sum(result.seconds.values()))),
        ("study", str(result.folder)),
        ("in Python", f"import genets; network = genets.load({_quoted(result.results)})"),
    ]
    return [
        _budgets_table(result),
        *rivals_tables(result),
        facts_table("All budgets", shared),
    ]


def _budgets_table(result: SearchResult) -> Table:
    """A line for the MasterNet, for the winner of each budget, and for each refused budget."""
    tested = [result.master, *(each.winner for each in result.budgets.values())]
    quantised = any(score.quantised is not None for score in tested)

    def score_texts(score: Score) -> list[str]:
        texts = _score_texts(score, result.metric)
        return texts + _score_texts(score.quantised, result.metric) if quantised else texts

    rows = [["MasterNet", f"{result.selected.master_ms:.4g}", "-", "-",
             *score_texts(result.master), "-", "-"]]  # fmt: skip
    for budget, each in result.budgets.items():
        selected = each.selected
        difference = each.difference and difference_text(each.difference)
        rows.append([
            budget,
            f"{selected.measured_ms:.4g}",
            f"{selected.high_ms:.4g}",
            f"{selected.budget_ms:.4g}",
            *score_texts(each.winner),
            difference or accuracy_words(each.winner.top1 - each.master.top1),
            str(each.results.relative_to(result.folder)),
        ])  # fmt: skip
    header = ["budget", "ms per image", "up to", "budget, ms",
              *score_names(result.metric, quantised=quantised),
              "compared with the MasterNet", "folder"]  # fmt: skip
    rows += [[budget, "not met", *["-"] * (len(header) - 2)] for budget in result.refused]
    text = BUDGETS_TEXT + BUDGETS_INT8_TEXT * quantised
    return screen_table("Budgets", header, rows, fold=("folder",), caption=text)


def search_table(result: SearchResult) -> Table:
    """The result of a search: latency and budget, scores on test images, and the files."""
    failed = f", {result.trials_failed} failed" if result.trials_failed else ""
    selected, on_test = result.selected, " on test images"
    master, winner = (_scores_text(s, result.metric) for s in (result.master, result.winner))
    return facts_table(
        "Result",
        [
            *_budget_facts(selected),
            *_extrapolation_facts(selected),
            ("MasterNet", f"{ms_text(selected.master_ms)}; {master}{on_test}"),
            ("winner", f"{ms_text(selected.measured_ms)}; {winner}{on_test}"),
            *_candidate_facts(result),
            *_round_facts(result),
            ("trials", f"{result.trials_done} done{failed}"),
            *_screening_facts(result),
            ("time", duration_text(sum(result.seconds.values()))),
            *((name, str(path)) for name, path in result.files.items()),
            ("in Python", f"import genets; network = genets.load({_quoted(result.results)})"),
        ],
    )


def _screening_facts(result: SearchResult) -> Iterable[Fact]:
    if result.screened:
        yield ("screened", counted(result.screened, "structure"))


def _candidate_facts(result: SearchResult) -> Iterable[Fact]:
    """The validation scores of the trained candidates, the best predicted candidate first."""
    if not result.confirmed:
        return
    several = len({candidate.structure.resolution for candidate in result.confirmed}) > 1
    scores = [
        _candidate_scores(candidate, result.metric)
        + f" at {candidate.structure.resolution} pixels" * several
        + " (winner)" * (candidate.structure == result.selected.structure)
        for candidate in result.confirmed
    ]
    numbers = sorted({candidate.epochs for candidate in result.confirmed})
    epochs = " or ".join([*map(str, numbers[:-1]), counted(numbers[-1], "epoch")])
    epochs = f"validation scores after {epochs}"
    if result.folds > 1:
        epochs += f", {folds_text(result.folds)}"
    deciding = result.metric.label + " in int8" * decided_in_int8(result.confirmed)
    yield "candidates", f"{'; '.join(scores)}; {epochs}; {deciding} decides"


def _candidate_scores(candidate: TrainedCandidate, metric: Metric) -> str:
    if candidate.status == "failed":
        return "failed"
    return _scores_text(candidate.score, metric)


def _round_facts(result: SearchResult) -> Iterable[Fact]:
    """The MasterNet of each round and its score on validation images."""
    for round_result in result.rounds:
        trials = f"{round_result.trials_done} trials around {round_result.master}"
        scores = f"{_scores_text(round_result.score, result.metric)} on validation images"
        yield f"round {round_result.number}", f"{trials}; {scores}"


def _scores_text(score: Score, deciding: Metric) -> str:
    """The scores by name; behind them in brackets, if there are any, those after quantisation."""
    texts = zip(shown_by(deciding), _score_texts(score, deciding), strict=True)
    text = ", ".join(f"{metric.label} {text}" for metric, text in texts)
    if score.quantised is None:
        return text
    return f"{text} (in int8: {_scores_text(score.quantised, deciding)})"


def _score_texts(score: Score | None, deciding: Metric) -> list[str]:
    """The scores of a network in a study. deciding: the metric of the study."""
    metrics = shown_by(deciding)
    if score is None:
        return ["-"] * len(metrics)
    return [score_text(metric_score(score, metric), metric) for metric in metrics]


def _quoted(path: Path) -> str:
    return json.dumps(str(path), ensure_ascii=False)


def selected_table(selected: Candidate, metric: Metric) -> Table:
    """A structure that was selected from a study. metric: the metric that the study predicts."""
    facts = [*_budget_facts(selected), *_prediction_facts(selected, metric)]
    return facts_table("Selected", [*facts, ("structure", str(selected.structure))])


def _prediction_facts(selected: Candidate, metric: Metric) -> Iterable[Fact]:
    name = f"predicted {metric.label}"
    score, interval = _predicted_texts(selected, metric)
    if selected.predicted_accuracy is None:
        yield name, "not available: the trials were run at another resolution"
        return
    known = f" (95 % interval {interval})" if interval else ""
    yield name, f"{score}{known} on validation images"
    yield from _extrapolation_facts(selected)


def _predicted_texts(selected: Candidate, metric: Metric) -> tuple[str, str]:
    """The predicted score, a dash if it is not known; its 95 % interval, empty if not known."""
    value = selected.predicted_accuracy
    ends = (selected.predicted_accuracy_low, selected.predicted_accuracy_high)
    scores = sorted(metric.oriented(end) for end in ends if end is not None)
    score = None if value is None else metric.oriented(value)
    return score_text(score, metric), " to ".join(score_text(end, metric) for end in scores)


def _extrapolation_facts(selected: Candidate) -> Iterable[Fact]:
    """Where a prediction is extrapolated beyond the trials."""
    if selected.outside:
        yield "extrapolated", "; ".join(selected.outside)


def _budget_facts(selected: Candidate) -> list[Fact]:
    """Budget, predicted and measured latency, upper bound and margin."""
    interval = f"95 % interval {selected.low_ms:.4g} to {selected.high_ms:.4g}"
    words = (interval, noise_words(selected))
    side = "below" if selected.margin >= 0 else "ABOVE"
    return [
        ("budget", ms_text(selected.budget_ms)),
        (
            "predicted",
            f"{ms_text(selected.predicted_ms)}; the latency table errs by "
            f"{selected.table_rmspe:.1%} (RMSPE)",
        ),
        ("measured", f"{ms_text(selected.measured_ms)}; {', '.join(filter(None, words))}"),
        ("up to", ms_text(selected.high_ms)),
        ("margin", f"{abs(selected.margin):.1%} {side} the budget"),
    ]


def fastest_table(error: InfeasibleBudgetError) -> Table | None:
    """The fastest network, for a budget that no network meets; None if it is not known."""
    if error.fastest is None:
        return None
    facts = [("structure", error.fastest)]
    if error.fastest_ms is not None:
        facts.append(("latency, at most", ms_text(error.fastest_ms)))
    if error.budget_ms is not None:
        facts.append(("budget", ms_text(error.budget_ms)))
    return facts_table("Fastest network of the design space", facts)


def alternatives_table(candidates: Sequence[Candidate], metric: Metric) -> Table:
    """A line for each alternative, the best first. All latencies are ms per image.

    metric: the metric that the study predicts.
    """
    rows = []
    for number, candidate in enumerate(candidates, start=1):
        score, interval = _predicted_texts(candidate, metric)
        rows.append([
            str(number),
            score + "*" * bool(candidate.outside),
            interval or "-",
            f"{candidate.budget_ms:.4g}",
            f"{candidate.predicted_ms:.4g}",
            f"{candidate.measured_ms:.4g}",
            noise_words(candidate),
            f"{candidate.measured_ms / candidate.master_ms:.2f}",
            f"{candidate.high_ms:.4g}",
            f"{candidate.margin:.1%}",
            " ".join(super_block.type for super_block in candidate.structure.super_blocks),
            str(candidate.structure),
        ])  # fmt: skip
    return screen_table(
        "Alternatives, ms per image", ("", metric.label, *ALTERNATIVES_HEADER), rows,
        left=0, fold=("structure",), caption=ALTERNATIVES_TEXT.format(metric=metric.label),
    )  # fmt: skip


def masters_table(ranked: Sequence[RankedMaster], metric: Metric) -> Table:
    """A line for each structure, the best first."""
    metric = Metric.parse(metric)
    rows = []
    for row in ranked:
        mean, low, high, behind = (
            score_text(score, metric) for score in (row.mean, row.low, row.high, row.behind)
        )
        rows.append([
            row.name,
            mean,
            "-" if math.isnan(row.low) else f"{low} to {high}",
            behind + " ~" * bool(row.tied and row.behind),
            "-" if row.ms_per_image is None else f"{row.ms_per_image:.4g}",
        ])  # fmt: skip
    caption = (
        f"Mean of {counted(ranked[0].trainings, 'training')} for each structure, on the same "
        "validation images. ~: the difference to the best structure is within its 95 % interval"
    )
    header = ("structure", metric.label, "95 % interval", "behind", "ms/image")
    return screen_table("MasterNets", header, rows, caption=caption)
