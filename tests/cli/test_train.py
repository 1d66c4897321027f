"""`genets train`, on the digits and on a folder of images."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command_line import invoke
from genets.cli.train import _default_folder as default_folder
from json_keys import check_keys

NETWORK = "Conv3x8s2 XX3x16s2 XX3x16 Conv1x32 @16"
SHORT = ("--epochs", 1, "--batch-size", 512, "--device", "cpu")


def train(*words):
    return invoke("train", *words)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    result = train(NETWORK, "--data", "digits", *SHORT, "--out", out, "--json")
    assert result.exit_code == 0, result.output
    return out, json.loads(result.stdout)


def test_run_folder(trained) -> None:
    out, printed = trained
    check_keys("train", printed)
    assert printed["results"] == str(out / "results")
    assert (printed["epoch"], printed["epochs"], printed["test"]["images"]) == (1, 1, 1800)
    pictures = (out / "curves-loss.png", out / "curves-accuracy.png")
    assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in pictures)
    settings = json.loads((out / "settings.json").read_text())
    assert settings["recipe"]["learning_rate"] == 1.2
    assert settings["recipe_name"] == "quick"


def test_out_alone_goes_on(trained) -> None:
    out, printed = trained
    result = train("--out", out)
    assert result.exit_code == 0, result.output
    assert "weights of epoch 1 of 1" in result.stdout
    assert train("--out", out, "--seed", 3).stderr.count("seed: 0 in the run, 3 asked") == 1
    assert json.loads(train("--out", out, "--json").stdout) == printed


def test_eval_and_measure_take_the_results(trained) -> None:
    out, printed = trained
    words = ["eval", str(out / "results"), "--data", "digits", "--threads", "1", "--json"]
    accuracy = json.loads(invoke(*words).stdout)["accuracy"]
    (score,) = accuracy.values()
    assert score["top1"] == pytest.approx(printed["test"]["top1"], abs=0.001)


def test_fine_tuning_of_photos_from_a_results_folder(trained, tmp_path) -> None:
    random = np.random.default_rng(0)
    for name, level in (("cats", 60), ("dogs", 180)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(12):
            pixels = random.normal(level, 30, (20, 24, 3)).clip(0, 255).astype("uint8")
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    (tmp_path / "r.toml").write_text('epochs = 2\nwarmup_epochs = 0\nauto_augment = "original"\n')
    out, _ = trained
    words = (out / "results", "--data", tmp_path / "photos", "--out", tmp_path / "run",
             "--recipe-file", tmp_path / "r.toml", "--device", "cpu")  # fmt: skip
    assert "--set batch_size=16 fits" in train(*words).stderr
    assert not (tmp_path / "run").exists(), "a wrong batch size leaves no folder"
    result = train(*words, "--batch-size", 8, "--set", "erase=0.5", "--set", "mixup=0.2")
    assert result.exit_code == 0, result.output
    assert "note: weights" in result.stderr
    assert "the classifier (head.fc) is new, for 2" in result.stderr
    assert "epoch 2 of 2: loss" in result.stderr
    stored = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert stored["recipe_name"] == "finetune"
    assert (stored["recipe"]["ema_decay"], stored["recipe"]["auto_augment"]) == (0.99, "original")
    again = train(*words, "--batch-size", 8, "--set", "erase=0.5", "--set", "mixup=0.2")
    assert again.exit_code == 0, again.output


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "network must be given, or --out with a run"),
        (("--out", "gone"), "network must be given, because gone has no run to continue"),
        ((NETWORK,), "data must be given"),
        ((NETWORK, "--data", "digits", "--recipe", "papre"), "'papre'; did you mean paper?"),
        ((NETWORK, "--data", "digits", "--set", "epohcs=3"), "did you mean epochs"),
        (
            (NETWORK, "--data", "digits", "--learning-rate", "nan"),
            "learning_rate must be a finite number",
        ),
        (
            (NETWORK, "--data", "digits", "--learning-rate", "atuo"),
            "learning_rate must be a valid number or 'auto', not 'atuo'",
        ),
        ((NETWORK, "--data", "digits", "--weights", "gone.pth"), "no weights file 'gone.pth'"),
        ((NETWORK, "--data", "digits", "--resolution", "0"), "resolution for digits must be"),
        (
            (NETWORK, "--data", "digits", "--teacher", NETWORK, "--teacher-weights", "gone.pth"),
            "no weights file 'gone.pth'",
        ),
        (
            (NETWORK, "--data", "digits", "--pretrained"),
            "no pretrained weights exist for this structure",
        ),
    ],
)
def test_faults(words, sentence, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = train(*words)
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    assert sentence in result.stderr


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("data", ["digits", "./digits", "../digits", "~/digits", "../../digits"]),
        ("data", ["photos", "../photos", "~/photos"]),
        ("network", ["genet_large", "./genet_large", "../genet_large"]),
        ("network", ["ResNet-18", "ResNet-18/"]),
        ("network", [" ".join(["XX3x128s2"] * 9 + [end]) for end in ("@224", "@256")]),
    ],
)
def test_the_default_folders_of_different_runs_differ(name: str, texts: list[str]) -> None:
    others = {"network": "master_small", "data": "digits"}
    folders = {default_folder(others | {name: text}) for text in texts}
    assert len(folders) == len(texts)
    assert {folder.parent for folder in folders} == {Path("runs")}


@pytest.mark.parametrize("texts", [("photos", "./photos", "photos/"), ("./digits", "digits/")])
def test_the_default_folder_of_one_run_is_the_same(texts: tuple[str, ...]) -> None:
    folders = {default_folder({"network": "genet_large", "data": text}) for text in texts}
    assert len(folders) == 1


def test_the_default_folder_is_readable() -> None:
    for network, data in (("genet_large", "digits"), ("ResNet-18", "digits"), ("mine", "photos")):
        folder = default_folder({"network": network, "data": data})
        assert folder == Path(f"runs/{network}-{data}")


def test_the_default_folder_keeps_letters_of_every_script() -> None:
    folder = default_folder({"network": "master_small", "data": "屋顶/a b"})
    assert folder == Path("runs/master_small-屋顶_a_b")


@pytest.fixture(scope="module")
def unbalanced(tmp_path_factory) -> Path:
    """12 dark cats and 70 bright dogs: training images of 8 and 45."""
    random = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("unbalanced")
    for name, level, count in (("cats", 60, 12), ("dogs", 180, 70)):
        (folder / name).mkdir()
        for number in range(count):
            pixels = random.normal(level, 30, (20, 24, 3)).clip(0, 255).astype("uint8")
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


@pytest.mark.parametrize(
    ("words", "metric"),
    [
        ((), "top1"),
        (("--set", "class_weights=balanced"), "balanced_accuracy"),
        (("--metric", "balanced_accuracy"), "balanced_accuracy"),
        (("--metric", "top1", "--set", "class_weights=balanced"), "top1"),
    ],
)
def test_unbalanced_classes(unbalanced, words, metric, tmp_path) -> None:
    result = train(NETWORK, "--data", unbalanced, "--out", tmp_path / "run", "--epochs", 3,
                   "--batch-size", 16, "--device", "cpu", *words, "--json")  # fmt: skip
    assert result.exit_code == 0, result.output
    advice = "note: class dogs has 45 training images, and class cats has 8; to let all classes"
    assert result.stderr.count(advice) == (not words)
    assert "balanced accuracy" in result.stderr
    printed = json.loads(result.stdout)
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert printed["validation"][metric] == max(epoch[metric] for epoch in log)
    assert log[0]["balanced_images"] == pytest.approx(4 / (1 / 2 + 1 / 11))
    continued = train("--out", tmp_path / "run", "--json")
    assert json.loads(continued.stdout)["test"] == printed["test"]


def test_a_metric_that_is_none_is_refused(tmp_path) -> None:
    words = (NETWORK, "--data", "digits", "--out", tmp_path / "run")
    assert "did you mean balanced_accuracy?" in train(*words, "--metric", "balanced_acc").stderr
    wrong = train(*words, "--set", "class_weights=blanced").stderr
    assert "class_weights must be 'none' or 'balanced'" in wrong, wrong
