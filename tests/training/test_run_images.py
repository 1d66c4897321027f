"""Broken images in complete runs: they are named and counted, and too many stop the run."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
from PIL import Image

from genets.core.errors import GenetsError, TrainingError
from genets.core.progress import Progress
from genets.data import load_data
from genets.data.scoring import DEFAULT
from genets.networks import build, save_weights
from genets.networks.weights_facts import were_trained_on
from genets.structure import Structure
from genets.training import Listener, RunRecipe, RunSettings
from genets.training.run.distributed import Processes
from genets.training.run.epoch_log import read_log
from genets.training.run.inputs import load_images, log_broken, make_network
from genets.training.train_network import train_network

NETWORK = "Conv3x8s2 XX3x16s2 XX3x16 Conv1x16 @16"
RECIPE = RunRecipe(epochs=2, batch_size=20, learning_rate=0.1)  # 140 images: none is dropped
COUNT = 110  # of each of two classes: two broken ones are not too many


@pytest.fixture
def photos(tmp_path):
    random = np.random.default_rng(0)
    for name, level in (("cats", 60), ("dogs", 180)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(COUNT):
            pixels = random.normal(level, 30, (20, 24, 3)).clip(0, 255).astype("uint8")
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"


def damage(photos, split, *places):
    """Cut off the end of some files of a split."""
    chosen = getattr(load_data(photos, 16, check=False), split)
    paths = [Path(chosen.images.paths[chosen.positions[place]]) for place in places]
    for path in paths:
        path.write_bytes(path.read_bytes()[:70])
    return [str(path) for path in paths]


def run(photos, out, progress=lambda step: None, **options):
    notes = []
    settings = RunSettings(network=NETWORK, data=str(photos), recipe=RECIPE)
    listener = Listener(note=notes.append, progress=progress)
    return train_network(settings, out, device="cpu", listener=listener, **options), notes


def named(out):
    path = out / "broken.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line)["image"] for line in lines]


def test_a_scan_for_broken_images_does_not_change_the_run(photos, tmp_path):
    broken = [*damage(photos, "train", 3), *damage(photos, "validation", 0)]
    way, notes = run(photos, tmp_path / "way")
    steps: list[Progress] = []
    scanned, scan_notes = run(photos, tmp_path / "scanned", steps.append, check_data=True)
    read = [step.done for step in steps if step.phase == "reading images"]
    assert (read[0], read[-1]) == (1, 2 * COUNT)
    assert read == sorted(read)
    assert sorted(named(tmp_path / "way")) == sorted(named(tmp_path / "scanned")) == sorted(broken)
    for path in broken:
        assert len([note for note in notes if path in note]) == 1
        assert len([note for note in scan_notes if path in note]) == 1
    assert (way.validation, way.test) == (scanned.validation, scanned.test)
    assert way.validation.images == len(load_data(photos, 16, check=False).validation) - 1
    (said,) = way.notes
    assert said.startswith("2 images cannot be read and were skipped; see ")
    records = [json.loads(x) for x in (tmp_path / "way" / "log.jsonl").read_text().splitlines()]
    assert records[-1]["broken"] == 2


def test_a_continued_run_checks_broken_images_again(photos, tmp_path):
    (broken,) = damage(photos, "validation", 0)
    run(photos, tmp_path / "run")
    with open(tmp_path / "run" / "broken.jsonl", "a") as file:
        file.write('{"image": "half a li')
    _, notes = run(photos, tmp_path / "run")
    assert named(tmp_path / "run") == [broken]
    assert len([note for note in notes if broken in note]) == 1
    Image.new("RGB", (20, 24)).save(broken)
    (tmp_path / "run" / "images.json").unlink()
    with pytest.raises(GenetsError, match=r"images\.json is missing; begin"):
        run(photos, tmp_path / "run")


@pytest.mark.parametrize("line", ['{"picture": "a"}', "[1]", "9" * 5000, "\udcff"])
def test_a_damaged_list_of_broken_images_is_named(photos, tmp_path, line):
    path = tmp_path / "broken.jsonl"
    path.write_text(line + "\n", errors="surrogateescape")
    team = Processes("cpu", None, "fp32")
    with (
        pytest.raises(TrainingError, match=r"broken\.jsonl is damaged .*; remove it, and continue"),
        log_broken(load_data(photos, 16, check=False), path, team, print),
    ):
        pass


@pytest.mark.parametrize("line", ['{"epoch": 1}', "[1]", "9" * 5000, "\udcff"])
def test_a_damaged_log_is_named(tmp_path, line):
    path = tmp_path / "log.jsonl"
    path.write_text(line + "\n", errors="surrogateescape")
    with pytest.raises(TrainingError, match=r"log\.jsonl is damaged .*; remove it, and continue"):
        read_log(path)


@pytest.mark.parametrize("check_data", [True, False])
def test_too_many_broken_images_stop_the_run(photos, tmp_path, check_data):
    broken = damage(photos, "train", 3, 4, 5)
    with pytest.raises(GenetsError, match=r"3 of 220 images of .* cannot be read, such as"):
        run(photos, tmp_path / "run", check_data=check_data)
    assert not (tmp_path / "run" / "results").exists()
    assert sorted(named(tmp_path / "run")) == sorted(broken)


def test_a_split_without_an_image_gives_no_score(photos, tmp_path):
    for part, count in (("train", COUNT), ("validation", 1)):
        for name in ("cats", "dogs"):
            (tmp_path / "own" / part / name).mkdir(parents=True)
            for number in range(count):
                path = tmp_path / "own" / part / name / f"{number}.png"
                path.write_bytes((photos / name / f"{number}.png").read_bytes()[: 70 * count])
    for path in (tmp_path / "own" / "validation").rglob("*.png"):
        path.write_bytes(path.read_bytes()[:70])
    with pytest.raises(GenetsError, match="after epoch 1 there is no score: none of the images"):
        run(tmp_path / "own", tmp_path / "run")


def test_digits_have_no_files_to_check(tmp_path):
    notes = []
    settings = RunSettings(
        network=NETWORK, data="digits", recipe=RunRecipe(epochs=1, batch_size=512)
    )
    listener = Listener(note=notes.append)
    train_network(settings, tmp_path, device="cpu", listener=listener, check_data=True)
    assert notes == ["digits is not a folder of images, so its images are checked during training"]


@pytest.mark.parametrize(
    ("normalisation", "mean"), [("weights", (0.5,) * 3), ("data", (0.485, 0.456, 0.406))]
)
def test_images_are_normalised_as_the_starting_weights_need(photos, tmp_path, normalisation, mean):
    save_weights(timm.create_model("tf_efficientnet_lite0"), tmp_path / "w.safetensors", {})
    settings = RunSettings(
        network="timm:tf_efficientnet_lite0", data=str(photos), recipe=RECIPE, resolution=32,
        weights=str(tmp_path / "w.safetensors"), normalisation=normalisation,
    )  # fmt: skip
    data = load_images(settings, Processes("cpu", None, "fp32"), 0, print)
    assert data.mean == mean


def test_a_run_of_an_older_genets_keeps_its_normalisation():
    settings = RunSettings(network=NETWORK, data="digits", recipe=RECIPE)
    stored = settings.to_json()
    assert RunSettings.from_json(stored) == settings
    del stored["normalisation"]
    assert RunSettings.from_json(stored).normalisation == "data"


@pytest.mark.parametrize(
    ("changed", "seed", "words"),
    [
        (False, 0, None),
        (True, 0, "The images of .* have changed since the training"),
        (False, 1, "with the split of seed 0, and this is the split of seed 1"),
    ],
)
def test_a_new_split_of_the_images_of_the_starting_weights_is_noted(
    photos, tmp_path, changed, seed, words
):
    """Its validation and test images may be training images of the starting weights."""
    first, path = load_data(photos, 16), tmp_path / "w.safetensors"
    save_weights(build(Structure.parse(NETWORK), 2), path, first.weights_metadata())
    if changed:
        shutil.copy(photos / "cats" / "0.png", photos / "cats" / "new.png")
    data, notes = load_data(photos, 16, seed=seed), []
    settings = RunSettings(network=NETWORK, data=str(photos), recipe=RECIPE, weights=str(path))
    make_network(settings, data, True, notes.append)
    assert len(notes) == (0 if words is None else 1)
    if words is not None:
        assert re.search(f"{words}.* may have been trained on images that are now", notes[0])
    assert were_trained_on(str(path), data.origin)


def test_a_run_continues_without_its_starting_weights(photos, tmp_path):
    """Its checkpoints state the mean and the deviation of its images."""
    path, out = tmp_path / "w.safetensors", tmp_path / "run"
    net, texts = build(Structure.parse(NETWORK), 2), load_data(photos, 16).weights_metadata()
    preprocessing = replace(DEFAULT, mean=(0.4, 0.5, 0.6)).to_json()
    save_weights(net, path, texts | {"preprocessing": json.dumps(preprocessing)})
    settings = RunSettings(network=NETWORK, data=str(photos), recipe=RECIPE, weights=str(path))
    first = train_network(settings, out, device="cpu")
    path.unlink()
    (out / "checkpoints" / "epoch-9999-step-000000.damaged.safetensors").write_text("")
    again = train_network(settings, out, device="cpu")
    assert again.test == first.test
    contract = json.loads((out / "results" / "result.json").read_text())["input"]
    assert contract["mean"] == [0.4, 0.5, 0.6]
