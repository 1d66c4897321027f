"""Commands on folders of images: what they print, read and require."""

import json
import shutil
import unicodedata

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save

from command_line import fails, invoke
from genets.core.errors import StudyError
from genets.nas.search import run_search
from genets.nas.settings.settings import SearchSettings
from genets.networks.weights import read_metadata

NETWORK = "Conv3x8s2 XX3x16s2 XX3x16 Conv1x16 @16"
QUICK = ("--batch-size", 8, "--threads", 1)


def write(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (18, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def fill(root, count, first_seed=0):
    for number, name in enumerate(("cat", "dog")):
        for image in range(count):
            write(root / name / f"{image}.png", first_seed + 1000 * number + image)
    return root


def train(data, *words):
    return invoke("train", NETWORK, "--data", data, "--epochs", 1, "--batch-size", 8, *words)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The results of a network for cats and dogs."""
    folder = tmp_path_factory.mktemp("trained")
    result = train(fill(folder / "photos", 12), "--out", folder / "run")
    assert result.exit_code == 0, result.output
    return folder / "run" / "results"


def evaluate(results, data, *words):
    return invoke("eval", results, "--data", data, *QUICK, *words)


def images_scored(result):
    assert result.exit_code == 0, result.output
    (accuracy,) = json.loads(result.stdout)["accuracy"].values()
    return accuracy["images"]


def test_train_says_once_what_it_understood(tmp_path):
    photos = fill(tmp_path / "photos" / "Training", 10).parent
    fill(photos / "Testing", 2, 500)
    (photos / "Training" / "cat" / "x.heic").write_bytes(b"x")
    result = train(photos, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith(str(photos))]
    assert lines == [
        f"{photos}: 2 classes (cat, dog); train: 16 images (Training); "
        "validation: 4 images (cut off the training images); test: 4 images (Testing)",
        f"{photos}: left out: 1 file .heic (Training/cat/x.heic)",
    ]
    assert "2 classes" not in train(photos, "--out", tmp_path / "run").stdout
    quiet = invoke("--quiet", "train", "--out", tmp_path / "run")
    assert (quiet.exit_code, quiet.stderr) == (0, "")
    verbose = invoke("--verbose", "train", "--out", tmp_path / "run")
    assert verbose.stderr.count("2 classes (cat, dog)") == 1


def test_eval_and_export_say_what_they_understood(results, tmp_path):
    fill(tmp_path / "photos" / "test", 3)
    result = evaluate(results, tmp_path / "photos", "--json")
    assert images_scored(result) == 6
    assert result.stderr.splitlines() == [
        f"{tmp_path / 'photos'}: 2 classes (cat, dog); test: 6 images (test); "
        "not read: train, validation"
    ]


def test_eval_reads_only_the_images_that_it_scores(results, tmp_path):
    fill(tmp_path / "train", 40)
    fill(tmp_path / "test", 3, 500)
    for path in (tmp_path / "train").rglob("*.png"):
        path.write_bytes(b"broken")
    assert images_scored(evaluate(results, tmp_path, "--json")) == 6
    message = fails(evaluate(results, tmp_path, "--split", "train"), "cannot be read, such as")
    assert "of 64 images" in message


def test_eval_of_all_images_needs_no_images_to_split(results, tmp_path):
    fill(tmp_path, 1)
    fails(evaluate(results, tmp_path), "has 1 training image; at least 2 are needed")
    assert images_scored(evaluate(results, tmp_path, "--split", "all", "--json")) == 2
    pytest.importorskip("onnxruntime")
    int8 = ("--split", "all", "--engine", "onnxruntime", "--precision", "int8", "--json")
    result = evaluate(results, tmp_path, *int8)
    assert result.exit_code == 0, result.output
    scored, _ = json.loads(result.stdout)["accuracy"].values()
    assert (scored["images"], scored["quantisation"]["images"]) == (2, 2)


def test_eval_of_all_stored_splits(results, tmp_path):
    for name, count in (("train", 3), ("val", 2), ("test", 1)):
        fill(tmp_path / name, count, 10 * count)
    assert images_scored(evaluate(results, tmp_path, "--split", "all", "--json")) == 12


def test_eval_of_a_test_split_of_broken_images_only(results, tmp_path):
    fill(tmp_path, 2)
    fails(evaluate(results, tmp_path / "none"), "does not exist")
    for path in tmp_path.rglob("*.png"):
        path.write_bytes(b"broken")
    all_images = ("--split", "all", "--max-broken-share")
    fails(evaluate(results, tmp_path, *all_images, 0.1), "4 of 4 images", "at most 10% may be")
    with pytest.warns(UserWarning, match="cannot be read"):
        fails(evaluate(results, tmp_path, *all_images, 1), "none of the images could be read")
    fails(evaluate(results, tmp_path, *all_images, 1.5), "from 0 to 1, not 1.5")


def test_a_run_inside_its_data_is_left_out(results, tmp_path, monkeypatch):
    monkeypatch.chdir(fill(tmp_path, 10))
    for _ in range(2):
        result = train(".")
        assert result.exit_code == 0, result.output
    (run,) = (tmp_path / "runs").iterdir()
    assert "left out: 1 folder with results of genets (runs)" in result.stderr
    result = evaluate(run / "results", ".", "--out", "scores")
    assert result.exit_code == 0, result.output
    assert list((tmp_path / "scores").glob("*.png"))
    result = evaluate(run / "results", ".", "--split", "all", "--json")
    assert images_scored(result) == 20
    assert "left out: 2 folders with results of genets (runs, scores)" in result.stderr


@pytest.mark.parametrize("place", ["cat", "cat/scores", "dog/a/b"])
def test_results_are_not_written_into_a_class_folder(results, tmp_path, place):
    before = sorted(fill(tmp_path, 4).rglob("*"))
    for command in ("eval", "export"):
        words = (results, "--data", tmp_path, "--out", tmp_path / place)
        fails(invoke(command, *words), f"{place} is in", "which holds images of data set")
    assert sorted(tmp_path.rglob("*")) == before


def test_one_broken_image_is_tolerated_and_the_share_is_an_option(tmp_path):
    fill(tmp_path / "photos", 18)
    for number in range(3):
        (tmp_path / "photos" / "cat" / f"{number}.png").write_bytes(b"broken")
        words = (tmp_path / "photos", "--out", tmp_path / f"run{number}", "--check-data")
        if number == 0:
            assert train(*words).exit_code == 0
        else:
            fails(train(*words), f"{number + 1} of 36 images", "--max-broken-share")
    words = (tmp_path / "photos", "--out", tmp_path / "tolerant", "--check-data")
    result = train(*words, "--max-broken-share", 0.1)
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "tolerant" / "results" / "result.json").read_text())
    assert any("3 images cannot be read" in note for note in record["notes"])


def test_the_share_of_broken_images_belongs_to_the_run(tmp_path):
    photos, run = fill(tmp_path / "photos", 18), tmp_path / "run"
    for number in range(9):
        (photos / "cat" / f"{number}.png").write_bytes(b"broken")
    result = train(photos, "--out", run, "--max-broken-share", 0.5)
    assert result.exit_code == 0, result.output
    again = invoke("train", "--out", run)
    assert again.exit_code == 0, again.output
    moved = shutil.copytree(photos, tmp_path / "moved")
    for data in (photos, moved):
        with pytest.warns(UserWarning, match="cannot be read"):
            scored = evaluate(run / "results", data, "--split", "train", "--json")
        assert 0 < images_scored(scored) < 24
    strict = evaluate(run / "results", photos, "--split", "train", "--max-broken-share", 0)
    fails(strict, "at most 0% may be broken")
    # The share may change while the run continues.
    fails(invoke("train", "--out", run, "--max-broken-share", 0.01), "at most 1% may be broken")
    fails(invoke("train", "--out", run), "at most 1% may be broken")
    assert invoke("train", "--out", run, "--max-broken-share", 0.5).exit_code == 0


def test_runs_that_stored_no_share_of_broken_images(tmp_path):
    photos, run = fill(tmp_path / "photos", 18), tmp_path / "run"
    for number in range(9):
        (photos / "cat" / f"{number}.png").write_bytes(b"broken")
    assert train(photos, "--out", run, "--max-broken-share", 0.5).exit_code == 0
    settings = json.loads((run / "settings.json").read_text())
    del settings["max_broken_share"]
    (run / "settings.json").write_text(json.dumps(settings))
    fails(invoke("train", "--out", run), "at most 1% may be broken")
    weights = run / "results" / "weights.safetensors"
    metadata = read_metadata(weights)
    origin = json.loads(metadata["images"])
    del origin["max_broken_share"]
    metadata["images"] = json.dumps(origin)
    weights.write_bytes(save(load_file(weights), metadata))
    fails(evaluate(run / "results", photos, "--split", "train"), "at most 1% may be broken")


def test_equal_images_in_train_and_test_give_one_warning(tmp_path):
    photos = fill(tmp_path / "photos" / "train", 10).parent
    fill(photos / "val", 3, 500)
    fill(photos / "test", 4, 700)
    for number in range(3):
        image = photos / "train" / "cat" / f"{number}.png"
        shutil.copy(image, photos / "test" / "cat" / f"copy{number}.png")
    result = train(photos, "--out", tmp_path / "run", "--check-data")
    assert result.exit_code == 0, result.output
    (line,) = [line for line in result.stderr.splitlines() if "equal files" in line]
    assert line.startswith(f"note: {photos} has equal files in several splits: 3 of 11 ")
    record = json.loads((tmp_path / "run" / "results" / "result.json").read_text())
    assert [note for note in record["notes"] if "3 of 11 test images are also train images" in note]
    (tmp_path / "file").write_text("")
    settings = SearchSettings(data=str(photos), budget="0.5x", resolution=16)
    with (
        pytest.raises(StudyError, match="file is a file"),
        pytest.warns(UserWarning, match="3 of 11 test images are also train images"),
    ):
        run_search(settings, tmp_path / "file")


def test_class_names_of_weights_and_runs_in_another_unicode_form(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "Blüte") for form in ("NFC", "NFD"))
    for name in (composed, decomposed):
        fill(tmp_path / name, 12)
        (tmp_path / name / "cat").rename(tmp_path / name / name)
    run = tmp_path / "run"
    assert train(tmp_path / composed, "--out", run).exit_code == 0
    assert images_scored(evaluate(run / "results", tmp_path / decomposed, "--json")) == 4
    # An older genets stored the names as the file system gave them.
    record = json.loads((run / "images.json").read_text())
    record["classes"] = [unicodedata.normalize("NFD", name) for name in record["classes"]]
    (run / "images.json").write_text(json.dumps(record))
    result = invoke("train", "--out", run)
    assert result.exit_code == 0, result.output
    state = load_file(run / "results" / "weights.safetensors")
    metadata = {"class_names": json.dumps([decomposed, "dog"]), "num_classes": "2"}
    (tmp_path / "old.safetensors").write_bytes(save(state, metadata))
    words = (NETWORK, "--weights", tmp_path / "old.safetensors", "--data", tmp_path / composed)
    assert images_scored(invoke("eval", *words, *QUICK, "--json")) == 4


def test_a_built_in_name_means_the_same_in_every_command(tmp_path, monkeypatch):
    """A folder `digits` in the working directory is given as `./digits`."""
    fill(tmp_path / "digits", 12)
    monkeypatch.chdir(tmp_path)
    remark = "digits is the built-in data set; for the folder of that name, write ./digits"
    for data, classes, count in (("digits", 10, 1), ("./digits", 2, 0)):
        run = tmp_path / f"run of {classes}"
        results = train(data, "--out", run), evaluate(run / "results", data, "--json")
        for result in results:
            assert result.exit_code == 0, result.output
            assert result.stderr.splitlines().count(remark) == count
        weights = json.loads((run / "results" / "result.json").read_text())
        assert len(weights["input"]["class_names"]) == classes
        assert json.loads(results[1].stdout)["split_from"] == "training"
        assert invoke("train", "--out", run).exit_code == 0  # the run continues with its data
