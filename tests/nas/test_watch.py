"""A search seen from outside: its status at each stage, read without a trace in the folder."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from rounds_lab import SETTINGS, ClosedFormLaboratory, search, settings

import genets
from command_line import fails, invoke
from genets.cli import app, watch
from genets.core.errors import InfeasibleBudgetError, StudyError
from genets.core.progress import Progress
from genets.latency import LatencyTable
from genets.nas.accuracy.model import AccuracyModel
from genets.nas.latencies.calm import WAITING
from genets.nas.settings.settings import SearchSettings
from genets.nas.study import layout
from genets.nas.study.records import TrialResult
from genets.nas.study.study import Study
from genets.nas.study.trial_database import read_in_order
from genets.nas.watch.heartbeat import Heartbeat
from genets.nas.watch.phases import current_phase
from genets.nas.watch.run_record import MAX_TIMES, SILENT_SECONDS, RunRecord
from genets.nas.watch.status import SearchStatus, StatusReader
from genets.nas.workers.job import Workers
from genets.training.score import Metric
from json_keys import check_keys

STORED = Path(__file__).parents[1] / "data/stored_study"
ASKED = settings(rounds=1)


class Watched(ClosedFormLaboratory):
    """Reads the status of the study after so many trials or candidates, and stops the search."""

    def __init__(self, asked: SearchSettings, folder: Path, trials: int, candidates: int) -> None:
        super().__init__(asked)
        self.folder, self.trials, self.candidates = folder, trials, candidates
        self.seen: SearchStatus | None = None

    def run_trials(self, job: Any, groups: Sequence[Any], workers: Workers) -> Iterator[Any]:
        for number, result in enumerate(super().run_trials(job, groups, workers)):
            if number == self.trials:
                self._stop()
            yield replace(result, seconds=3.0)

    def train_candidates(self, job: Any, groups: Sequence[Any], workers: Workers) -> Iterator[Any]:
        for number, trained in enumerate(super().train_candidates(job, groups, workers)):
            if number == self.candidates:
                self._stop()
            yield trained

    def _stop(self) -> None:
        # The heartbeat writes every few seconds; the driver has come to this moment now.
        self.seen = read_until(self.folder, lambda status: current_phase(status.phases) is not None)
        raise KeyboardInterrupt


def read_until(folder: Path, is_seen: Any) -> SearchStatus:
    deadline = time.monotonic() + 30
    while not is_seen(status := genets.read_status(folder)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return status


def stopped(folder: Path, asked: SearchSettings, trials: int, candidates: int = 99) -> SearchStatus:
    """Run a search until it stops, and give its status from the moment before."""
    lab = Watched(asked, folder, trials, candidates)
    with pytest.raises(KeyboardInterrupt):
        search(asked, folder, lab)
    assert lab.seen is not None
    return lab.seen


def states(status: SearchStatus) -> dict[str, str]:
    return {each.phase: each.state for each in status.phases}


PHASES = ("latency table", "budget check", "MasterNet training", "trials", "selection",
          "candidate training", "final training", "export")  # fmt: skip


def states_until(running: str, state: str = "running") -> dict[str, str]:
    """All phases done before one, and waiting after it."""
    place = PHASES.index(running)
    return {name: "done" if number < place else state if number == place else "waiting"
            for number, name in enumerate(PHASES)}  # fmt: skip


def test_a_running_search_shows_phases_trials_and_the_predicted_frontier(tmp_path: Path) -> None:
    seen = stopped(tmp_path, ASKED, trials=7)
    assert (seen.state, seen.has_ended, seen.failure) == ("running", False, None)
    assert states(seen) == states_until("trials")
    assert (seen.trials_planned, seen.trials_done, seen.trials_failed) == (10, 7, 0)
    assert seen.run is not None
    assert (seen.run.process, seen.run.workers, seen.run.workers_on) == (
        os.getpid(), 1, "this machine",
    )  # fmt: skip
    assert seen.seconds_left == 3 * 3.0  # three more trials of 3 s on one worker
    assert seen.selected == ()
    latencies = [each.ms_per_image for each in seen.frontier]
    losses = [each.score for each in seen.frontier]
    assert latencies == sorted(latencies)
    assert losses == sorted(losses, reverse=True)
    assert [each.budgets for each in seen.frontier if each.budgets] == [("0.9x",)]
    assert all(
        each.low < each.score < each.high for each in seen.frontier if each.low and each.high
    )


def test_a_stopped_search_says_so_and_keeps_what_was_selected(tmp_path: Path) -> None:
    seen = stopped(tmp_path, ASKED, trials=99, candidates=1)
    assert states(seen) == states_until("candidate training")
    assert [(each.trained is not None, each.is_winner) for each in seen.selected] == [
        (True, False), (False, False),
    ]  # fmt: skip
    assert seen.frontier == ()
    after = genets.read_status(tmp_path)
    assert (after.state, after.has_ended) == ("stopped", True)
    assert states(after) == states_until("candidate training", "stopped")
    assert after.trials_per_minute is after.seconds_left is None


def test_the_end_of_a_search(tmp_path: Path) -> None:
    result = search(ASKED, tmp_path)
    status = genets.read_status(tmp_path)
    assert status.state == "finished"
    assert set(states(status).values()) == {"done"}
    (winner,) = [each for each in status.selected if each.is_winner]
    assert winner.candidate == result.selected
    assert {each.structure for each in result.confirmed} == {
        each.candidate.structure for each in status.selected
    }


def test_the_sentence_of_a_failed_search(tmp_path: Path) -> None:
    with pytest.raises(InfeasibleBudgetError) as caught:
        search(settings(budget="0.001x"), tmp_path)
    status = genets.read_status(tmp_path)
    assert (status.state, status.failure) == ("failed", str(caught.value))
    assert states(status) == states_until("budget check", "stopped")
    assert status.warnings == ()  # the sentence stands above


def test_each_budget_has_its_phases(tmp_path: Path) -> None:
    several = {name: value for name, value in SETTINGS.items() if name != "budget"}
    asked = SearchSettings(**several | {"rounds": 1, "budgets": ("0.9x", "0.8x", "0.001x")})
    search(asked, tmp_path)
    status = genets.read_status(tmp_path)
    assert status.state == "finished"
    refused = {phase for phase, state in states(status).items() if state == "refused"}
    assert refused == {f"{phase}, 0.001x" for phase in PHASES if phase not in (
        "latency table", "MasterNet training", "trials")}  # fmt: skip
    assert states(status)["selection, 0.8x"] == "done"
    assert {each.budget for each in status.selected if each.is_winner} == {"0.9x", "0.8x"}


def test_a_later_round_has_phases_of_its_own() -> None:
    status = genets.read_status(STORED)
    assert states(status)["trials, round 2"] == "done"
    assert (status.state, status.run) == ("finished", None)  # an older genets wrote the study


def edit_run(folder: Path, **changes: Any) -> None:
    file = folder / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_a_search_without_a_sign_of_life_does_not_run(tmp_path: Path) -> None:
    stopped(tmp_path, ASKED, trials=3)
    seen_at = time.time() - SILENT_SECONDS - 1
    edit_run(tmp_path, state="running", seen_at=seen_at)
    status = genets.read_status(tmp_path)
    assert (status.state, status.seen_at) == ("silent", seen_at)
    assert states(status) == states_until("trials", "stopped")
    (tmp_path / "run.json").unlink()
    assert genets.read_status(tmp_path).state == "unknown"


def test_a_search_that_runs_on_another_machine_is_not_begun_again(tmp_path: Path) -> None:
    """Its lock is not seen here, as on some network file systems."""
    stopped(tmp_path, ASKED, trials=3)
    edit_run(tmp_path, state="running", seen_at=time.time() - 60, host="node7", process=123)
    with pytest.raises(StudyError, match="in use by process 123 on node7, which wrote to it 60 s"):
        search(ASKED, tmp_path)
    before = {path: state for path, state in traces(tmp_path).items() if "lock" not in path}
    grown = settings(rounds=1, trials_per_super_block=ASKED.trials_per_super_block + 1)
    with pytest.raises(StudyError, match="in use by process 123"):
        search(grown, tmp_path)
    assert before.items() <= traces(tmp_path).items(), "more trials would remove results"
    edit_run(tmp_path, seen_at=time.time() - SILENT_SECONDS - 1)
    search(ASKED, tmp_path)


def test_keys_of_a_newer_genets_are_left_out(tmp_path: Path) -> None:
    stopped(tmp_path, ASKED, trials=3)
    edit_run(tmp_path, added_later=1)
    assert genets.read_status(tmp_path).state == "stopped"


def traces(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Each file and folder with its inode, size and time of change."""
    paths = [folder, *folder.rglob("*")]
    return {str(path): (path.stat().st_ino, path.stat().st_size, path.stat().st_mtime_ns)
            for path in paths}  # fmt: skip


