"""`predict.py` of an export: it needs no genets, and it predicts what `genets eval` predicts."""

import ast
import csv
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image
from results_lab import write_digits, write_results

from command_line import invoke
from genets.core.image_facts import Preprocessing
from genets.data.given_images import GivenImages
from genets.data.pixels import MEAN, STD
from genets.data.scoring import describe_input
from genets.latency import exported_script
from genets.latency.export import SCRIPT

pytest.importorskip("onnxruntime")

ALLOWED = {
    "argparse", "contextlib", "json", "numpy", "onnxruntime", "openvino", "pathlib", "PIL", "sys",
    "typing",
}  # fmt: skip
# Runs a script in a process that cannot import genets and what it is built on.
ISOLATED = """
import runpy, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("genets", "torch", "torchvision", "timm", "onnx"):
            raise ModuleNotFoundError(f"{name} is not installed")

sys.meta_path.insert(0, Refuse())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_it_is_short_and_needs_three_packages() -> None:
    source = SCRIPT.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 100
    nodes = [*ast.walk(ast.parse(source))]
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom)]
    assert {name.partition(".")[0] for name in names} == ALLOWED


def picture(size: tuple[int, int], seed: int = 0) -> Image.Image:
    """Smooth colours with noise, so that a shift by one pixel changes every value."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def save_pictures(folder) -> list[str]:
    deep = np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32)
    turned = Image.Exif()
    turned[0x0112] = 6  # the orientation of a phone that is held upright
    pictures = {
        **{f"{width}x{height}.png": picture((width, height)) for width, height in
           ((40, 30), (30, 40), (33, 33), (34, 32), (16, 16), (9, 7), (201, 17), (17, 201))},
        "grey.png": picture((40, 30)).convert("L"),
        "grey_alpha.png": picture((40, 30)).convert("LA"),
        "alpha.png": picture((40, 30)).convert("RGBA"),
        "bits.png": picture((40, 30)).convert("1"),
        "palette.gif": picture((40, 30)).quantize(16),
        "palette.png": picture((40, 30)).quantize(16),
        "cmyk.jpg": picture((40, 30)).convert("CMYK"),
        "deep.png": Image.fromarray(deep),
        "deep.tif": Image.fromarray(deep),
        "deep.pgm": Image.fromarray(deep),
        "turned.jpg": picture((41, 30)),
    }  # fmt: skip
    for name, image in pictures.items():
        options = {"exif": turned} if name == "turned.jpg" else {}
        image.save(folder / name, **options)
    return [str(folder / name) for name in pictures]


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "nearest"])
@pytest.mark.parametrize(("resolution", "crop_pct"), [(16, 1.0), (16, 0.875), (17, 0.9), (33, 1.1)])
def test_it_prepares_images_as_genets_does(tmp_path, interpolation, resolution, crop_pct) -> None:
    preprocessing = Preprocessing(
        mean=MEAN, std=STD, interpolation=interpolation, crop_pct=crop_pct
    )
    files = save_pictures(tmp_path)
    steps = json.loads(json.dumps(describe_input(preprocessing, resolution)))
    images = GivenImages(files, preprocessing, resolution)
    ((names, inputs),) = images.batches(len(files))
    assert names == files
    for file, expected in zip(files, inputs.numpy(), strict=True):
        actual = exported_script.read_image(file, steps)
        np.testing.assert_allclose(actual, expected, atol=1e-6, err_msg=file)


def test_it_refuses_what_genets_refuses(tmp_path) -> None:
    deep = tmp_path / "deep.tif"
    Image.fromarray(np.ones((9, 9), np.float32)).save(deep)
    preprocessing = Preprocessing(mean=MEAN, std=STD)
    images = GivenImages([str(deep)], preprocessing, 16)
    assert list(images.batches(1)) == []
    with pytest.raises(ValueError, match="pixels of mode F have no known range"):
        exported_script.read_image(str(deep), describe_input(preprocessing, 16))


