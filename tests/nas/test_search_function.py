"""A search as one call of Python: what keywords become."""

import inspect

import pytest
from rounds_lab import SETTINGS, in_closed_form, search, settings

import genets
from genets.core.errors import SettingsError
from genets.nas import search as nas_search
from genets.nas.new_study import settings_at
from genets.nas.settings.presets import PRESETS
from genets.nas.settings.settings import SearchSettings
from genets.nas.study.reader import load_settings

KEYWORDS = SETTINGS | {"rounds": 1}


@pytest.fixture
def closed_form(monkeypatch):
    in_closed_form(monkeypatch)


@pytest.mark.usefixtures("closed_form")
def test_keywords_are_settings_and_the_result_answers_other_budgets(tmp_path):
    target = genets.Target(batch_size=8, threads=1)
    result = genets.search(**KEYWORDS | {"target": target}, out=tmp_path / "a", workers=1)
    same = search(settings(rounds=1), tmp_path / "b")
    assert result.selected == same.selected
    again = genets.search(out=tmp_path / "a", workers=1)
    assert again.selected == result.selected
    other = result.select("0.8x", target=target)
    assert other.high_ms <= other.budget_ms < result.selected.budget_ms
    assert other == genets.select(tmp_path / "b", "0.8x")


def test_a_preset_stands_under_what_is_given_and_over_what_is_stored(tmp_path, monkeypatch):
    monkeypatch.setattr(nas_search, "run_search", lambda chosen, *words, **options: chosen)
    given = {"data": "digits", "budget": "1x", "trial_training": {"epochs": 2}}
    chosen = genets.search(out=tmp_path, preset="paper", **given)
    assert chosen.trial_training.epochs == 2
    assert (
        chosen.trial_training.learning_rate == PRESETS["paper"]["trial_training"]["learning_rate"]
    )
    assert chosen.confirm_epochs == 120


@pytest.mark.usefixtures("closed_form")
def test_the_settings_of_a_study_stand_under_all(tmp_path):
    genets.search(**KEYWORDS, out=tmp_path, workers=1)
    stored = load_settings(tmp_path).to_dict()
    assert settings_at(tmp_path, None) == stored
    assert settings_at(tmp_path, None, {"seed": 5}) == stored | {"seed": 5}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preset": "papr"}, "unknown preset 'papr'; did you mean paper"),
        ({"bugdet": "1x"}, "unknown setting 'bugdet'; did you mean budget"),
        ({"budget": "1"}, "budget '1' has no unit"),
        ({"workers": "2"}, "workers must be an integer or None, not '2'"),
        ({"wait_minutes": "5"}, "wait_minutes must be a number, not '5'"),
        ({"workers_on": 5}, r"workers_on must be local, ray, slurm, or .*RayCluster\(\), not 5"),
        ({"workers_on": genets.RayCluster}, "not the class RayCluster"),
    ],
)
def test_faults(tmp_path, changes, message):
    with pytest.raises(genets.GenetsError, match=message):
        genets.search(**KEYWORDS | changes, out=tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_the_signature_names_every_setting():
    parameters = inspect.signature(genets.search).parameters
    names = ["out", "preset", "workers", "workers_on", "processes", "wait_minutes", "on_event"]
    assert list(parameters) == [*names, *SearchSettings.model_fields, "resolution"]
    assert parameters["confirm"].default == 2
    assert parameters["confirm"].annotation is int
    assert parameters["data"].default is None  # an unfinished study needs no settings
    assert all(each.kind is each.KEYWORD_ONLY for each in parameters.values())


def test_data_and_budget_must_be_given(tmp_path):
    with pytest.raises(SettingsError, match="setting data must be given"):
        genets.search(out=tmp_path / "study")