def test_reading_leaves_no_trace(tmp_path: Path) -> None:
    """Neither beside a driver that holds the study, nor in a study that nobody uses."""
    stopped(tmp_path, ASKED, trials=4)
    for path in tmp_path.glob("trials.sqlite-*"):
        path.unlink()
    before = traces(tmp_path)
    assert genets.read_status(tmp_path).trials_done == 4
    assert traces(tmp_path) == before
    with Study.open(tmp_path) as study:
        study.record(replace(study.results()[0], trial=replace(study.results()[0].trial, repeat=9)))
        before = traces(tmp_path)
        assert genets.read_status(tmp_path).trials_done == 5
        assert traces(tmp_path) == before


def test_trials_are_read_while_they_are_written(tmp_path: Path) -> None:
    """Also while SQLite moves its log into the database, or both are replaced."""
    stopped(tmp_path, ASKED, trials=4)
    with Study.open(tmp_path) as study:
        known = study.results()[0]
    ended = threading.Event()

    def write() -> None:
        for repeat in range(100, 160):
            with Study.open(tmp_path) as study:
                study.record(replace(known, trial=replace(known.trial, repeat=repeat)))
        ended.set()

    writer = threading.Thread(target=write)
    writer.start()
    counts = []
    while not ended.is_set():
        counts.append(len(read_in_order(tmp_path / "trials.sqlite")))
    writer.join()
    assert counts == sorted(counts)
    assert len(read_in_order(tmp_path / "trials.sqlite")) == 4 + 60


