"""`genets eval` and `genets export`, on the digits."""

import csv
import json

import pytest
import torch
from results_lab import write_results
from safetensors.torch import load_file, save

from command_line import invoke
from genets.core.files import write_atomic
from genets.data import load_digits
from genets.networks import build, save_weights
from genets.networks.weights import published_names
from genets.structure import Structure
from genets.training import Recipe, evaluate, train
from json_keys import check_keys

pytest.importorskip("onnxruntime")

STRUCTURE = Structure.parse("Conv3x16s2 XX3x32s2 XX3x48s2 Conv1x64 @16")
OTHER = "Conv3x16s2 XX3x32s2 XX3x32 Conv1x64 @16"
RECIPE = Recipe(12, batch_size=32, learning_rate=1.2, warmup_epochs=1, label_smoothing=0.0)
QUICK = ("--batch-size", 64, "--threads", 1)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A results folder with a network that knows something, and its test score."""
    folder = tmp_path_factory.mktemp("results")
    data = load_digits(16)
    torch.manual_seed(0)
    net = build(STRUCTURE, 10)
    train(net, data.train, RECIPE, seed=0)
    write_atomic(folder / "structure.toml", STRUCTURE.to_toml())
    save_weights(net, folder / "weights.safetensors", data.weights_metadata())
    return folder, evaluate(net, data.test)


def test_eval_beside_torch(results) -> None:
    folder, expected = results
    words = ("eval", folder, "--data", "digits", "--engine", "onnxruntime", *QUICK)
    printed = json.loads(invoke(*words, "--precision", "int8", "--json").stdout)
    check_keys("eval", printed)
    assert (printed["trained"], printed["data"], printed["split"]) == (True, "digits", "test")
    int8, fp32 = printed["accuracy"].values()
    assert list(printed["accuracy"]) == ["cpu-onnxruntime-int8-b64-t1", "cpu-torch-fp32-b64-t1"]
    assert fp32["top1"] == pytest.approx(expected.top1, abs=0.001)
    assert int8["top1"] == pytest.approx(expected.top1, abs=0.02)
    assert int8["cross_entropy"] != fp32["cross_entropy"]
    assert int8["quantisation"]["images"] == 300
    assert printed["calibration"] == {"data": "digits", "split": "train", "split_from": "training"}
    assert expected.top1 > 0.4, "an untrained network would make this test worthless"


def test_eval_table_of_one_target(results) -> None:
    folder, _ = results
    result = invoke("eval", folder, "--data", "digits", "--split", "validation", *QUICK)
    assert result.exit_code == 0, result.output
    assert "images of digits, validation (split of the training)" in " ".join(result.stdout.split())
    assert result.stdout.count("cpu-torch-fp32-b64-t1") == 1


def scores(*words):
    """top-1 and cross-entropy of the only target, and the whole record."""
    result = invoke("eval", *words, "--data", "digits", *QUICK, "--json")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    (one,) = record["accuracy"].values()
    return (one["top1"], one["cross_entropy"]), record


def test_eval_by_class_and_its_files(results, tmp_path) -> None:
    folder, _ = results
    words = ("eval", folder, "--data", "digits", *QUICK, "--out", tmp_path / "scores")
    result = invoke(*words)
    assert result.exit_code == 0, result.output
    assert "most often taken for" in result.stdout
    assert str(tmp_path / "scores" / "confusion-cpu-torch-fp32-b64-t1.png") in result.stdout
    record = json.loads((tmp_path / "scores" / "eval.json").read_text())
    (one,) = record["accuracy"].values()
    assert [row["class"] for row in one["classes"]] == list("0123456789")
    assert sum(row["images"] for row in one["classes"]) == one["images"]
    wrong = sum(pair["images"] for pair in one["confusions"])
    assert one["top1"] == pytest.approx(1 - wrong / one["images"])
    assert one["confusions"][0]["images"] == max(pair["images"] for pair in one["confusions"])


def test_all_splits_together(results) -> None:
    folder, _ = results
    data = load_digits(16)
    _, record = scores(folder, "--split", "all")
    (one,) = record["accuracy"].values()
    assert one["images"] == len(data.test) + len(data.validation) + len(data.train)


def test_weights_from_files(results, tmp_path) -> None:
    folder, _ = results
    expected, record = scores(folder)
    assert record["weights"] == "results folder"
    found, record = scores(str(STRUCTURE), "--weights", folder / "weights.safetensors")
    assert found == expected
    assert (record["weights"], record["trained"]) == (str(folder / "weights.safetensors"), True)
    # The weights state the resolution of their training.
    other = str(STRUCTURE).replace("@16", "@24")
    found, record = scores(other, "--weights", folder / "weights.safetensors")
    assert (found, record["resolution"]) == (expected, 16)
    # Under the names that the paper's authors use.
    state = load_file(folder / "weights.safetensors")
    theirs = {name: state[own] for name, own in published_names(state).items()}
    torch.save({"state_dict": theirs, "acc": 0.5}, tmp_path / "GENet.pth")
    assert scores(str(STRUCTURE), "--weights", tmp_path / "GENet.pth")[0] == expected
    assert scores(str(STRUCTURE))[0] != expected


def test_images_are_normalised_as_the_weights_expect(results, tmp_path) -> None:
    folder, _ = results
    expected, _ = scores(folder)
    state, other = load_file(folder / "weights.safetensors"), tmp_path / "other.safetensors"
    metadata = {"mean": "[0.1, 0.2, 0.3]", "std": "[0.5, 0.5, 0.9]"}
    other.write_bytes(save(state, metadata))
    found, record = scores(str(STRUCTURE), "--weights", other)
    assert found != expected
    assert (record["mean"], record["std"]) == ([0.1, 0.2, 0.3], [0.5, 0.5, 0.9])


def test_weights_that_do_not_fit(results, tmp_path) -> None:
    folder, _ = results
    digits = ("--data", "digits", *QUICK)
    own = load_file(folder / "weights.safetensors")
    (tmp_path / "other").mkdir()
    for name in ("structure.toml", "weights.safetensors"):
        (tmp_path / "other" / name).write_bytes((folder / name).read_bytes())
    names = {"num_classes": "10", "class_names": json.dumps([*"012345678", "nine"])}
    (tmp_path / "other" / "weights.safetensors").write_bytes(save(own, names))
    seven = build(STRUCTURE, 7)
    torch.save(seven.state_dict(), tmp_path / "seven.pth")
    for words, sentence in (
        (
            (str(STRUCTURE), "--weights", tmp_path / "seven.pth"),
            "are for 7 classes, not for 10",
        ),
        ((str(STRUCTURE), "--weights", tmp_path / "no.pth"), "no weights file"),
        (
            (OTHER, "--weights", folder / "weights.safetensors"),
            "are not of this network",
        ),
        ((folder, "--weights", folder / "weights.safetensors"), "has its own weights"),
        ((folder, "--pretrained"), "leave --pretrained out"),
        (("genet_light", "--pretrained", "--weights", "x"), "not both"),
        ((tmp_path / "other",), "different names for 1 of 10 classes, such as 'nine' and '9'"),
    ):
        result = invoke("eval", *words, *digits)
        assert (result.exit_code, result.stdout) == (2, "")
        assert sentence in result.stderr
        assert len(result.stderr.splitlines()) == 1


def test_export_int8(results, tmp_path) -> None:
    folder, _ = results
    options = ("--precision", "int8", "--data", "digits", "--batch-size", 4, "--threads", 1)
    options += ("--batch-dimension", "both")
    result = invoke("export", folder, *options, "--out", tmp_path / "a", "--json")
    printed = json.loads(result.stdout)
    check_keys("export", printed)
    assert printed["files"] == ["network.onnx"]
    assert printed["measured"]["files"] == ["network-batch4.onnx"]
    assert printed["calibration"] == {"data": "digits", "split": "train", "split_from": "training"}
    assert printed["class_names"] == list("0123456789")
    assert printed["input"]["mean"] == list(load_digits(16).mean)
    assert printed["input"]["shape"] == ["N", 3, 16, 16]
    assert printed["data"] == "digits"
    assert printed["quantisation"]["ranges_from"] == "images"
    assert (tmp_path / "a" / "contract.json").exists()


def test_export_of_an_untrained_network(tmp_path) -> None:
    result = invoke("export", str(STRUCTURE), *QUICK, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert "not known" in result.stdout
    contract = json.loads((tmp_path / "contract.json").read_text())
    assert (contract["trained"], contract["class_names"]) == (False, None)


@pytest.mark.parametrize(
    ("form", "numbers"), [("free", ["any"]), ("fixed", ["64"]), ("both", ["any", "64"])]
)
def test_the_screen_says_which_file_takes_how_many_images(tmp_path, form, numbers) -> None:
    words = ("export", str(STRUCTURE), *QUICK, "--out", tmp_path, "--batch-dimension", form)
    result = invoke(*words)
    assert result.exit_code == 0, result.output
    said = {"any": "any number of images in one run", "64": "exactly 64 images in one run"}
    lines = [line for line in result.stdout.splitlines() if ".onnx: " in line]
    for line, number in zip(lines, numbers, strict=True):
        assert said[number] in line


def test_the_split_of_the_training_is_used_or_said_to_be_unknown(tmp_path) -> None:
    write_results(tmp_path, seed=5)
    words = (tmp_path, "--split", "validation")
    _, record = scores(*words)
    assert record["split_from"] == "training"
    result = invoke("eval", *words, "--data", "digits", *QUICK, "--json", "--seed", 5)
    assert json.loads(result.stdout)["accuracy"] == record["accuracy"]
    assert result.stderr == ""
    result = invoke("eval", *words, "--data", "digits", *QUICK, "--json", "--seed", 4)
    other = json.loads(result.stdout)
    assert other["split_from"] == "unknown"
    assert other["accuracy"] != record["accuracy"]
    assert result.stderr == (
        "The weights were trained with the split of seed 5, and this is the split of seed 4. "
        "The network may have been trained on some of the scored images, so the scores may be too "
        "high.\n"
    )
    # A file of weights that says nothing about its training.
    state = load_file(tmp_path / "weights.safetensors")
    (tmp_path / "plain.safetensors").write_bytes(save(state))
    words = (str(STRUCTURE), "--weights", tmp_path / "plain.safetensors", "--split", "validation")
    result = invoke("eval", *words, "--data", "digits", *QUICK, "--json")
    assert json.loads(result.stdout)["split_from"] == "unknown"
    assert "do not say on which images of digits they were trained" in result.stderr


def test_predictions_of_each_image(results, tmp_path) -> None:
    folder, _ = results
    table = tmp_path / "predictions.csv"
    (top1, _), _ = scores(folder, "--predictions", table)
    with open(table, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["file", "true_class", "predicted_class", "probability"]
    right = sum(row["true_class"] == row["predicted_class"] for row in rows)
    assert right / len(rows) == pytest.approx(top1)
    assert all(0.1 <= float(row["probability"]) <= 1 for row in rows)
    assert rows[0]["file"] == "0 of the test split"
    result = invoke("eval", folder, "--data", "digits", "--predictions", tmp_path / "no" / "a.csv")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "its folder does not exist" in result.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--split", "tset"), "unknown split 'tset'; did you mean test?"),
        (("--data", "digts"), "torch/cifar10 or hfds/food101); did you mean digits?"),
        (("--engine", "onyxruntime"), "'onyxruntime'; did you mean onnxruntime?"),
        (("--precision", "int8"), "engine torch; available are fp32, bf16"),
    ],
)
def test_eval_faults(words, sentence) -> None:
    result = invoke("eval", str(STRUCTURE), "--data", "digits", *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert sentence in result.stderr


def test_export_faults(tmp_path) -> None:
    out = ("--out", tmp_path / "a")
    assert "writes no files" in invoke("export", str(STRUCTURE), "--engine", "torch", *out).stderr
    result = invoke("export", str(STRUCTURE), "--precision", "int8", *out)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--data" in result.stderr
    assert not (tmp_path / "a").exists()
