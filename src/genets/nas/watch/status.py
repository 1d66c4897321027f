"""The status of a search, from a study and the record of its last run, without writing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from genets.core.errors import StudyError
from genets.nas.phase_names import phase_of
from genets.nas.snapshot import Snapshot
from genets.nas.study import layout
from genets.nas.study.reader import StudyReader
from genets.nas.study.records import TrainedCandidate, TrialResult
from genets.nas.watch.networks import (
    FrontierPoint,
    SelectedNetwork,
    list_frontier,
    list_selected,
)
from genets.nas.watch.phases import PhaseStatus, current_phase, list_phases
from genets.nas.watch.run_record import SILENT_SECONDS, RunRecord
from genets.training.score import Metric

MAX_WARNINGS = 5
LOG_BYTES = 1 << 16  # of the end of the log, where the last warnings are
READ_ATTEMPTS, READ_PAUSE_S = 3, 0.2  # a file may be half written on a network file system

SearchState = Literal["running", "silent", "stopped", "failed", "finished", "unknown"]


@dataclass(frozen=True)
class SearchStatus:
    """The status of a search at one moment.

    Attributes:
        folder: The study.
        state: "silent" is a search without an update for two minutes: it was killed, its
            machine is gone, or this machine does not see its files. "unknown" is an unfinished
            study of an older genets, which kept no record of its runs.
        seen_at: The time of the last update, in seconds since 1970; None where there is no record.
        failure: The sentence with which the last run stopped.
        run: The record of the last run; None in a study of an older genets.
        phases: The phases in their order.
        trials_planned, trials_done, trials_failed: The trials of the rounds that have begun.
        running: The number of trials or candidates that are trained now.
        trials_per_minute: The rate of the last trials; None while no trials run.
        seconds_left: The time that the running phase still takes; None if not known.
        metric: The metric that is predicted.
        frontier: Some structures of the predicted frontier; empty once structures are selected.
        selected: The candidates of the last round, those of the largest budget first.
        warnings: The last warnings, the newest last.
    """

    folder: Path
    state: SearchState
    seen_at: float | None
    failure: str | None
    run: RunRecord | None
    phases: tuple[PhaseStatus, ...]
    trials_planned: int
    trials_done: int
    trials_failed: int
    running: int
    trials_per_minute: float | None
    seconds_left: float | None
    metric: Metric
    frontier: tuple[FrontierPoint, ...]
    selected: tuple[SelectedNetwork, ...]
    warnings: tuple[str, ...]

    @property
    def has_ended(self) -> bool:
        """Whether no process works on the study, as far as the study says."""
        return self.state in ("finished", "stopped", "failed")

    def to_json(self) -> dict[str, Any]:
        run = self.run or RunRecord(host="", process=0)
        return {
            "study": str(self.folder),
            "state": self.state,
            "seen_at": self.seen_at,
            "failure": self.failure,
            "host": run.host or None,
            "process": run.process or None,
            "phases": [each.to_json() for each in self.phases],
            "waiting": run.waiting if self.state == "running" else "",
            "trials": {
                "planned": self.trials_planned,
                "done": self.trials_done,
                "failed": self.trials_failed,
            },
            "running": self.running,
            "workers": {"count": run.workers, "on": run.workers_on or None},
            "trials_per_minute": self.trials_per_minute,
            "seconds_left": self.seconds_left,
            "metric": self.metric,
            "frontier": [each.to_json() for each in self.frontier],
            "selected": [each.to_json() for each in self.selected],
            "warnings": list(self.warnings),
        }


def read_status(folder: str | Path) -> SearchStatus:
    """Read the status of a search, on any machine that sees the folder of its study.

    Nothing is written, created or locked. The search may run, or it may have ended.

    Args:
        folder: The study.

    Returns:
        The status.

    Raises:
        GenetsError: The folder is no study, or a file is damaged or of a newer version.
    """
    return StatusReader(folder).read()


class StatusReader:
    """Reads the status of a study again and again.

    The accuracy model is fitted for the frontier alone, and again only when a trial has ended or
    the latency tables have changed.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        self._frontier: tuple[object, tuple[FrontierPoint, ...]] = (None, ())

    def read(self) -> SearchStatus:
        """Read the study; see `read_status`."""
        for attempt in range(READ_ATTEMPTS):
            try:
                return self._read(time.time())
            except StudyError:
                if attempt == READ_ATTEMPTS - 1 or not StudyReader(self._folder).files.is_begun:
                    raise
                time.sleep(READ_PAUSE_S)
        raise AssertionError

    def _read(self, now: float) -> SearchStatus:
        study = StudyReader(self._folder)
        # First, so that the rest of the content is as new as the record.
        run = study.files.load_json(f"{layout.RUN}.json", RunRecord.from_json)
        snapshot = Snapshot.read(self._folder)
        state = _find_state(snapshot, run, now)
        is_running = state == "running"
        phases = list_phases(snapshot, run, is_running=is_running)
        selected = tuple(list_selected(snapshot))
        is_at_trials = is_running and run is not None and phase_of(run.phase) == "trials"
        rate = run.steps_per_second(now) if is_at_trials and run else None
        return SearchStatus(
            folder=self._folder,
            state=state,
            seen_at=None if run is None else run.seen_at,
            failure=snapshot.failure,
            run=run,
            phases=phases,
            trials_planned=snapshot.planned,
            trials_done=len(snapshot.results) - len(snapshot.failed),
            trials_failed=len(snapshot.failed),
            running=run.running if is_running and run else 0,
            trials_per_minute=None if rate is None else 60 * rate,
            seconds_left=_estimate_left(snapshot, phases, run, now),
            metric=snapshot.settings.metric,
            frontier=() if selected else self._read_frontier(snapshot),
            selected=selected,
            warnings=_last_warnings(self._folder / layout.LOG, snapshot.failure),
        )

    def _read_frontier(self, snapshot: Snapshot) -> tuple[FrontierPoint, ...]:
        latest = snapshot.latest
        tables = [each.table for each in snapshot.targets]
        key = (
            snapshot.settings, latest.number, latest.score, snapshot.results, latest.screened,
            snapshot.confirmed, tables,
        )  # fmt: skip
        if self._frontier[0] != key:
            self._frontier = key, tuple(list_frontier(snapshot))
        return self._frontier[1]


