"""A study that gets more trials keeps its trials and drops its conclusions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_networks import assert_balanced

from genets.core.errors import StudyError
from genets.core.resumable import ResumableFolder
from genets.nas.settings.settings import SearchSettings
from genets.nas.study import layout
from genets.nas.study.reader import StudyReader, load_settings
from genets.nas.study.study import Study
from genets.nas.trials.plan import Sampling, plan_trials
from genets.structure import DesignSpace, zoo

SPACE = DesignSpace(resolutions=()).around(zoo["master_small"])
FEW = SearchSettings(data="digits", budget="0.2ms", trials_per_super_block=3)


def more(number: int, **changes: object) -> SearchSettings:
    return FEW.model_copy(update={"trials_per_super_block": number, **changes})


@pytest.mark.parametrize("sampling", ["design", "balanced", "random"])
def test_a_plan_that_grows_keeps_its_trials(sampling: Sampling) -> None:
    def plan(trials: int, grown_from: tuple[int, ...] = ()) -> set[object]:
        planned = plan_trials(SPACE, trials, 2, seed=1, sampling=sampling, grown_from=grown_from)
        assert len(set(planned)) == len(planned) == 4 * (trials + 2)
        return set(planned)

    first, second = plan(7), plan(12, (7,))
    third = plan(14, (7, 12))
    assert first < second < third
    assert third == plan(14, (7, 12))
    assert plan(12) != second


@pytest.mark.parametrize("sampling", ["design", "balanced"])
def test_a_plan_that_grows_stays_balanced(sampling: Sampling) -> None:
    planned = plan_trials(SPACE, 17, 0, seed=3, sampling=sampling, grown_from=(5, 8))
    assert_balanced(planned, SPACE)


def begun(folder: Path) -> None:
    with Study.create_or_resume(folder, FEW) as study:
        for name in (*layout.CONCLUSIONS, "confirmed.json", "master.json"):
            (study.folder / name).write_text("[]")


def test_more_trials_take_back_what_was_concluded_and_nothing_else(tmp_path: Path) -> None:
    begun(tmp_path)
    for number, before in ((5, (3,)), (8, (3, 5))):
        with Study.create_or_resume(tmp_path, more(number)) as study:
            assert (study.grown_from, study.settings) == (before, more(number))
            assert not any((tmp_path / name).exists() for name in layout.CONCLUSIONS)
            assert (tmp_path / "confirmed.json").exists()
            assert [path.name for path in (tmp_path / "results_before").iterdir()] == ["3"]
            assert (tmp_path / "master.json").exists()
        assert load_settings(tmp_path) == more(number)


@pytest.mark.parametrize("asked", [more(2), more(5, seed=1), more(3, controls_per_super_block=4)])
def test_fewer_trials_and_other_changes_are_refused(tmp_path: Path, asked: SearchSettings) -> None:
    begun(tmp_path)
    with pytest.raises(StudyError, match="was begun with other settings"):
        Study.create_or_resume(tmp_path, asked)
    assert all((tmp_path / name).exists() for name in layout.CONCLUSIONS)


def test_a_study_that_moved_its_master_net_is_refused(tmp_path: Path) -> None:
    begun(tmp_path)
    (tmp_path / "rounds").mkdir()
    with pytest.raises(StudyError, match="trials_per_super_block: 3 in the study, 5 asked"):
        Study.create_or_resume(tmp_path, more(5))


def test_killed_while_it_grows_a_study_has_its_old_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(tmp_path)

    def killed(folder: ResumableFolder, text: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ResumableFolder, "write_settings", killed)
        with pytest.raises(KeyboardInterrupt):
            Study.create_or_resume(tmp_path, more(5))
    with Study.create_or_resume(tmp_path, FEW) as study:
        assert study.grown_from == ()
    with Study.create_or_resume(tmp_path, more(5)) as study:
        assert study.grown_from == (3,)
    assert (tmp_path / "results_before/3/result.json").read_text() == "[]"
    path = tmp_path / "grown_from.json"
    assert set(json.loads(path.read_text())) == {3}
    path.write_text("{")
    with pytest.raises(StudyError, match=r"grown_from\.json is damaged"):
        _ = StudyReader(tmp_path).grown_from
