"""`predict.py` of an export against `genets eval`, image by image.

    python benchmarks/predict_agreement.py [--photos FOLDER] [--images 200] [--tiny]

A network is trained on the digits, and one on photographs: crops of scikit-learn's two photographs,
and the images of FOLDER, which holds one folder for each class, or a folder `train` with such
folders. Each network is exported for ONNX Runtime and OpenVINO in fp32 and int8. `genets eval
--predictions` and `predict.py`, in a process without genets, then classify the same image files at
the same batch size. Writes results/predict_agreement.json.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image

from conditions import add_tiny_option, write_result
from genets.data import load_digits
from genets.latency import Target

DIGITS_NETWORK = "Conv3x16s2 XX3x32s2 XX3x64s2 Conv1x128 @16"
PHOTO_NETWORK = "Conv3x16s2 XX3x32s2 BL3x64s2r0.5*2 DW3x64s2r3*2 Conv1x128 @64"
FORMS = [
    ("onnxruntime", "fp32"), ("openvino", "int8"), ("onnxruntime", "int8"), ("openvino", "fp32")
]  # fmt: skip
TINY_FORMS = 2
Forms = list[tuple[str, str]]
BATCH_SIZE = 8
TRAINING_IMAGES = 5  # for each image that is classified
# Regions of scikit-learn's photographs: name, left, top, right, bottom.
REGIONS = {
    "flower": ("flower.jpg", (150, 50, 550, 420)),
    "roof": ("china.jpg", (60, 180, 560, 420)),
    "sky": ("china.jpg", (0, 0, 640, 130)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, help="folder of photographs with class folders")
    parser.add_argument(
        "--images", type=int, default=200, help="images to classify of each data set"
    )
    add_tiny_option(parser)
    options = parser.parse_args()
    count, epochs = (40, 1) if options.tiny else (options.images, 20)
    forms = FORMS[: TINY_FORMS if options.tiny else None]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="genets-predict-") as name:
        folder = Path(name)
        write_digits(folder / "digits", count)
        rows += compare(folder, "digits", DIGITS_NETWORK, epochs, forms)
        write_crops(folder / "crops", count)
        rows += compare(folder, "crops", PHOTO_NETWORK, epochs, forms)
        if options.photos is None or not options.photos.is_dir():
            print(f"no photographs are compared: {options.photos} is no folder")
        else:
            copy_photos(options.photos, folder / "photos", count)
            rows += compare(folder, "photos", PHOTO_NETWORK, epochs, forms)
    figures = {
        "classes_equal_in_all": all(row["equal_classes"] == row["images"] for row in rows),
        "largest_probability_difference": max(row["largest_difference"] for row in rows),
        "batch_size": BATCH_SIZE,
        "rows": rows,
    }
    if options.tiny:
        print(figures)
    else:
        engines = dict.fromkeys(engine for engine, _ in FORMS)
        write_result("predict_agreement", figures, *(Target(engine=name) for name in engines))


def compare(
    folder: Path, name: str, network: str, epochs: int, forms: Forms
) -> Iterator[dict[str, Any]]:
    """Train a network on a data set, and compare both programs in each engine and precision."""
    data, run = folder / name, folder / f"{name}-run"
    genets("train", network, "--data", data, "--recipe", "quick",
           "--epochs", epochs, "--set", "batch_size=16", "--out", run)  # fmt: skip
    for engine, precision in forms:
        deploy, table = folder / f"{name}-{engine}-{precision}", folder / "predictions.csv"
        target = ("--engine", engine, "--precision", precision, "--batch-size", BATCH_SIZE)
        genets("export", run / "results", "--data", data, *target, "--out", deploy)
        genets("eval", run / "results", "--data", data, *target, "--predictions", table)
        with open(table, encoding="utf-8", newline="") as file:
            scored = {row["file"]: row for row in csv.DictReader(file)}
        predicted = classify(deploy, list(scored))
        assert predicted.keys() == scored.keys()
        pairs = [(scored[file], *predicted[file]) for file in scored]
        row = {
            "data": name,
            "engine": engine,
            "precision": precision,
            "images": len(pairs),
            "equal_classes": sum(own["predicted_class"] == label for own, label, _ in pairs),
            "largest_difference": max(
                abs(float(own["probability"]) - share) for own, _, share in pairs
            ),
            "top1": float(np.mean([own["true_class"] == label for own, label, _ in pairs])),
        }
        print(row, flush=True)
        yield row


def genets(*words: object) -> None:
    command = [sys.executable, "-m", "genets", "-q", *map(str, words)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def classify(deploy: Path, files: list[str]) -> dict[str, tuple[str, float]]:
    """Class and probability by file, from `predict.py` in a process without genets' path."""
    command = [sys.executable, "-I", str(deploy / "predict.py"), "--batch-size", str(BATCH_SIZE)]
    ran = subprocess.run([*command, *files], check=True, stdout=subprocess.PIPE, text=True)
    rows = (line.split("\t") for line in ran.stdout.splitlines())
    return {file: (label, float(share)) for file, label, share in rows}


def write_digits(folder: Path, count: int) -> None:
    """Write digits as PNG files, equally many of each class."""
    data = load_digits(16, views=1)
    for split, part in (("train", data.train), ("test", data.test)):
        for number, (images, labels) in enumerate(part.batches(1)):
            place = folder / split / data.class_names[int(labels[0])]
            place.mkdir(parents=True, exist_ok=True)
            share = count // data.num_classes * (TRAINING_IMAGES if split == "train" else 1)
            if len(list(place.iterdir())) < share:
                pixels = images[0].permute(1, 2, 0).numpy() * data.std + data.mean
                shown = np.rint(pixels * 255).clip(0, 255).astype(np.uint8)
                Image.fromarray(shown).save(place / f"{number:04d}.png")


def write_crops(folder: Path, count: int) -> None:
    """Write crops of several sizes and shapes of scikit-learn's photographs as JPEG files."""
    random = np.random.default_rng(0)
    splits = ["test"] * count + ["train"] * count * TRAINING_IMAGES
    for number, split in enumerate(splits):
        name = list(REGIONS)[number % len(REGIONS)]
        file, box = REGIONS[name]
        region = Image.fromarray(load_sample_image(file)).crop(box)
        width, height = (int(random.integers(60, 125)) for _ in range(2))
        left = int(random.integers(region.width - width))
        top = int(random.integers(region.height - height))
        (folder / split / name).mkdir(parents=True, exist_ok=True)
        crop = region.crop((left, top, left + width, top + height))
        crop.save(folder / split / name / f"{number:04d}.jpg", quality=88)


def copy_photos(source: Path, folder: Path, count: int) -> None:
    """Copy photographs of each class, for the training and for the test."""
    root = source / "train" if (source / "train").is_dir() else source
    classes = sorted(each for each in root.iterdir() if each.is_dir())
    share = -(-count // len(classes))
    for place in classes:
        files = sorted(place.iterdir())[: (1 + TRAINING_IMAGES) * share]
        for split, part in (("train", files[share:]), ("test", files[:share])):
            (folder / split / place.name).mkdir(parents=True)
            for file in part:
                shutil.copy(file, folder / split / place.name)


if __name__ == "__main__":
    main()
