"""The search from end to end, on the real digits, with a network as small as can be.

Latencies are those of a closed form: on a busy machine, measuring would take minutes and could
give another winner. `test_own_blocks_search.py` measures.
"""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rounds_lab
import torch
from rounds_lab import ClosedFormLatency
from small_networks import TINY

import genets
from genets.core.errors import (
    DataError,
    GenetsError,
    InfeasibleBudgetError,
    SettingsError,
    StudyError,
    TargetError,
)
from genets.core.progress import Progress
from genets.data import DigitsSplit
from genets.nas import search as nas_search
from genets.nas.context import SearchContext
from genets.nas.laboratory import Laboratory
from genets.nas.phase_names import PHASES
from genets.nas.reselect import select_top
from genets.nas.result import SearchResult
from genets.nas.search import run_search
from genets.nas.selection.alternatives import block_types
from genets.nas.settings.settings import SearchSettings
from genets.nas.study import layout
from genets.nas.study.records import TrainedCandidate, TrialResult
from genets.nas.study.study import Study
from genets.nas.workers.job import Workers
from genets.nas.workers.local import LocalWorkers

SETTINGS: dict[str, Any] = {
    "from_scratch": True,
    "data": "digits",
    "budget": "5x",
    "master": str(TINY),
    "space": {"blocks": ["XX3", "DW3r3"], "depth_change": 1},
    "target": {"batch_size": 8, "threads": 1},
    "trials_per_super_block": 2,
    "controls_per_super_block": 2,
    "table_seconds": 0.5,
    "measure_seconds": 0.3,
    "master_training": {"epochs": 8, "learning_rate": 1.2},
    "trial_training": {"epochs": 1},
    "final_training": {"epochs": 2},
    "confirm": 2,
    "confirm_epochs": 1,
}


Finished = tuple[Path, SearchResult, list[Progress]]
Reads = set[tuple[str, str]]  # the purposes of splits, and the phases in which they were read


class Exporting(ClosedFormLatency):
    """Exports an ONNX file as well."""

    export = Laboratory.export


class Idle(Exporting):
    """Trains nothing: a test fails where a network is trained."""

    def train(self, *_: Any, **__: Any) -> None:
        pytest.fail("trained")


def settings(**changes: Any) -> SearchSettings:
    return SearchSettings(**{**SETTINGS, **changes})


@pytest.fixture(scope="module")
def reads() -> Reads:
    """The passes over splits in the search of `finished`, which fills it."""
    return set()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, reads: Reads) -> Finished:
    folder = tmp_path_factory.mktemp("runs") / "study"
    events: list[Progress] = []
    batches = DigitsSplit.batches

    def noted(self: DigitsSplit, *arguments: Any, **options: Any) -> Any:
        reads.add((self.purpose, events[-1].phase if events else ""))
        return batches(self, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DigitsSplit, "batches", noted)
        lab = Exporting(settings())
        result = run_search(settings(), folder, workers=1, on_event=events.append, lab=lab)
    return folder, result, events


@pytest.fixture
def lab() -> Laboratory:
    """Latencies are formulas, so a busy machine has no effect."""
    return ClosedFormLatency(settings())


def test_the_result_meets_the_budget(finished: Finished) -> None:
    _, result, _ = finished
    selected = result.selected
    assert selected.low_ms <= selected.measured_ms <= selected.high_ms <= selected.budget_ms
    assert selected.budget_ms == pytest.approx(5 * selected.master_ms, rel=0.2)
    assert (result.trials_done, result.trials_failed) == (8, 0)
    assert 0.2 < result.master["top1"] <= 1


def test_the_exported_files_belong_to_one_network(finished: Finished) -> None:
    import onnxruntime

    folder, result, _ = finished
    net = genets.load(folder / "results")
    assert genets.Structure.load(result.files["structure"]) == result.selected.structure
    images = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    session = onnxruntime.InferenceSession(result.files["onnx"])
    (logits,) = session.run(["logits"], {"images": images.numpy()})
    with torch.inference_mode():
        np.testing.assert_allclose(logits, net(images).numpy(), atol=1e-4)
    record = json.loads(result.files["result"].read_text())
    assert record["winner"] == result.winner.to_json()
    assert {name: folder / path for name, path in record["files"].items()} == result.files
    assert record["folder"] == "."
    assert record["input"]["shape"] == ["N", 3, 8, 8]
    assert len(record["input"]["class_names"]) == 10


