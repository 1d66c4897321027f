"""Settings of a new study that follow from its images."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
from PIL import Image
from rounds_lab import ClosedFormLaboratory, search, settings

import genets
from command_line import invoke
from genets.core.errors import DataError, GenetsError, SettingsError
from genets.core.image_facts import ImageSizes
from genets.nas import new_study
from genets.nas import search as nas_search
from genets.nas.new_study import complete_settings
from genets.nas.settings.from_data import (
    FEW_IMAGES,
    MANY_IMAGES,
    MIN_PHOTO_SIDE,
    RESOLUTIONS,
    fitting_resolution,
    settings_from_data,
)
from genets.nas.settings.presets import PRESETS, TRAININGS
from genets.nas.settings.settings import SearchSettings
from genets.nas.settings.toml_tables import merge
from genets.nas.settings.training import TrialSettings
from genets.structure import Structure, zoo
from genets.training import make_recipe

GIVEN = {"budget": "0.5x"}
OWN_BLOCKS = str(Path(__file__).parents[2] / "examples" / "rep_blocks.py")
networks_build = import_module("genets.networks.build")


def photographs(folder: Path, side: int, count: int = 6) -> str:
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = np.full((side, side + 4, 3), 20 * number, np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return str(folder)


@pytest.mark.parametrize(
    ("side", "expected"),
    [(1, 16), (16, 16), (28, 24), (32, 32), (95, 64), (96, 96), (191, 160), (300, 224)],
)
def test_the_resolution_enlarges_no_median_image(side: int, expected: int) -> None:
    assert fitting_resolution(side) == expected


@pytest.mark.parametrize(
    ("images", "side", "master"),
    [
        (500, 32, "master_small"),
        (MANY_IMAGES, 64, "master_small"),
        (500, MIN_PHOTO_SIDE, "genet_light"),
        (MANY_IMAGES - 1, 300, "genet_light"),
        (MANY_IMAGES, 300, "genet_normal"),
    ],
)
def test_the_masternet_follows_from_number_and_size(images: int, side: int, master: str) -> None:
    found = settings_from_data(ImageSizes(images, side))
    assert found.settings["master"] == master
    assert any(line.startswith(f"MasterNet {master}: ") for line in found.reasons)


@pytest.mark.parametrize("side", RESOLUTIONS)
@pytest.mark.parametrize("images", [10, FEW_IMAGES, MANY_IMAGES])
@pytest.mark.parametrize("has_weights", [False, True])
def test_every_choice_is_a_valid_search_with_its_reasons(
    side: int, images: int, has_weights: bool
) -> None:
    found = settings_from_data(ImageSizes(images, side), has_weights=has_weights)
    chosen = SearchSettings(data="photos", **GIVEN, **found.settings)
    assert chosen.resolution == (max(side, MIN_PHOTO_SIDE) if has_weights else side)
    assert not has_weights or found.settings["master"].startswith("genet_")
    assert len(found.reasons) == 3
    assert all("\n" not in line for line in found.reasons)


def test_each_reason_is_one_line() -> None:
    assert settings_from_data(ImageSizes(1600, 300)).reasons == (
        "resolution 224: the median image has 300 pixels on its shorter side",
        "MasterNet genet_light: 1600 training images of 224 pixels",
        "recipe paper: fresh weights and images of 224 pixels; batches of 64 for 1600 training "
        "images",
    )


def test_the_recipes_follow_from_size_number_and_weights() -> None:
    def found(images: int, side: int, **words: Any) -> dict[str, Any]:
        return dict(settings_from_data(ImageSizes(images, side), **words).settings)

    assert not found(500, 32).keys() & {*TRAININGS}
    photos = PRESETS["photos"]
    weights = found(50_000, 300, has_weights=True)
    assert weights["master_training"] == photos["master_training"] | {"epochs": 20}
    assert weights["final_training"] == photos["final_training"] | {"epochs": 60}
    # 500 steps, of 15 batches of 32 images in an epoch.
    weights = found(500, 300, has_weights=True)
    assert weights["master_training"] == photos["master_training"] | {"epochs": 34}
    assert weights["final_training"] == photos["final_training"] | {"epochs": 102}
    assert weights["confirm_epochs"] == 17
    assert found(3, 300, has_weights=True)["confirm_epochs"] == 100
    many = found(MANY_IMAGES, 300, has_weights=True)
    assert many["final_training"] == PRESETS["imagenet"]["final_training"]
    few = found(500, 300)
    assert few["final_training"] == PRESETS["imagenet"]["final_training"] | {"batch_size": 64}
    assert PRESETS["imagenet"]["final_training"]["batch_size"] == 256, "the preset stays"
    assert "from_scratch" not in many | few


def test_a_folder_of_photographs_is_searched_at_their_size(tmp_path: Path) -> None:
    data = photographs(tmp_path / "photos", 100)
    complete = complete_settings({"data": data, **GIVEN}, tmp_path / "study")
    chosen = SearchSettings(**complete.values)
    assert chosen.structure == zoo["genet_light"].with_resolution(96)
    assert chosen.final_training.mixup > 0
    assert complete.reasons[0] == (
        "resolution 96: the median image has 100 pixels on its shorter side"
    )


@pytest.mark.parametrize(
    ("given", "preset", "resolution", "reasons"),
    [
        ({"master": "master_small"}, None, 16, 1),
        ({"master": "genet_light", "resolution": 128}, None, 128, 1),
        ({"resolution": 32}, None, 32, 2),
        ({"resolution": 128}, None, 128, 3),  # and that no published weights are at hand
        ({"final_training": {"epochs": 3}}, None, 96, 3),
        ({table: {"recipe": "nas"} for table in TRAININGS}, None, 96, 2),
        ({}, "quick", 16, 0),
        (PRESETS["photos"], "photos", 96, 3),
        ({**PRESETS["paper"], "master": "net1"}, "paper", 224, 0),
    ],
)
def test_given_settings_win(
    given: dict[str, Any], preset: str | None, resolution: int, reasons: int, tmp_path: Path
) -> None:
    data = photographs(tmp_path / "photos", 100)
    complete = complete_settings({"data": data, **GIVEN, **given}, tmp_path / "study", preset)
    chosen = SearchSettings(**complete.values)
    assert chosen.resolution == resolution
    assert len(complete.reasons) == reasons
    if "master" in given:
        assert chosen.structure == zoo[given["master"]].with_resolution(resolution)
    if "epochs" in given.get("final_training", {}):
        assert chosen.final_training.epochs == given["final_training"]["epochs"]


@pytest.mark.usefixtures("own_block_types")
@pytest.mark.parametrize(
    ("given", "side", "is_used"),
    [
        ({}, 100, True),
        ({}, 64, False),  # a GENet needs larger images
        ({"resolution": 64}, 100, False),
        ({"pretrained": False}, 100, False),
        ({"from_scratch": True}, 100, False),
        ({"from_scratch": False}, 100, True),
        ({"master_training": {"epochs": 3}}, 100, False),
        ({"own_blocks": [OWN_BLOCKS], "space": {"blocks": ["XX3", "RepVGG3"]}}, 100, False),
        ({"master": "genet_light", "resolution": 96}, 100, False),
    ],
)
def test_published_weights_at_hand_are_used(
    given: dict[str, Any], side: int, is_used: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_for: list[Structure] = []

    def has_cached_weights(structure: Structure) -> bool:
        asked_for.append(structure)
        return True

    monkeypatch.setattr(networks_build, "has_cached_weights", has_cached_weights)
    data = photographs(tmp_path / "photos", side)
    complete = complete_settings({"data": data, **GIVEN, **given}, tmp_path / "study")
    chosen = SearchSettings(**complete.values)
    assert chosen.pretrained is is_used
    assert chosen.master_training.linear_start is is_used
    assert asked_for == [zoo["genet_light"]] * is_used
    reason = "pretrained: the published weights of genet_light are on this machine"
    assert (reason in complete.reasons) is is_used


def test_cached_weights_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's cache holds a file of one GENet."""
    repository = tmp_path / "models--timm--gernet_s.idstcv_in1k"
    (repository / "snapshots/1").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("1")
    (repository / "snapshots/1/model.safetensors").touch()
    find = partial(huggingface_hub.try_to_load_from_cache, cache_dir=tmp_path)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", find)
    cached = [name for name in zoo if networks_build.has_cached_weights(zoo[name])]
    assert cached == ["genet_light"]