def _find_state(snapshot: Snapshot, run: RunRecord | None, now: float) -> SearchState:
    if run is None:
        return "unknown" if snapshot.missing() else "finished"
    if run.state == "running" and now - run.seen_at > SILENT_SECONDS:
        return "silent"
    return run.state


def _estimate_left(
    snapshot: Snapshot, phases: Sequence[PhaseStatus], run: RunRecord | None, now: float
) -> float | None:
    """The seconds that the running phase still takes.

    Trials, screened structures and candidates take as long as those that have ended; other steps
    as those of this run.
    """
    phase = current_phase(phases)
    if phase is None or run is None or phase.done is None or phase.total is None:
        return None
    missing = phase.total - phase.done
    ended: Sequence[TrialResult | TrainedCandidate] = ()
    if phase_of(phase.phase) == "trials":
        ended = snapshot.rounds[-1].results
    elif phase_of(phase.phase) == "screening":
        ended = snapshot.rounds[-1].screened
    elif phase_of(phase.phase) == "candidate training":
        ended = snapshot.confirmed
    seconds = [each.seconds for each in ended if each.status == "done"]
    if seconds and run.workers:
        return missing / min(run.workers, max(1, missing)) * sum(seconds) / len(seconds)
    made = run.done - run.phase_began_done
    return None if made <= 0 else missing / made * max(0.0, now - run.phase_began_at)


def _last_warnings(log: Path, failure: str | None) -> tuple[str, ...]:
    """The last warnings and errors in the log of a study, each once, with their times.

    failure: The sentence with which the last run stopped, which stands elsewhere.
    """
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - LOG_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ()
    texts: dict[str, str] = {}
    for line in lines:
        when, _, rest = line.partition(" ")
        level, _, rest = rest.partition(" ")
        if level in ("WARNING", "ERROR"):
            text = rest.partition(": ")[2]
            texts.pop(text, None)
            if text != failure:
                texts[text] = f"{when}: {text}"
    return tuple(texts.values())[-MAX_WARNINGS:]


def shown_change(status: SearchStatus) -> object:
    """A value that differs where a status says something new, but not at each step of a phase."""
    running = current_phase(status.phases)
    return (
        status.state, status.failure, running and running.phase,
        [each.state for each in status.phases], status.trials_done, status.trials_failed,
        [(each.trained is not None, each.is_winner) for each in status.selected],
        status.warnings,
    )  # fmt: skip