def test_every_phase_reports_its_progress_to_the_end(
    finished: Finished,
) -> None:
    _, _, events = finished
    last = {event.phase: event for event in events}
    assert set(last) == set(PHASES) - {"screening"}
    assert all(event.done == event.total for event in last.values()), last


def test_a_finished_study_gives_the_same_result_at_once(
    finished: Finished,
) -> None:
    folder, result, _ = finished
    weights = genets.load(folder / "results").state_dict()
    again = run_search(settings(), folder, workers=1, lab=Idle(settings()))
    assert again.selected == result.selected
    assert again.winner == result.winner
    for name, tensor in genets.load(folder / "results").state_dict().items():
        assert torch.equal(tensor, weights[name]), name


def test_a_finished_study_is_not_refused(
    finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newer genets may measure the fastest structure above the budget."""

    def refuse(context: SearchContext) -> None:
        raise InfeasibleBudgetError("refused")

    monkeypatch.setattr(nas_search, "check_feasible", refuse)
    folder, result, _ = finished
    assert run_search(settings(), folder, workers=1, lab=Idle(settings())).winner == result.winner
    with pytest.raises(InfeasibleBudgetError):
        run_search(settings(), folder.parent / "new", workers=1, lab=Idle(settings()))


def test_a_finished_study_that_lost_its_masternet_gives_its_result(
    finished: Finished, tmp_path: Path
) -> None:
    folder, result, _ = finished
    copied = Path(shutil.copytree(folder, tmp_path / "study"))
    (copied / "master.safetensors").unlink()
    again = run_search(settings(), copied, workers=1, lab=Idle(settings()))
    assert again.to_record() | {"seconds": 0} == result.to_record() | {"seconds": 0}
    assert not (copied / "master.safetensors").exists()


def test_other_settings_are_refused_with_the_difference(
    finished: Finished,
) -> None:
    with pytest.raises(StudyError, match="budget: 5x in the study, 4x asked"):
        run_search(settings(budget="4x"), finished[0])


def test_select_for_another_budget_trains_no_network(finished: Finished) -> None:
    folder, result, _ = finished
    times = (folder / "seconds.json").read_text()
    (other,) = select_top(folder, f"{2 * result.selected.budget_ms}ms", 1, lab=Idle(settings()))
    assert (folder / "seconds.json").read_text() == times, "those of the search"
    assert other.high_ms <= other.budget_ms == pytest.approx(2 * result.selected.budget_ms)
    with pytest.raises(InfeasibleBudgetError, match="no structure of the design space meets"):
        select_top(folder, "1e-9ms", 1, lab=Idle(settings()))


def test_alternatives_need_no_training(finished: Finished) -> None:
    folder, result, _ = finished
    budget = f"{4 * result.selected.budget_ms}ms"
    found = select_top(folder, budget, 2, lab=Idle(settings()))
    assert len({block_types(selected.structure) for selected in found}) == 2
    assert all(selected.high_ms <= selected.budget_ms for selected in found)
    with pytest.raises(GenetsError, match="top must be at least 1, not 0"):
        select_top(folder, budget, 0)


class TrialProcesses(ClosedFormLatency):
    """Runs trials in the processes of the workers, and candidates in this process."""

    def train_candidates(
        self, job: Any, groups: Any, workers: Workers
    ) -> Iterator[TrainedCandidate]:
        return super().train_candidates(job, groups, LocalWorkers(1))


def test_only_missing_trials_are_run(finished: Finished, tmp_path: Path) -> None:
    """The study is as after a kill. Two worker processes give the scores of one process."""
    folder = tmp_path / "study"
    shutil.copytree(finished[0], folder)
    for name in ("candidates.json", "confirmed.json", "selected.json", "winner.safetensors"):
        (folder / name).unlink()
    shutil.rmtree(folder / "results")
    with sqlite3.connect(folder / "trials.sqlite") as database:
        rows = database.execute("SELECT * FROM trials ORDER BY 1, 2, 3").fetchall()
        database.execute("DELETE FROM trials WHERE repeat = 1 OR super_block = 0")
        database.commit()
    result = run_search(settings(), folder, workers=2, lab=TrialProcesses(settings()))
    with sqlite3.connect(folder / "trials.sqlite") as database:
        again = database.execute("SELECT * FROM trials ORDER BY 1, 2, 3").fetchall()
    assert [row[:4] for row in again] == [row[:4] for row in rows]
    for old, new in zip(rows, again, strict=True):
        assert new[4:6] == pytest.approx(old[4:6], rel=1e-3), old
        assert (new[6] == old[6]) == (old[2] == 0 and old[0] == 1), (
            "the seconds show which trials were run again"
        )
    assert result.selected.structure == finished[1].selected.structure


def test_a_finished_study_takes_more_trials(finished: Finished, tmp_path: Path) -> None:
    """Finished trials stay, and trained and measured networks are used again."""
    folder = tmp_path / "study"
    shutil.copytree(finished[0], folder)
    query = "SELECT * FROM trials ORDER BY rowid"
    with sqlite3.connect(folder / "trials.sqlite") as database:
        rows = database.execute(query).fetchall()
    lab = ClosedFormLatency(settings())
    result = run_search(settings(trials_per_super_block=4), folder, workers=1, lab=lab)
    with sqlite3.connect(folder / "trials.sqlite") as database:
        again = database.execute(query).fetchall()
    assert again[: len(rows)] == rows
    assert (len(rows), len(again), result.trials_done) == (8, 12, 12)
    assert json.loads((folder / "results" / "result.json").read_text())["trials_done"] == 12
    trained = {each.structure: each for each in finished[1].confirmed}
    for candidate in result.confirmed:
        assert trained.get(candidate.structure, candidate) == candidate
    with pytest.raises(StudyError, match="trials_per_super_block: 4 in the study, 2 asked"):
        run_search(settings(), folder)


def test_a_finished_search_that_is_given_again_does_nothing(
    finished: Finished, tmp_path: Path
) -> None:
    """Least of all to the exported network."""
    folder = tmp_path / "study"
    shutil.copytree(finished[0], folder)

    def exported() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in (folder / "results").iterdir()}

    before = exported()
    result = run_search(settings(), folder, lab=Idle(settings()))
    assert (result.selected, result.winner) == (finished[1].selected, finished[1].winner)
    assert exported() == before


@pytest.mark.parametrize(
    "name", ["winner.safetensors", "selected.json", "results/test.json", "results/structure.toml"]
)
def test_a_finished_search_makes_a_lost_file_again(
    finished: Finished, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "study"
    shutil.copytree(finished[0], folder)
    (folder / name).unlink()
    result = run_search(settings(), folder, lab=ClosedFormLatency(settings()))
    assert (folder / name).exists()
    assert result.selected.structure == finished[1].selected.structure


@pytest.mark.usefixtures("finished")
def test_only_the_export_reads_the_test_split(reads: Reads) -> None:
    assert {phase for purpose, phase in reads if purpose == "test"} == {"export"}
    assert {phase for purpose, phase in reads if purpose == "train"} >= {"trials", "final training"}


def test_an_infeasible_budget_is_refused_before_the_first_training(tmp_path: Path) -> None:
    lab = Idle(settings())
    with pytest.raises(InfeasibleBudgetError) as caught:
        run_search(settings(budget="0.0001x"), tmp_path, lab=lab)
    assert caught.value.fastest is not None
    failure = json.loads((tmp_path / "failure.json").read_text())
    assert failure == {"sentence": str(caught.value)}
    assert "give a larger budget, which continues this study" in failure["sentence"]
    with pytest.raises(StudyError, match="seed: 0 in the study, 1 asked"):
        run_search(settings(budget="5x", seed=1), tmp_path)
    with pytest.raises(pytest.fail.Exception, match="trained"):  # the search continues
        run_search(settings(budget="5x"), tmp_path, lab=lab)
    assert SearchSettings.from_toml((tmp_path / "study.toml").read_text()).budget == "5x"


class WithoutDW(ClosedFormLatency):
    """Trials of DW fail, except control trials."""

    def run_trials(self, job: Any, groups: Any, workers: Workers) -> Iterator[TrialResult]:
        for trial in [trial for group in groups for trial in group]:
            if trial.super_block.type == "DW" and not trial.is_control(job.master):
                yield TrialResult(trial, "failed", reason="out of memory")
            else:
                yield TrialResult(trial, "done", 0.5, 1.5)


def test_a_failed_trial_is_recorded_and_left_out(tmp_path: Path) -> None:
    result = run_search(settings(), tmp_path, workers=1, lab=WithoutDW(settings()))
    assert result.trials_failed == 2
    assert any("2 of 8 trials failed" in warning for warning in result.warnings)


def test_a_master_that_did_not_learn_stops_the_search(tmp_path: Path, lab: Laboratory) -> None:
    slow = {"epochs": 1, "learning_rate": 1e-9, "warmup_epochs": 0}
    with pytest.raises(GenetsError, match=r"did not learn: .* guessing gives 10\.0%"):
        run_search(settings(master_training=slow), tmp_path, lab=lab)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"data": "digitz"}, DataError),
        (
            {
                "space": {"blocks": ["XX3"], "depth_change": 0, "width_range": (1, 1)},
                "master": "Conv3x8s2 XX3x8s2 XX3x16 Conv1x16 @8",
            },
            SettingsError,
        ),
        ({"target": {"device": "cuda:7"}}, TargetError),
    ],
)
def test_a_wrong_setting_leaves_no_study(
    tmp_path: Path, changes: dict[str, Any], error: type[GenetsError]
) -> None:
    with pytest.raises(error):
        run_search(settings(**changes), tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_changed_images_are_refused(finished: Finished, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    shutil.copytree(finished[0], folder)
    record = json.loads((folder / "data.json").read_text())
    (folder / "data.json").write_text(json.dumps(record | {"train": 999}))
    with pytest.raises(
        StudyError, match=r"images in digits have changed .*train: 999 in the study, 1078 now"
    ):
        run_search(settings(), folder)


@pytest.mark.parametrize("name", ["master", "selected", "data", "seconds", "confirmed"])
@pytest.mark.parametrize("content", ["[]", '{"foo": 1}', "{"])
def test_a_damaged_file_is_one_sentence(
    finished: Finished, tmp_path: Path, name: str, content: str
) -> None:
    folder = tmp_path / "study"
    shutil.copytree(finished[0], folder)
    (folder / f"{name}.json").write_text(content)
    (folder / "results" / "result.json").unlink()  # otherwise the search has ended
    if (name == "seconds" and content != "{") or (name == "confirmed" and content == "[]"):
        run_search(settings(), folder, lab=ClosedFormLatency(settings()))
        return
    with pytest.raises(StudyError):
        run_search(settings(), folder, lab=ClosedFormLatency(settings()))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", r"is damaged \(.*\); remove (\S*latency) to have it measured here"),
        (
            '{"version": 1}',
            r"has format version 1, [^;]*; move it away, or use .* wrote it",
        ),
    ],
)
def test_the_message_of_a_damaged_latency_table_says_what_to_do(
    tmp_path: Path, content: str, message: str
) -> None:
    study = Study.create_or_resume(tmp_path / "study", settings())
    with study:
        context = SearchContext(study, 10)
        table = layout.table_path(study.latency_folder, context.target.name)
        table.parent.mkdir(exist_ok=True)
        table.write_text(content)
        with pytest.raises(StudyError) as error:
            context.latency  # noqa: B018
    assert re.fullmatch(rf"{re.escape(str(table))} {message}", str(error.value))


@pytest.mark.parametrize("workers", [0, -1])
def test_workers_are_at_least_one(tmp_path: Path, workers: int) -> None:
    with pytest.raises(GenetsError, match=f"workers must be at least 1, not {workers}"):
        run_search(settings(), tmp_path / "study", workers=workers)
    assert not (tmp_path / "study").exists()


def test_a_search_with_the_regression_of_the_paper(tmp_path: Path) -> None:
    asked = rounds_lab.settings(rounds=1, regression="paper", selection="random")
    result = rounds_lab.search(asked, tmp_path)
    assert result.selected.predicted_accuracy_std is None