@pytest.mark.parametrize("preset", [None, "quick", "imagenet", "paper"])
def test_a_master_net_with_weights_is_fine_tuned(preset: str | None, tmp_path: Path) -> None:
    weights = {"weights": "own.pth", "master": "master_small"}
    chosen = {"data": "digits", **GIVEN, **(PRESETS[preset] if preset else {}), **weights}
    complete = complete_settings(chosen, tmp_path / "study", preset)
    settings = SearchSettings(**complete.values)
    tuned = {**PRESETS["photos"]["master_training"], "epochs": 20, "precision": "fp32"}
    assert settings.master_training.recipe() == make_recipe(tuned)
    assert complete.reasons[-1] == (
        "recipe finetune for the MasterNet: it starts from trained weights; 20 epochs"
    )
    for changes, is_tuned in (({"recipe": "nas"}, False), ({"epochs": 7, "erase": 0.3}, True)):
        given = merge(chosen, {"master_training": changes})
        own = SearchSettings(
            **complete_settings(given, tmp_path / "study", preset).values
        ).master_training
        assert own.linear_start is is_tuned
        assert not is_tuned or (own.epochs, own.erase) == (7, 0.3)


@pytest.mark.parametrize("preset", ["quick", "imagenet", "paper"])
def test_few_images_give_such_a_master_net_more_epochs(preset: str, tmp_path: Path) -> None:
    weights = {"weights": "own.pth", "master": "master_small"}
    data = photographs(tmp_path / "photos", 24)
    chosen = {**PRESETS[preset], **weights, "data": data, **GIVEN}
    complete = complete_settings(chosen, tmp_path / "study", preset)
    assert complete.values["master_training"]["epochs"] == 200
    assert complete.reasons[-1].endswith("; 200 epochs")
    kept = SearchSettings(**complete.values).final_training
    assert kept == SearchSettings(**chosen).final_training