@pytest.mark.parametrize("size", [(20_000, 1), (1, 20_001), (1_000_003, 3)])
@pytest.mark.parametrize("interpolation", ["bicubic", "lanczos"])
def test_long_images_take_little_memory(tmp_path, monkeypatch, size, interpolation) -> None:
    """A resize of the whole image would take gigabytes."""
    picture(size).save(tmp_path / "long.png")
    preprocessing = Preprocessing(mean=MEAN, std=STD, interpolation=interpolation)
    ((_, expected),) = GivenImages([str(tmp_path / "long.png")], preprocessing, 64).batches(1)
    sizes, resize = [], Image.Image.resize
    monkeypatch.setattr(
        Image.Image, "resize", lambda self, to, *rest: sizes.append(to) or resize(self, to, *rest)
    )
    steps = describe_input(preprocessing, 64)
    actual = exported_script.read_image(str(tmp_path / "long.png"), steps)
    assert [sorted(to) for to in sizes] == [[64, 73]]
    one_level = 1 / (255 * min(STD)) + 1e-6  # box and window are float32 in Pillow
    np.testing.assert_allclose(actual, expected[0].numpy(), atol=one_level)
    assert np.isclose(actual, expected[0].numpy(), atol=1e-5).mean() > 0.999


def test_no_other_program_is_started(tmp_path, monkeypatch) -> None:
    """Pillow gives an EPS file to Ghostscript, whatever the name of the file is."""
    # Importing the script switches Ghostscript off for this whole process.
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    file = tmp_path / "cat.jpg"
    file.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n%%EOF\n")
    preprocessing = Preprocessing(mean=MEAN, std=STD)
    assert list(GivenImages([str(file)], preprocessing, 16).batches(1)) == []
    assert not (tmp_path / "started").exists()
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", False)
    with pytest.raises(OSError, match="Ghostscript"):
        exported_script.read_image(str(file), describe_input(preprocessing, 16))
    assert not (tmp_path / "started").exists()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A results folder, and a data set of digits as PNG files with the files of its test split."""
    folder = tmp_path_factory.mktemp("trained")
    data = write_results(folder / "results", epochs=4)
    digits = folder / "digits"
    write_digits(digits / "train", data, 5, "train")
    return folder / "results", digits, write_digits(digits / "test", data, 5)


def run_script(folder, *words) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", ISOLATED, folder / "predict.py", *words]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True)


@pytest.mark.parametrize("batch_size", [1, 8])
@pytest.mark.parametrize(
    ("engine", "precision"),
    [("onnxruntime", "fp32"), ("onnxruntime", "int8"), ("openvino", "fp32")],
)
def test_a_process_without_genets_predicts_the_same(
    trained, tmp_path, engine, precision, batch_size
) -> None:
    pytest.importorskip(engine)
    results, digits, files = trained
    target = ("--engine", engine, "--precision", precision, "--batch-size", batch_size)
    options = ("--data", digits, *target, "--threads", 1)
    deployed = invoke("export", results, *options, "--out", tmp_path / "deploy")
    assert deployed.exit_code == 0, deployed.output
    table = tmp_path / "predictions.csv"
    scored = invoke("eval", results, *options, "--predictions", table)
    assert scored.exit_code == 0, scored.output
    with open(table, encoding="utf-8", newline="") as file:
        expected = {
            row["file"]: (row["predicted_class"], float(row["probability"]))
            for row in csv.DictReader(file)
        }
    assert sorted(expected) == sorted(map(str, files))
    ran = run_script(tmp_path / "deploy", "--batch-size", batch_size, *files)
    assert (ran.returncode, ran.stderr) == (0, "")
    rows = [line.split("\t") for line in ran.stdout.splitlines()]
    assert [row[0] for row in rows] == list(map(str, files))
    for name, label, probability in rows:
        assert label == expected[name][0], name
        assert float(probability) == pytest.approx(expected[name][1], abs=1e-5)


def test_a_file_that_is_no_image_is_named_and_the_others_are_classified(trained, tmp_path) -> None:
    results, _, files = trained
    deployed = invoke("export", results, "--threads", 1, "--out", tmp_path / "deploy")
    assert deployed.exit_code == 0, deployed.output
    (tmp_path / "broken.png").write_bytes(files[0].read_bytes()[:60])
    places = (files[0], tmp_path / "broken.png", tmp_path / "gone.png", files[1])
    ran = run_script(tmp_path / "deploy", "--batch-size", 3, *places)
    assert ran.returncode == 1
    assert [line.split("\t")[0] for line in ran.stdout.splitlines()] == [
        str(files[0]), str(files[1])
    ]  # fmt: skip
    first, second = ran.stderr.splitlines()
    assert first.startswith(f"{tmp_path / 'broken.png'} cannot be read: ")
    assert second.startswith(f"{tmp_path / 'gone.png'} cannot be read: ")


def test_an_export_without_its_data_is_refused(tmp_path) -> None:
    words = ("export", "master_small", "--threads", 1, "--out", tmp_path)
    assert invoke(*words).exit_code == 0
    ran = run_script(tmp_path, "a.png")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith("contract.json states no preprocessing")
