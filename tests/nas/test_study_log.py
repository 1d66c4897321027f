"""What a study keeps of its runs: the log, the time of phases, the format version, the warnings."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rounds_lab import ClosedFormLaboratory, search, settings

from genets.core.errors import InfeasibleBudgetError, StudyError
from genets.core.progress import Progress
from genets.nas.context import SearchContext
from genets.nas.laboratory import Laboratory
from genets.nas.reselect import select_top
from genets.nas.result import SearchResult
from genets.nas.snapshot import Snapshot
from genets.nas.study.reader import load_settings
from genets.nas.study.study import Study
from genets.nas.warnings import list_warnings
from genets.nas.workers.job import Workers
from genets.report.study.facts import study_record


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    folder = tmp_path_factory.mktemp("runs") / "study"
    return search(settings(rounds=1), folder, Noisy())


class Noisy(ClosedFormLaboratory):
    """No interval is narrow enough."""

    def _measurement(self, structure: Any, target: Any) -> Any:
        return replace(super()._measurement(structure, target), noisy=True)


def read_log(folder: Path) -> str:
    return (folder / "study.log").read_text()


def test_the_log_has_settings_phases_times_and_warnings(finished: SearchResult) -> None:
    log = read_log(finished.folder)
    for text in ("setting budget = 0.9x", "setting target.batch_size = 8", "trials: started",
                 f"winner: {finished.selected.structure}"):  # fmt: skip
        assert log.count(text) == 1, text
    for phase in finished.seconds:
        assert f"{phase}: ended after " in log, phase
    assert finished.warnings
    for warning in finished.warnings:
        assert f"WARNING genets.nas.search: {warning}\n" in log


def test_the_log_of_every_run_is_kept(finished: SearchResult, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished.folder, tmp_path / "copy"))
    before = read_log(folder)
    (selected,) = select_top(folder, "0.8x", 1, lab=Noisy())
    after = read_log(folder)
    assert after.startswith(before)
    assert f"selected: {selected.structure}, " in after[len(before) :]


def test_the_reason_of_a_failure_is_in_the_log(tmp_path: Path) -> None:
    with pytest.raises(InfeasibleBudgetError) as caught:
        search(settings(budget="0.001x"), tmp_path)
    assert f"ERROR genets.nas.search: {caught.value}" in read_log(tmp_path)


def test_reading_the_images_is_shown(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for number in range(60):
        folder = tmp_path / "photos" / str(number % 10)
        folder.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    events: list[Progress] = []
    asked = settings(data=str(tmp_path / "photos"), rounds=1)
    search(asked, tmp_path / "study", on_event=events.append)
    read = [event for event in events if event.phase == "reading images"]
    assert events[: len(read)] == read
    assert (read[0].done, read[-1].done) == (1, 60)
    assert {event.total for event in read} == {60}
    assert events[len(read)].phase == "latency table"


class Interrupted(ClosedFormLaboratory):
    """Ctrl-C after half of a trial."""

    def run_trials(self, job: Any, groups: Any, workers: Workers) -> Any:
        yield from super().run_trials(job, groups[:1], workers)
        time.sleep(0.2)
        raise KeyboardInterrupt


def test_the_time_of_an_interrupted_phase_is_kept(tmp_path: Path) -> None:
    def seconds() -> float:
        return float(json.loads((tmp_path / "seconds.json").read_text())["trials"])

    for runs in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            search(settings(), tmp_path, Interrupted())
        assert seconds() >= 0.2 * runs
    interrupted = seconds()
    result = search(settings(), tmp_path)
    assert result.seconds["trials"] > interrupted
    assert "trials: stopped by KeyboardInterrupt after 0." in read_log(tmp_path)


def test_screen_result_and_page_have_the_same_warnings(finished: SearchResult) -> None:
    record = json.loads(finished.files["result"].read_text())
    snapshot = Snapshot.read(finished.folder)
    listed = list_warnings(snapshot)
    assert any("networks measured on cpu-torch-fp32-b8-t1 are noisy" in text for text in listed)
    assert [*finished.warnings] == record["warnings"] == study_record(snapshot)["warnings"]
    assert [*finished.warnings] == listed


def test_a_study_without_a_format_version_is_continued(tmp_path: Path) -> None:
    asked = settings()
    Study.create_or_resume(tmp_path, asked).close()
    assert json.loads((tmp_path / "format.json").read_text()) == {"version": 1}
    (tmp_path / "format.json").unlink()
    Study.create_or_resume(tmp_path, asked).close()
    assert load_settings(tmp_path) == asked


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"version": 2}', "has format version 2, and this genets reads versions up to 1"),
        ('{"version": "x"}', "it must be an integer above 0"),
        ("[", "is damaged"),
    ],
)
def test_another_format_version_is_refused(tmp_path: Path, content: str, message: str) -> None:
    asked = settings()
    Study.create_or_resume(tmp_path, asked).close()
    (tmp_path / "format.json").write_text(content)
    for open_study in (
        lambda: Study.open(tmp_path),
        lambda: Study.create_or_resume(tmp_path, asked),
        lambda: Snapshot.read(tmp_path),
    ):
        with pytest.raises(StudyError, match=message) as caught:
            open_study()
        assert "\n" not in str(caught.value)


def test_the_real_laboratory_is_the_default(tmp_path: Path) -> None:
    with Study.create_or_resume(tmp_path, settings()) as study:
        assert type(SearchContext(study, 10).lab) is Laboratory