def test_many_images_are_searched_from_scratch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = photographs(tmp_path / "photos", 24)
    monkeypatch.setattr(new_study, "MANY_IMAGES", 8)
    complete = complete_settings({"data": data, **GIVEN}, tmp_path / "study")
    assert complete.values["from_scratch"]
    assert complete.reasons[-1] == (
        "from_scratch: inherited weights were tried with fewer images only"
    )
    for given, is_scratch in (
        ({"from_scratch": False}, False),
        ({"pretrained": True}, False),
        ({"pretrained": False}, True),
        ({"master": "master_small", "confirm_epochs": 3}, True),
    ):
        complete = complete_settings({"data": data, **GIVEN, **given}, tmp_path / "study")
        assert SearchSettings(**complete.values).from_scratch is is_scratch


def test_the_epochs_of_the_preset_photos_follow_from_the_number_of_images(tmp_path: Path) -> None:
    data = photographs(tmp_path / "photos", 100)
    photos = PRESETS["photos"] | {"data": data, "master": "genet_light", **GIVEN}
    complete = complete_settings(photos, tmp_path / "study", "photos")
    chosen = SearchSettings(**complete.values)
    assert chosen.master_training.epochs == 200
    assert (chosen.confirm_epochs, chosen.final_training.epochs) == (100, 600)
    assert chosen.final_training.batch_size == photos["final_training"]["batch_size"]
    assert complete.reasons == (
        "200 epochs for the MasterNet, 100 for candidates and 600 for the winner, because an epoch "
        "has few steps: 8 training images",
    )
    given = merge(photos, {"final_training": {"epochs": 3}, "confirm_epochs": 2})
    chosen = SearchSettings(**complete_settings(given, tmp_path / "study", "photos").values)
    assert (chosen.master_training.epochs, chosen.final_training.epochs) == (200, 3)
    assert chosen.confirm_epochs == 2


def test_many_images_take_the_least_number_of_epochs() -> None:
    sizes = ImageSizes(MANY_IMAGES, 300)
    found = settings_from_data(sizes, recipes=False, fine_tuning=True, has_weights=True)
    assert found.settings["master_training"]["epochs"] == 20
    assert found.reasons[-1] == (
        "20 epochs for the MasterNet, 10 for candidates and 60 for the winner: 100000 training "
        "images"
    )