@pytest.mark.parametrize("content", ["", "{", '{"state": "asleep"}', "[]"])
def test_a_damaged_record_is_named(tmp_path: Path, content: str) -> None:
    folder = Path(shutil.copytree(STORED, tmp_path / "study"))
    (folder / "run.json").write_text(content)
    with pytest.raises(StudyError, match=r"run\.json is damaged"):
        genets.read_status(folder)


def test_a_half_written_record_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(STORED, tmp_path / "study"))
    (folder / "run.json").write_text('{"state": "fini')
    complete = json.dumps(RunRecord(state="finished").to_json())
    monkeypatch.setattr(time, "sleep", lambda _: (folder / "run.json").write_text(complete))
    assert genets.read_status(folder).state == "finished"


def test_a_half_written_latency_table_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(STORED, tmp_path / "study"))
    (table,) = layout.list_tables(folder / layout.LATENCY)
    complete = table.read_text()
    table.write_text(complete[: len(complete) // 2])
    monkeypatch.setattr(time, "sleep", lambda _: None)
    with pytest.raises(StudyError, match=rf"{table.name} is damaged"):
        genets.read_status(folder)
    monkeypatch.setattr(time, "sleep", lambda _: table.write_text(complete))
    assert genets.read_status(folder).phases


def test_the_rate_is_that_of_the_last_steps() -> None:
    record = RunRecord().with_step(Progress("trials", 5, 100), 1000.0)  # 5 of an earlier run
    assert record.steps_per_second(1010.0) is None
    record = record.with_step(Progress("trials", 9, 100), 1020.0)  # a group of four
    assert record.steps_per_second(1040.0) == 4 / 40
    for number in range(10, 80):
        record = record.with_step(Progress("trials", number, 100), 2000.0 + number)
    assert len(record.step_times) == MAX_TIMES
    assert record.steps_per_second(2079.0) == pytest.approx(1.0)
    again = record.with_step(Progress("selection", 0, 4), 3000.0)
    assert (again.phase_began_at, again.phase_began_done, again.step_times) == (3000.0, 0, ())
    assert RunRecord.from_json(json.loads(json.dumps(record.to_json()))) == record


def test_the_heart_beats_while_a_step_takes_long(tmp_path: Path) -> None:
    steps: list[Progress] = []
    with Study.create_or_resume(tmp_path, ASKED) as study:
        with Heartbeat(study, steps.append, seconds=0.001) as heartbeat:
            heartbeat.step(Progress("trials", 0, 10))
            first = read_run(tmp_path, lambda run: run.phase == "trials").seen_at
            assert read_run(tmp_path, lambda run: run.seen_at > first).state == "running"
            heartbeat.step(Progress(WAITING, 3, 60, "other processes use 2.0 CPUs"))
            waits = read_run(tmp_path, lambda run: run.waiting)
            assert (waits.phase, waits.waiting) == ("trials", "other processes use 2.0 CPUs")
            heartbeat.step(Progress(WAITING, 60, 60, "calm"))
            assert read_run(tmp_path, lambda run: not run.waiting).phase == "trials"
        assert read_run(tmp_path, lambda _: True).state == "finished"
    assert [each.phase for each in steps] == ["trials", WAITING, WAITING]


def read_run(folder: Path, is_seen: Any) -> RunRecord:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        record = RunRecord.from_json(json.loads((folder / "run.json").read_text()))
        if is_seen(record):
            return record
        time.sleep(0.002)
    raise AssertionError("the record does not come")


def test_a_record_that_cannot_be_written_stops_no_search(tmp_path: Path) -> None:
    with Study.create_or_resume(tmp_path / "study", ASKED) as study, Heartbeat(study) as heartbeat:
        shutil.rmtree(tmp_path / "study")
        heartbeat.step(Progress("trials", 1, 10))
    assert not (tmp_path / "study").exists()


def test_the_command_prints_json_once(tmp_path: Path) -> None:
    stopped(tmp_path, ASKED, trials=7)
    edit_run(tmp_path, state="running", seen_at=time.time() + 1000)  # a clock that is ahead
    result = invoke("search", "--watch", tmp_path, "--json")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    check_keys("search --watch", record)
    assert record["state"] == "running"
    assert record["trials"] == {"planned": 10, "done": 7, "failed": 0}
    result = invoke("search", "--watch", STORED, "--json")
    check_keys("search --watch, selected", json.loads(result.stdout))


def test_the_command_prints_the_end_and_returns(tmp_path: Path) -> None:
    search(ASKED, tmp_path)
    result = invoke("search", "--watch", tmp_path)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"{tmp_path}: The search has finished.")
    for words in ("Trials: 10 of 10 done.", "candidate training", "winner"):
        assert words in result.stdout


class Readings:
    """Gives statuses or raises errors, one after the other."""

    def __init__(self, *readings: Any) -> None:
        self.readings = list(readings)

    def __call__(self, folder: Path) -> Readings:
        return self

    def read(self) -> SearchStatus:
        reading = self.readings.pop(0)
        if isinstance(reading, BaseException):
            raise reading
        assert isinstance(reading, SearchStatus)
        return reading


def status(state: Any = "running", trials: int = 0, left: float = 9.0) -> SearchStatus:
    return SearchStatus(
        Path("study"), state, time.time(), None, RunRecord(workers=2, workers_on="this machine"),
        (), 20, trials, 0, 2, 3.0, left, Metric.TOP1, (), (), (),
    )  # fmt: skip


def watched(monkeypatch: pytest.MonkeyPatch, *readings: Any) -> Any:
    monkeypatch.setattr("genets.nas.watch.status.StatusReader", Readings(*readings))
    return invoke("search", "--watch", "study", "--interval", "0.001")


def test_without_a_terminal_a_block_is_printed_for_each_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    result = watched(
        monkeypatch, status(), status(left=8.0), status(trials=4), StudyError("half written"),
        status(trials=4, left=2.0), status("finished", 20),
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    blocks = [line for line in result.stdout.splitlines() if line.startswith("Trials:")]
    assert blocks == [f"Trials: {n} of 20 done, 3 per minute." for n in (0, 4, 20)]
    assert "2 workers on this machine; in training now: 2 networks." in result.stdout


def test_ctrl_c_ends_a_watch_well(monkeypatch: pytest.MonkeyPatch) -> None:
    result = watched(monkeypatch, status(), KeyboardInterrupt())
    assert result.exit_code == 0, result.output


def test_a_study_that_stays_unreadable_ends_the_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    faults = [StudyError("the folder is gone")] * watch.MAX_FAULTS
    result = watched(monkeypatch, status(), *faults)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == "genets: the folder is gone"


def test_every_other_option_is_refused_also_with_its_usual_value() -> None:
    group: Any = typer.main.get_command(app)
    context = group.commands["search"].make_context("search", [], resilient_parsing=True)
    params = [each for each in context.command.get_params(context)
              if each.name not in ("watch", "interval", "json", "help")]  # fmt: skip
    assert {"out", "budget", "precision", "ray_gpus", "wait"} < {each.name for each in params}
    for each in params:
        choice = each.metavar.split("|")[0] if "|" in (each.metavar or "") else "1"
        words = (each.opts[0], *([] if each.is_flag else [choice] * each.nargs))
        result = invoke("search", "--watch", STORED, *words)
        fails(result, "--watch only reads a study", "leave out the other options")


def test_wrong_uses_are_refused(tmp_path: Path) -> None:
    fails(invoke("search", "--watch", tmp_path / "none"), "is not a study folder")
    fails(invoke("search", "--watch", tmp_path, "--json"), "is not a study folder")
    words = ("search", "--watch", STORED)
    for seconds in ("0", "nan", "-1"):
        fails(invoke(*words, "--interval", seconds), "--interval must be above 0 and finite")
    result = invoke("search", "--budget", "0.5x")
    assert (result.exit_code, "Missing option '--out'" in result.stderr) == (2, True)
    folder = Path(shutil.copytree(STORED, tmp_path / "newer"))
    (folder / "format.json").write_text('{"version": 2}')
    fails(invoke("search", "--watch", folder), "has format version 2, and this genets reads")


class Fits:
    """Counts the fits of accuracy models."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self._fit = AccuracyModel.fit
        monkeypatch.setattr(AccuracyModel, "fit", self)

    def __call__(self, *arguments: Any, **options: Any) -> AccuracyModel:
        self.count += 1
        return self._fit(*arguments, **options)


def test_the_accuracy_model_is_fitted_once_for_the_same_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped(tmp_path, ASKED, trials=7)
    fits, reader = Fits(monkeypatch), StatusReader(tmp_path)
    with Study.open(tmp_path) as study:
        first = reader.read().frontier
        assert reader.read().frontier == first != ()
        assert fits.count == 1
        known = study.results()[0]
        failed = TrialResult(replace(known.trial, repeat=9), "failed", reason="memory ran out")
        study.record(failed)
        assert reader.read().frontier == first  # a failed trial is left out of the fit
        assert fits.count == 2
        study.record(replace(known, trial=failed.trial, cross_entropy=0.1))  # the trial again
        assert reader.read().frontier != first
        assert fits.count == 3
        study.save_json(layout.RUN, {"state": "running"})
        assert reader.read().run is not None
        assert fits.count == 3


def test_no_accuracy_model_is_fitted_once_structures_are_selected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped(tmp_path, ASKED, trials=99, candidates=1)
    fits = Fits(monkeypatch)
    assert genets.read_status(tmp_path).selected != ()
    assert fits.count == 0


def test_a_new_latency_table_gives_a_new_frontier(tmp_path: Path) -> None:
    stopped(tmp_path, ASKED, trials=7)
    reader = StatusReader(tmp_path)
    first = reader.read().frontier
    (path,) = layout.list_tables(tmp_path / layout.LATENCY)
    table = LatencyTable.load(path)
    replace(table, timed_ms={probe: 2 * ms for probe, ms in table.timed_ms.items()}).save(path)
    assert reader.read().frontier != first
