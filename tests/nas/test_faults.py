"""The end of a search says what went wrong: lost workers, and why trainings failed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from rounds_lab import ClosedFormLaboratory, search, settings

from command_line import invoke
from genets.core.errors import StudyError, WorkersError
from genets.nas.faults import MAX_FAULTS, describe_faults, study_faults
from genets.nas.snapshot import Snapshot
from genets.nas.study import study as study_module
from genets.nas.study.records import Fault, TrainedCandidate, Trial, TrialResult
from genets.nas.study.study import Study
from genets.nas.study.trial_database import read_in_order
from genets.report.study.facts import study_record

STORED = Path(__file__).parents[1] / "data/stored_study"
MASTER = settings().structure
DEATH = "a worker process died (it was killed) while it ran 4 trainings"


class Unlucky(ClosedFormLaboratory):
    """A worker dies, a trial fails, and then the search stops, if it shall."""

    def __init__(self, stops: bool) -> None:
        super().__init__(settings(rounds=1))
        self.stops = stops

    def run_trials(self, job: Any, groups: Sequence[Any], workers: Any) -> Iterator[Any]:
        if self.stops:
            workers.monitor.report_fault(DEATH)
            first, *_ = super().run_trials(job, groups, workers)
            yield TrialResult(first.trial, "failed", reason="the loss became NaN")
            raise KeyboardInterrupt
        yield from super().run_trials(job, groups[1:], workers)
        first, *_ = super().run_trials(job, groups, workers)
        yield TrialResult(first.trial, "failed", reason="out of memory")


def test_a_continued_search_knows_the_faults_of_earlier_runs(tmp_path: Path) -> None:
    asked = settings(rounds=1)
    with pytest.raises(KeyboardInterrupt):
        search(asked, tmp_path, Unlucky(stops=True))
    result = search(asked, tmp_path, Unlucky(stops=False))
    (death,) = [each for each in result.warnings if DEATH in each]
    assert death.startswith("on 2")
    (failed,) = [each for each in result.warnings if "out of memory" in each]
    assert failed.startswith("1 trial failed (out of memory): ")
    assert not any("NaN" in each for each in result.warnings)  # it was tried again
    assert death in json.loads(result.files["result"].read_text())["warnings"]
    assert death in study_record(Snapshot.read(tmp_path))["warnings"]
    faults = study_faults(Snapshot.read(tmp_path))
    assert [each for each in result.warnings if each in faults] == [death, failed]


class Vanishing(ClosedFormLaboratory):
    """The folder of the study disappears while trials run, after the first result."""

    def __init__(self, folder: Path, place: Path) -> None:
        super().__init__(settings(rounds=1))
        self.folder, self.place = folder, place

    def run_trials(self, *asked: Any) -> Iterator[Any]:
        for number, result in enumerate(super().run_trials(*asked)):
            if number == 1:
                self.folder.rename(self.place)
            yield result


def test_a_study_folder_that_disappears_ends_the_search(tmp_path: Path) -> None:
    folder, place = tmp_path / "study", tmp_path / "elsewhere"
    with pytest.raises(StudyError, match=r"trials\.sqlite is gone"):
        search(settings(rounds=1), folder, Vanishing(folder, place))
    assert not folder.exists()
    kept = read_in_order(place / "trials.sqlite")
    assert len(kept) >= 1
    place.rename(folder)
    search(settings(rounds=1), folder)
    assert read_in_order(folder / "trials.sqlite")[: len(kept)] == kept


def failed(number: int, reason: str) -> TrialResult:
    return TrialResult(Trial(0, MASTER.stage(0), number), "failed", reason=reason)


def test_failures_are_listed_by_their_reasons() -> None:
    results = [*(failed(n, "out of memory") for n in range(7)), failed(7, "the loss became NaN")]
    candidate = TrainedCandidate(MASTER, "failed", 3, reason="its worker died 2 times (killed)")
    name = f"{MASTER.stage(0)} in super-block 1"
    assert describe_faults([], results, [], [candidate], MASTER) == [
        f"7 trials failed (out of memory): {', '.join([name] * 5)} and 2 more",
        f"1 trial failed (the loss became NaN): {name}",
        f"1 candidate failed (its worker died 2 times (killed)): {MASTER}",
    ]


def test_of_many_faults_the_last_ones_are_listed() -> None:
    faults = [Fault(60.0 * number, f"worker {number} died") for number in range(30)]
    sentences = describe_faults(faults, [], [], [], MASTER)
    assert sentences[0] == "30 faults were recorded; the last 10 are listed here"
    assert sentences[-1] == "on 1970-01-01 at 00:29 UTC, worker 29 died"
    assert len(sentences) == 1 + MAX_FAULTS


def test_a_study_keeps_the_last_faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_module, "MAX_FAULTS", 2)
    with Study.create_or_resume(tmp_path, settings()) as study:
        for number in range(3):
            study.add_fault(f"worker {number} died")
        assert [each.sentence for each in study.faults()] == ["worker 1 died", "worker 2 died"]
        (tmp_path / "faults.json").write_text('[{"time": 0.0, "sentence": "old"}]')
        assert study.faults() == [Fault(0.0, "old")], "of an older genets"
    (tmp_path / "faults.json").write_text('[{"time": "noon"}]')
    with pytest.raises(StudyError, match=r"faults\.json is damaged"):
        Snapshot.read(tmp_path)


def test_a_structure_that_fails_for_two_budgets_is_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search that is stopped says the same as a search that ends."""
    asked = settings(rounds=1, budget=None, budgets=("0.9x", "0.8x"))
    record = [TrainedCandidate(MASTER, "failed", 3, reason="memory ran out").to_json()]

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with Study.create_or_resume(tmp_path, asked) as study:
        for each in study.each_budget():
            each.save_json("confirmed", record)
    monkeypatch.setattr("genets.nas.search.run_search", stop)
    result = invoke("search", "--out", tmp_path)
    assert "1 candidate failed (memory ran out): " in result.stderr


@pytest.mark.parametrize(
    ("end", "status", "last"),
    [
        (KeyboardInterrupt(), 130, "genets: stopped"),
        (WorkersError("no room"), 2, "genets: no room"),
    ],
)
def test_a_search_without_a_result_says_what_happened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: BaseException, status: int, last: str
) -> None:
    folder = Path(shutil.copytree(STORED, tmp_path / "study"))
    (folder / "faults.json").write_text(json.dumps([Fault(0.0, DEATH).to_json()]))

    def stop(*_: object, **__: object) -> None:
        raise end

    monkeypatch.setattr("genets.nas.search.run_search", stop)
    result = invoke("search", "--out", folder)
    assert result.exit_code == status
    assert f"warning: on 1970-01-01 at 00:00 UTC, {DEATH}" in result.stderr
    assert result.stderr.splitlines()[-1] == last
