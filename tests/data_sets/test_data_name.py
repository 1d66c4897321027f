"""A data argument with the name of a built-in data set, beside a folder of the same name."""

import os
from pathlib import Path

import pytest
from folder_lab import fill

from genets.core.errors import DataError, SettingsError
from genets.data import LOADERS, check_output_folder, load_data
from genets.data.split_origin import find_split_origin
from genets.nas.settings.settings import SearchSettings
from genets.training import RunSettings, make_recipe, named_recipe

NETWORK = "Conv3x8s2 XX3x16s2 XX3x16 Conv1x16 @16"


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The folder `digits` in the working directory."""
    monkeypatch.chdir(tmp_path)
    return fill(tmp_path / "digits")


def stored_names(data: str) -> list[str]:
    """The data set in the settings of a search and of a training run."""
    recipe = make_recipe(named_recipe("quick"))
    run = RunSettings(network=NETWORK, data=data, recipe=recipe)
    return [
        SearchSettings(data=data, budget="0.5x").data,
        run.data,
        RunSettings.from_json(run.to_json()).data,
    ]


def test_a_data_set_is_added_in_one_place(folder, monkeypatch):
    """Settings and loading both know the name, also beside a folder of the same name."""
    fill(folder.parent / "mine")
    assert stored_names("mine") == [str(folder.parent / "mine")] * 3
    digits = load_data("digits", 8)
    monkeypatch.setitem(LOADERS, "mine", lambda resolution, **options: digits)
    assert stored_names("mine") == ["mine"] * 3
    assert load_data("mine", 8) is digits
    check_output_folder("mine", folder.parent / "mine" / "cat" / "scores")


def test_the_bare_name_is_the_built_in_data_set(folder, caplog):
    with caplog.at_level("INFO", "genets.data"):
        data = load_data("digits", 8)
    assert data.num_classes == 10
    assert [record.getMessage() for record in caplog.records] == [
        "digits is the built-in data set; for the folder of that name, write ./digits"
    ]
    assert stored_names("digits") == ["digits"] * 3
    assert data.origin.data == "digits"
    check_output_folder("digits", folder / "cat" / "scores")


@pytest.mark.parametrize("name", ["./digits", "digits/", Path("digits"), Path("./digits")])
def test_the_folder_is_given_as_a_path(folder, caplog, name):
    with caplog.at_level("INFO", "genets.data"):
        data = load_data(name, 8)
    assert data.class_names == ("cat", "dog")
    assert "built-in" not in caplog.text
    assert stored_names("./digits") == [str(folder)] * 3
    assert data.origin.data == str(folder)
    assert find_split_origin(data, load_data(folder, 8).origin, trained=True).source == "training"
    with pytest.raises(DataError, match="holds images of data set"):
        check_output_folder(name, folder / "cat" / "scores")


def test_without_such_a_folder_nothing_is_said(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    with caplog.at_level("INFO", "genets.data"):
        load_data("digits", 8)
    assert caplog.text == ""
    with pytest.raises(DataError, match="does not exist"):
        load_data(Path("digits"), 8)


def test_a_path_that_json_files_cannot_state_is_refused(tmp_path, monkeypatch):
    folder = tmp_path / os.fsdecode(b"pho\xfftos")
    fill(folder / "images")
    monkeypatch.chdir(folder)
    for data in (str(folder / "images"), "images"):
        with pytest.raises(SettingsError, match=r"data must be a .*not '.*udcff") as error:
            RunSettings(network=NETWORK, data=data, recipe=make_recipe(named_recipe("quick")))
        assert str(error.value).isascii()
        with pytest.raises(SettingsError, match="data must be a "):
            SearchSettings(data=data, budget="1x")
