"""`genets predict`: the classes of image files, in every form and from every place."""

import csv
import json
import os

import numpy as np
import pytest
import torch
from PIL import Image
from results_lab import write_digits, write_results
from torch import Tensor

from command_line import fails, invoke
from genets.networks import load
from json_keys import check_keys

QUICK = ("--threads", 1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A results folder, its digits, and PNG files of digits in a folder."""
    folder = tmp_path_factory.mktemp("trained")
    data = write_results(folder / "results", epochs=3)
    return folder / "results", data, write_digits(folder / "digits", data, 2)


def predictions(*words) -> list[dict[str, object]]:
    result = invoke("predict", *words, *QUICK, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)["images"]


def test_json_is_what_the_network_computes(trained) -> None:
    results, data, files = trained
    printed = json.loads(invoke("predict", results, *files, *QUICK, "--json").stdout)
    check_keys("predict", printed | {"unreadable": [{"file": "", "reason": ""}]})
    assert [row["file"] for row in printed["images"]] == list(map(str, files))
    network = load(results)
    for row in printed["images"]:
        assert [row["class"], row["probability"]] == [*row["classes"][0].values()]
        with Image.open(row["file"]) as image:
            pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
        mean, std = (torch.tensor(each).view(3, 1, 1) for each in (data.mean, data.std))
        with torch.inference_mode():
            expected = network(((pixels - mean) / std)[None]).softmax(1)[0]
        best = expected.topk(3)
        for each, share, number in zip(row["classes"], *map(Tensor.tolist, best), strict=True):
            assert each["class"] == data.class_names[number]
            assert each["probability"] == pytest.approx(share, abs=1e-5)


def test_csv_and_table_hold_the_same(trained) -> None:
    results, _, files = trained
    rows = predictions(results, *files)
    result = invoke("predict", results, *files, *QUICK, "--csv", "--top", 2)
    table = list(csv.DictReader(result.stdout.splitlines()))
    assert list(table[0]) == ["file", "class", "probability", "class_2", "probability_2"]
    for line, row in zip(table, rows, strict=True):
        assert (line["file"], line["class"]) == (row["file"], row["class"])
        assert float(line["probability"]) == pytest.approx(row["probability"], abs=1e-6)
        assert line["class_2"] == row["classes"][1]["class"]
    screen = invoke("predict", results, files[0], *QUICK)
    assert screen.exit_code == 0, screen.output
    assert f"{rows[0]['probability']:.1%}" in screen.stdout


def test_a_folder_is_searched_and_each_file_is_shown_once(trained) -> None:
    results, _, files = trained
    folder = files[0].parent.parent
    shown = predictions(results, folder, files[3], "--batch-size", 7)
    assert [row["file"] for row in shown] == list(map(str, files))


@pytest.mark.parametrize("engine", ["torch", pytest.param("onnxruntime"), pytest.param("openvino")])
def test_every_engine(trained, engine) -> None:
    if engine != "torch":
        pytest.importorskip(engine)
    results, _, files = trained
    expected = predictions(results, *files[:3])
    for row, other in zip(
        predictions(results, *files[:3], "--engine", engine), expected, strict=True
    ):
        assert row["class"] == other["class"]
        assert row["probability"] == pytest.approx(other["probability"], abs=1e-5)


def test_int8_takes_its_ranges_from_the_data(trained) -> None:
    pytest.importorskip("onnxruntime")
    results, _, files = trained
    words = (results, files[0], "--engine", "onnxruntime", "--precision", "int8")
    fails(invoke("predict", *words), "precision int8 needs --data")
    (row,) = predictions(*words, "--data", "digits")
    (expected,) = predictions(results, files[0])
    assert row["probability"] == pytest.approx(expected["probability"], abs=0.2)


def test_a_broken_image_costs_no_other_result(trained, tmp_path) -> None:
    results, _, files = trained
    broken = tmp_path / "broken.png"
    broken.write_bytes(files[0].read_bytes()[:50])
    result = invoke("predict", results, broken, files[0], *QUICK, "--json")
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert [row["file"] for row in printed["images"]] == [str(files[0])]
    assert [row["file"] for row in printed["unreadable"]] == [str(broken)]
    assert f"image {broken} cannot be read (" in result.stderr
    result = invoke("predict", results, broken, *QUICK)
    fails(result, "none of the images can be read")


def test_files_that_are_left_out_are_named(trained, tmp_path) -> None:
    results, _, files = trained
    (tmp_path / "notes.heic").write_text("")
    fails(invoke("predict", results, tmp_path), "holds no image; left out: 1 file .heic")
    (tmp_path / "a.png").write_bytes(files[0].read_bytes())
    result = invoke("predict", results, tmp_path, *QUICK)
    assert result.exit_code == 0, result.output
    assert f"{tmp_path}: 1 image; left out: 1 file .heic (notes.heic)" in result.stderr


def test_a_pipe_is_no_image(trained, tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    fails(invoke("predict", trained[0], tmp_path / "pipe.png"), "pipe.png' is not an image file")


def test_faults(trained, tmp_path) -> None:
    results, _, files = trained
    fails(
        invoke("predict", results, tmp_path / "no.png"),
        "image file or folder",
        "no.png' does not exist",
    )
    (tmp_path / "empty").mkdir()
    fails(invoke("predict", results, tmp_path / "empty"), "holds no image")
    fails(invoke("predict", "master_small", files[0]), "master_small has fresh weights")
    fails(invoke("predict", results, files[0], "--csv", "--json"), "--csv or --json, not both")
    (tmp_path / "contract.json").write_text("{}")
    fails(invoke("predict", tmp_path, files[0]), "is an export", "predict.py")
