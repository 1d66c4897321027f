"""Classify image files: python predict.py IMAGE... [--batch-size 8]

Prints file, class and probability with tabs. Needs numpy, Pillow, and onnxruntime or openvino.
"""

import argparse
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import EpsImagePlugin, Image, ImageOps

FOLDER = Path(__file__).resolve().parent
EpsImagePlugin.gs_binary = False  # Pillow would start Ghostscript, another program


def read_image(path: str, steps: dict[str, Any]) -> Any:
    """The input that the network was trained with, of shape (3, height, width)."""
    with Image.open(path) as image:
        image.load()
        with contextlib.suppress(Exception):  # damaged EXIF: the image stays as it is stored
            ImageOps.exif_transpose(image, in_place=True)
        if image.mode in ("F", "I") and image.format != "PPM":
            raise ValueError(f"pixels of mode {image.mode} have no known range")
        deep = image.mode.startswith("I")  # 16 bits, of which the upper 8 are used
        eight: Any = Image.fromarray((np.asarray(image) >> 8).astype("u1")) if deep else image
        rgb = (eight.convert("RGBA") if eight.mode == "P" else eight).convert("RGB")
    pixels = np.asarray(resize_and_crop(rgb, steps), np.float32)
    mean, std = np.float32(steps["mean"]), np.float32(steps["std"])
    return (pixels * (1 / (255 * std)) - mean / std).transpose(2, 0, 1)


def resize_and_crop(image: Any, steps: dict[str, Any]) -> Any:
    resize, crop = steps["resize"], (steps["crop"]["width"], steps["crop"]["height"])
    assert resize["resized_side"] == "shorter", "predict.py knows no other resize"
    box, side, axis = [0.0, 0.0, *image.size], resize["pixels"], int(image.height > image.width)
    size = [int(side * length / min(image.size)) for length in image.size]
    start = [round(n / 2) if n > 0 else int(n / 2) for n in np.subtract(size, crop)]
    if max(size) > 99 * side > 99 * min(image.size):  # the whole would take gigabytes
        edges = (start[axis] + np.array([0, crop[axis]])) * (image.size[axis] / size[axis])
        box[axis::2] = int(edges[0]) - 4, int(edges[1]) + 5  # no filter reaches further
        edges, image = edges - box[axis], image.crop(box)
        box[:2], box[2:], box[axis::2] = [0, 0], image.size, edges
        size[axis], start[axis] = crop[axis], 0
    image = image.resize(size, Image.Resampling[resize["interpolation"].upper()], tuple(box))
    return image.crop((*start, start[0] + crop[0], start[1] + crop[1]))


def load_network(contract: dict[str, Any], batch_size: int) -> Any:
    """A function from a batch of exactly `batch_size` images to the logits."""
    path, settings, fed = FOLDER / contract["files"][0], contract["settings"], contract["input"]
    if path.suffix == ".xml":
        import openvino

        model = (core := openvino.Core()).read_model(path)
        model.reshape([batch_size, *fed["shape"][1:]])
        compiled = core.compile_model(model, "CPU", settings)
        return lambda images: compiled(images)[0]
    import onnxruntime as ort

    options = ort.SessionOptions()
    for field, number in settings["session"].items():
        setattr(options, field, number)
    session = ort.InferenceSession(path, options, settings["providers"], [settings["options"]])
    return lambda images: session.run(None, {fed["name"]: images.astype(fed["dtype"])})[0]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("images", nargs="+", metavar="IMAGE")
    parser.add_argument("--batch-size", type=int, default=1, help="images in one run; 1 by default")
    options = parser.parse_args()
    contract = json.loads((FOLDER / "contract.json").read_text(encoding="utf-8"))
    fed, names = contract["input"], contract["class_names"]
    if fed["mean"] is None:
        sys.exit("contract.json states no preprocessing: the network was exported without its data")
    batch_size = max(1, options.batch_size) if fed["shape"][0] == "N" else fed["shape"][0]
    run, status = load_network(contract, batch_size), 0
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    for start in range(0, len(options.images), batch_size):
        images = []
        for path in options.images[start : start + batch_size]:
            try:
                images.append((path, read_image(path, fed)))
            except Exception as error:  # Pillow raises errors of many kinds for broken files
                status = 1
                print(f"{path} cannot be read: {error}", file=sys.stderr)
        padded = [pixels for _, pixels in images + images[-1:] * (batch_size - len(images))]
        logits = run(np.ascontiguousarray(padded)).astype(np.float64) if images else []
        for (path, _), row in zip(images, logits, strict=False):
            best, share = int(row.argmax()), 1 / np.exp(row - row.max()).sum()
            print(path, names[best] if names else best, f"{share:.7f}", sep="\t")
    sys.exit(status)


if __name__ == "__main__":
    main()
