"""The status of a search in sentences and tables, for the screen."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator

from rich.table import Table

from genets.core.errors import counted
from genets.nas.watch.networks import FrontierPoint, SelectedNetwork
from genets.nas.watch.phases import PhaseStatus, current_phase
from genets.nas.watch.status import SearchStatus
from genets.report.tables import screen_table
from genets.report.wording import (
    SCORE_UNITS,
    aligned_texts,
    duration_text,
    in_unit,
    noise_words,
    unit_text,
)
from genets.training.score import Metric


def state_sentence(status: SearchStatus) -> str:
    """Say whether the search runs, and how to continue one that does not run."""
    again = f"to continue: genets search --out {shlex.quote(str(status.folder))}"
    when = "" if status.seen_at is None else _clock_text(status.seen_at)
    match status.state:
        case "running":
            return f"The search runs. Last update: {when}{_place(status)}."
        case "silent":
            return (
                f"No sign of the search since {when}{_place(status)}. It was killed, its machine "
                f"is gone, or this machine does not see its files; {again}"
            )
        case "stopped":
            return f"The search was stopped at {when}; {again}"
        case "failed":
            reason = status.failure or "see study.log in the study"
            return f"The search failed at {when}: {reason}"
        case "finished":
            return "The search has finished."
    return (
        "The search has not finished. An older genets wrote the study, so it is not known "
        f"whether a search runs; {again}"
    )


def status_lines(status: SearchStatus) -> list[str]:
    """The state, the trials, and the workers, a sentence each."""
    lines = [f"{status.folder}: {state_sentence(status)}"]
    failed = f", {status.trials_failed} failed" if status.trials_failed else ""
    trials = f"Trials: {status.trials_done} of {status.trials_planned} done{failed}"
    if status.trials_per_minute is not None:
        trials += f", {status.trials_per_minute:.3g} per minute"
    lines.append(f"{trials}.")
    run, running = status.run, current_phase(status.phases)
    if status.state != "running" or run is None:
        return lines
    if run.workers is not None:
        trained = counted(status.running, "network")
        workers = counted(run.workers, "worker")
        lines.append(f"{workers} on {run.workers_on}; in training now: {trained}.")
    if run.waiting:
        lines.append(f"The search waits for a calm device: {run.waiting}.")
    if running is not None and status.seconds_left is not None:
        left = duration_text(status.seconds_left)
        lines.append(f"Time left: about {left} in the phase {running.phase}.")
    return lines


def warning_lines(status: SearchStatus) -> list[str]:
    """The last warnings, the newest last."""
    return [f"warning of {each}" for each in status.warnings]


def status_tables(status: SearchStatus) -> Iterator[Table]:
    """The phases, and the predicted frontier or the selected structures."""
    yield _phases_table(status)
    if status.frontier:
        yield _frontier_table(status.frontier, status.metric)
    if status.selected:
        yield _selected_table(status.selected, status.metric)


def _phases_table(status: SearchStatus) -> Table:
    rows = [[each.phase, each.state, _progress_text(each), _time_text(each)]
            for each in status.phases]  # fmt: skip
    return screen_table("Phases", ("phase", "state", "progress", "time"), rows, left=2)


def _progress_text(phase: PhaseStatus) -> str:
    if phase.done is None or phase.total is None:
        return "-"
    return f"{int(phase.done)} of {int(phase.total)}"


def _time_text(phase: PhaseStatus) -> str:
    return "-" if phase.seconds is None else duration_text(phase.seconds)


def _frontier_table(points: tuple[FrontierPoint, ...], metric: Metric) -> Table:
    latencies = aligned_texts(each.ms_per_image for each in points)
    rows = [
        [
            latency,
            unit_text(in_unit(each.score, metric), metric),
            _interval_text(each.low, each.high, metric),
            ", ".join(each.budgets) or "-",
            str(each.structure),
        ]
        for latency, each in zip(latencies, points, strict=True)
    ]
    header = ("ms per image", "predicted", "95 %", "best for", "structure")
    return screen_table(
        f"Predicted frontier, {_score_words(metric)}", header, rows, left=0, fold=("structure",),
        caption="Latency and score are predicted from the latency table and the trials so far. "
        "95 %: the interval of the score",
    )  # fmt: skip


def _selected_table(networks: tuple[SelectedNetwork, ...], metric: Metric) -> Table:
    latencies = aligned_texts(each.candidate.measured_ms for each in networks)
    rows = []
    for latency, each in zip(latencies, networks, strict=True):
        value, trained = each.candidate.predicted_accuracy, each.trained
        score: str = "-" if trained is None else trained.status
        if trained is not None and trained.status == "done":
            score = unit_text(in_unit(metric.oriented(trained.value(metric)), metric), metric)
        rows.append([
            each.budget,
            "winner" if each.is_winner else "-",
            f"{latency} {noise_words(each.candidate)}".rstrip(),
            "-" if value is None else unit_text(in_unit(metric.oriented(value), metric), metric),
            score,
            str(each.candidate.structure),
        ])  # fmt: skip
    header = ("budget", "role", "ms per image", "predicted", "trained", "structure")
    return screen_table(
        f"Selected structures, {_score_words(metric)}", header, rows, left=2, fold=("structure",),
        caption="The latencies are measured; the scores are computed on validation images",
    )  # fmt: skip


def _score_words(metric: Metric) -> str:
    return f"{metric.label} in {SCORE_UNITS[metric]}"


def _interval_text(low: float | None, high: float | None, metric: Metric) -> str:
    if low is None or high is None:
        return "-"
    return " to ".join(unit_text(in_unit(end, metric), metric) for end in (low, high))


def _place(status: SearchStatus) -> str:
    run = status.run
    return "" if run is None else f" (process {run.process} on {run.host})"


def _clock_text(seconds: float) -> str:
    """A time of the day here, with the date where it is another day."""
    when, today = time.localtime(seconds), time.localtime()
    same_day = when[:3] == today[:3]
    return time.strftime("%H:%M:%S" if same_day else "%Y-%m-%d %H:%M", when)
