"""Searches with recipe fields that are `auto`: short trainings decide them once for a study."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rounds_lab import ClosedFormLaboratory, ClosedFormLatency, settings

from genets.core.errors import GenetsError, SettingsError, TrainingError
from genets.nas.plan.search_plan import make_plan
from genets.nas.result import SearchResult
from genets.nas.search import run_search
from genets.nas.settings.presets import PRESETS
from genets.nas.settings.settings import SearchSettings
from genets.nas.settings.training import TrialSettings
from genets.nas.snapshot import Snapshot
from genets.nas.study import layout
from genets.nas.study.reader import StudyReader
from genets.nas.study.study import Study
from genets.report.study.facts import study_conditions
from genets.training import RunRecipe
from genets.training.variants import Variant, best_variant, middle_rate, variants_of

AUTO = {"learning_rate": "auto", "norm_statistics": "auto", "epochs": 1, "warmup_epochs": 0.5}


def asked(**changes: Any) -> SearchSettings:
    values: dict[str, Any] = {
        "from_scratch": False, "trial_training": {"feature_steps": 1}, "rounds": 1,
        "trials_per_super_block": 2, "master_training": AUTO, "final_training": AUTO,
        "training_device": "cpu",
    }  # fmt: skip
    return settings(**values | changes)


class Deciding(ClosedFormLaboratory):
    """Gives each variant a score in closed form, and records every training.

    Attributes:
        tried: The images of each call, and whether there was a teacher.
        trained: The rates of the trainings of this process.
        best: The number of the variant that is best.
    """

    def __init__(self, chosen: SearchSettings, best: int = 1) -> None:
        super().__init__(chosen)
        self.tried: list[tuple[int, bool]] = []
        self.trained: list[Any] = []
        self.best = best

    def try_variants(
        self, net: Any, data: Any, recipe: RunRecipe, *, teacher: Any, **options: Any
    ) -> list[Variant]:
        self.tried.append((len(data.train), teacher is not None))
        return [
            replace(each, cross_entropy=1.0 + abs(number - self.best))
            for number, each in enumerate(variants_of(recipe))
        ]

    def train(self, net: Any, data: Any, recipe: RunRecipe, **options: Any) -> None:
        self.trained.append(recipe.learning_rate)

    def train_candidates(self, job: Any, groups: Any, workers: Any) -> Any:
        self.trained.append(job.recipe.learning_rate)
        return super().train_candidates(job, groups, workers)


@pytest.fixture(autouse=True)
def any_master(monkeypatch: pytest.MonkeyPatch) -> None:
    """A MasterNet that was not trained counts as one that learned."""
    monkeypatch.setattr("genets.nas.master.training._check_learned", lambda *_: None)


def search(folder: Path, lab: Deciding) -> SearchResult:
    return run_search(lab.asked, folder, workers=1, lab=lab)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[SearchResult, Deciding]:
    lab = Deciding(asked())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("genets.nas.master.training._check_learned", lambda *_: None)
        return search(tmp_path_factory.mktemp("study") / "study", lab), lab


def test_masternet_and_candidates_have_a_decision_each(
    found: tuple[SearchResult, Deciding],
) -> None:
    result, lab = found
    assert [taught for _, taught in lab.tried] == [False, True]
    rate = variants_of(asked().master_training.recipe())[1].learning_rate
    assert lab.trained == [rate, rate]
    stored = StudyReader(result.folder).short_trainings()
    assert stored.keys() == {"master_training", "final_training"}
    assert all(best_variant(tried).learning_rate == rate for tried in stored.values())


def test_the_page_says_what_was_decided(found: tuple[SearchResult, Deciding]) -> None:
    result, _ = found
    conditions = study_conditions(Snapshot.read(result.folder), "today")
    best = best_variant(StudyReader(result.folder).short_trainings()["final_training"])
    assert conditions["recipes"] == (
        f"MasterNet: the best of 6 short trainings had {best}; "
        f"candidates and winner: the best of 6 short trainings had {best}"
    )


def test_a_study_keeps_its_decision(found: tuple[SearchResult, Deciding], tmp_path: Path) -> None:
    """A continued study trains lost networks again with the stored fields."""
    result, lab = found
    folder = tmp_path / "study"
    shutil.copytree(result.folder, folder)
    (folder / layout.MASTER_WEIGHTS).unlink()
    (folder / layout.WINNER_WEIGHTS).unlink()
    (folder / "results" / "result.json").unlink()
    again = Deciding(asked(), best=3)
    search(folder, again)
    assert not again.tried
    assert again.trained[0] == lab.trained[0]


def test_a_lost_decision_is_made_again(
    found: tuple[SearchResult, Deciding], tmp_path: Path
) -> None:
    result, lab = found
    folder = tmp_path / "study"
    shutil.copytree(result.folder, folder)
    for name in (f"{layout.SHORT_TRAININGS}.json", layout.WINNER_WEIGHTS, "results/result.json"):
        (folder / name).unlink()
    shutil.rmtree(folder / layout.CONFIRMED)
    again = Deciding(asked())
    search(folder, again)
    assert again.tried == lab.tried[1:]
    assert again.trained == lab.trained[1:]


@pytest.mark.parametrize(
    "content",
    [
        '{"final_training": [{"rate": 1}]}',
        '{"final_training": []}',
        '{"final_training": [{"learning_rate": 1, "norm_statistics": "batch"}]}',
        '{"training": []}',
    ],
)
def test_a_damaged_decision_is_one_sentence(
    found: tuple[SearchResult, Deciding], tmp_path: Path, content: str
) -> None:
    folder = tmp_path / "study"
    shutil.copytree(found[0].folder, folder)
    (folder / f"{layout.SHORT_TRAININGS}.json").write_text(content)
    with pytest.raises(GenetsError, match=r"short_trainings\.json is damaged"):
        Snapshot.read(folder)


class Failing(Deciding):
    """The short trainings of the first `failures` candidates fail."""

    failures = 1

    def try_variants(self, *words: Any, teacher: Any, **options: Any) -> list[Variant]:
        if teacher is not None and self.failures:
            self.failures -= 1
            raise TrainingError("the loss was not finite")
        return super().try_variants(*words, teacher=teacher, **options)


def test_the_next_candidate_decides_where_the_first_one_fails(tmp_path: Path) -> None:
    lab = Failing(asked())
    search(tmp_path / "study", lab)
    assert [taught for _, taught in lab.tried] == [False, True]


def test_a_study_continues_after_all_candidates_failed(tmp_path: Path) -> None:
    lab = Failing(asked())
    lab.failures = 2
    message = (
        r"short trainings of all 2 structures failed \(the loss was not finite\); give the same"
    )
    with pytest.raises(TrainingError, match=message):
        search(tmp_path / "study", lab)
    search(tmp_path / "study", lab)
    assert StudyReader(tmp_path / "study").short_trainings().keys() == {
        "master_training",
        "final_training",
    }


def test_folds_share_a_decision_on_the_images_of_all(tmp_path: Path) -> None:
    lab = Deciding(asked(folds=2))
    search(tmp_path / "study", lab)
    assert [taught for _, taught in lab.tried] == [False, False, True, True]
    assert len(set(lab.trained)) == 1


def test_the_winner_decides_where_no_candidate_is_trained(tmp_path: Path) -> None:
    lab = Deciding(asked(confirm=1))
    search(tmp_path / "study", lab)
    assert len(lab.tried) == len(lab.trained) == 2


def test_fields_that_are_given_need_no_short_training(tmp_path: Path) -> None:
    given = {"epochs": 1, "warmup_epochs": 0.5}
    lab = Deciding(asked(master_training=given, final_training=given))
    search(tmp_path / "study", lab)
    assert not lab.tried
    assert not StudyReader(tmp_path / "study").short_trainings()


def test_the_winner_is_trained_for_real_with_the_decided_fields(tmp_path: Path) -> None:
    """Nothing but the clock is in closed form."""
    chosen = asked()
    result = run_search(chosen, tmp_path / "study", workers=1, lab=ClosedFormLatency(chosen))
    stored = StudyReader(result.folder).short_trainings()
    assert all(each.cross_entropy for tried in stored.values() for each in tried)
    with Study.open(result.folder) as study:
        recipe = study.recipe("final_training")
    assert recipe == best_variant(stored["final_training"]).of(chosen.final_training.recipe())


def test_the_probe_of_a_plan_runs_no_short_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("genets.training.short_trainings.try_variants", None)
    make_plan(asked(), tmp_path / "study", lab=ClosedFormLatency(asked()), workers=1, limit_s=0.1)


def test_trials_need_fields_that_are_decided() -> None:
    message = r"trial_training\.learning_rate must not be auto, because a trial is a short"
    with pytest.raises(SettingsError, match=message):
        asked(trial_training={"learning_rate": "auto"})
    with pytest.raises(SettingsError, match=message):
        asked(trial_training={"recipe": "finetune", "learning_rate": "auto"})
    with pytest.raises(SettingsError, match=r"trial_training\.optimizer must be 'sgd' or 'adamw'"):
        asked(trial_training={"recipe": "finetune", "optimizer": "adam"})
    trial = asked(trial_training={"recipe": "finetune"}).trial_training
    assert isinstance(trial, TrialSettings)
    assert trial.learning_rate == middle_rate("adamw")
    assert trial.norm_statistics == "batch"


def test_the_preset_for_photographs_leaves_the_fields_to_short_trainings() -> None:
    for table in ("master_training", "final_training"):
        assert PRESETS["photos"][table]["learning_rate"] == "auto"
        assert PRESETS["photos"][table]["norm_statistics"] == "auto"
    assert not PRESETS["photos"]["final_training"]["linear_start"]


def test_the_settings_of_a_study_are_read_again() -> None:
    assert SearchSettings.from_toml(asked().to_toml()) == asked()
