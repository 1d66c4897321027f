"""`genets eval` and `genets export`, on the digits."""

import json

import pytest
import torch
from typer.testing import CliRunner

from genets.cli import app
from genets.data import load_digits
from genets.files import write_atomic
from genets.networks import build, save_weights
from genets.structure import Structure
from genets.structure.toml_file import format_toml
from genets.training import Recipe, evaluate, train

pytest.importorskip("onnxruntime")

STRUCTURE = Structure.parse("Conv3x16s2 XX3x32s2 XX3x48s2 Conv1x64 @16")
RECIPE = Recipe(12, batch_size=32, learning_rate=1.2, warmup_epochs=1, label_smoothing=0.0)
QUICK = ("--batch-size", 64, "--threads", 1)


def invoke(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A results folder with a network that knows something, and its test score."""
    folder = tmp_path_factory.mktemp("results")
    data = load_digits(16)
    torch.manual_seed(0)
    net = build(STRUCTURE, 10)
    train(net, data.train, RECIPE, seed=0)
    write_atomic(folder / "structure.toml", format_toml(STRUCTURE))
    metadata = {
        "num_classes": "10",
        "class_names": json.dumps(data.class_names),
        "mean": json.dumps(data.mean),
        "std": json.dumps(data.std),
    }
    save_weights(net, folder / "weights.safetensors", metadata)
    return folder, evaluate(net, data.test)


def test_eval_beside_torch(results) -> None:
    folder, expected = results
    words = ("eval", folder, "--data", "digits", "--engine", "onnxruntime", *QUICK)
    printed = json.loads(invoke(*words, "--precision", "int8", "--json").stdout)
    assert (printed["trained"], printed["data"], printed["split"]) == (True, "digits", "test")
    int8, fp32 = printed["accuracy"].values()
    assert list(printed["accuracy"]) == ["cpu-onnxruntime-int8-b64-t1", "cpu-torch-fp32-b64-t1"]
    assert fp32["top1"] == pytest.approx(expected.top1, abs=0.001)
    assert int8["top1"] == pytest.approx(expected.top1, abs=0.02)
    assert int8["cross_entropy"] != fp32["cross_entropy"]
    assert int8["quantisation"]["images"] == 300
    assert expected.top1 > 0.4, "an untrained network would make this test worthless"


def test_eval_table_of_one_target(results) -> None:
    folder, _ = results
    result = invoke("eval", folder, "--data", "digits", "--split", "validation", *QUICK)
    assert result.exit_code == 0, result.output
    assert "images of digits, validation" in result.stdout
    assert result.stdout.count("cpu-torch-fp32-b64-t1") == 1


def test_export_int8(results, tmp_path) -> None:
    folder, _ = results
    options = ("--precision", "int8", "--data", "digits", "--batch-size", 4, "--threads", 1)
    result = invoke("export", folder, *options, "--out", tmp_path / "a", "--json")
    printed = json.loads(result.stdout)
    assert printed["files"] == ["network.onnx"]
    assert printed["class_names"] == list("0123456789")
    assert printed["input"]["mean"] == list(load_digits(16).mean)
    assert printed["input"]["shape"] == [4, 3, 16, 16]
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
    ("words", "sentence"),
    [
        (("--split", "tset"), "unknown split 'tset'; did you mean test?"),
        (("--data", "digts"), "'digts'; did you mean digits?"),
        (("--engine", "onyxruntime"), "'onyxruntime'; did you mean onnxruntime?"),
        (("--precision", "int8"), "engine torch; it has fp32, bf16 there"),
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