def test_digits_and_an_existing_study_stay_as_they_are(tmp_path: Path) -> None:
    digits = {"data": "digits", **GIVEN}
    complete = complete_settings(digits, tmp_path / "study")
    assert (complete.values, complete.reasons) == (digits, ())
    erased = {**digits, "final_training": {"erase": 0.5}}
    assert complete_settings(erased, tmp_path / "study").reasons == (
        "digits has its own disturbances, so erase is unused",
    )
    trials = {**digits, "trial_training": {"epochs": 12, "batch_size": 32, "ema_decay": 0.0}}
    assert complete_settings(trials, tmp_path / "study").reasons == (
        "epochs of trial_training is unused, because trials inherit weights; feature_steps sets "
        "the length of such a trial",
    )
    assert complete_settings(trials | {"from_scratch": True}, tmp_path / "study").reasons == ()
    asked = settings(rounds=1)
    search(asked, tmp_path / "study", ClosedFormLaboratory(asked))
    stored = asked.to_dict() | {"data": photographs(tmp_path / "photos", 100)}
    assert complete_settings(stored, tmp_path / "study").reasons == ()


def test_the_preset_photos_needs_trained_weights(tmp_path: Path) -> None:
    given = PRESETS["photos"] | {"data": "digits", **GIVEN, "pretrained": False}
    with pytest.raises(SettingsError, match="preset photos fine-tunes trained weights"):
        complete_settings(given, tmp_path / "study", "photos")


def test_the_training_of_trials_may_be_a_model(tmp_path: Path) -> None:
    given = {"data": "digits", **GIVEN, "trial_training": TrialSettings(epochs=12)}
    complete = complete_settings(given, tmp_path / "study")
    assert complete.reasons[0].startswith("epochs of trial_training is unused, because")
    assert SearchSettings(**complete.values).trial_training.epochs == 12


@pytest.mark.usefixtures("own_block_types")
def test_blocks_of_your_own_are_trained_from_scratch(tmp_path: Path) -> None:
    blocks = {"blocks": ["XX3", "RepVGG3"]}
    own = {"data": "digits", **GIVEN, "own_blocks": [OWN_BLOCKS], "space": blocks}
    complete = complete_settings(own, tmp_path / "study")
    assert complete.values["from_scratch"] is True
    assert complete.reasons[0].startswith("from_scratch: blocks of your own inherit weights at ")
    unused = own | {"space": {"blocks": ["XX3"]}}
    assert complete_settings(unused, tmp_path / "study").reasons == ()
    for given in ({"from_scratch": False}, {"pretrained": True, "master": "genet_light"}):
        complete = complete_settings(own | given, tmp_path / "study")
        assert not SearchSettings(**complete.values).from_scratch


def test_wrong_settings_are_refused_before_images_are_read(tmp_path: Path) -> None:
    with pytest.raises(GenetsError, match="budget '1' has no unit"):
        complete_settings({"data": str(tmp_path / "none"), "budget": "1"}, tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        complete_settings({"data": str(tmp_path / "none"), **GIVEN}, tmp_path)


def test_the_reasons_are_shown_and_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passed: dict[str, Any] = {}

    def stop(chosen: SearchSettings, out: Path, **options: Any) -> None:
        passed.update(options, resolution=chosen.resolution)
        raise GenetsError("stopped")

    monkeypatch.setattr(nas_search, "run_search", stop)
    data = photographs(tmp_path / "photos", 100)
    result = invoke("search", "--data", data, "--budget", "0.5x", "--out", tmp_path / "study")
    lines = result.stderr.splitlines()
    assert lines[-5:-1] == list(passed["reasons"])
    assert sum("2 classes" in line for line in lines) <= 1
    assert passed["resolution"] == 96
    passed.clear()
    with pytest.raises(GenetsError, match="stopped"):
        genets.search(data=data, budget="0.5x", out=tmp_path / "study")
    assert (passed["resolution"], len(passed["reasons"])) == (96, 4)
    monkeypatch.undo()
    asked = settings(rounds=1)
    search(asked, tmp_path / "other", reasons=("resolution 16: it fits",))
    assert (tmp_path / "other" / "study.log").read_text().count("resolution 16: it fits") == 1
