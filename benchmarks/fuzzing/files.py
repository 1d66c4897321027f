"""Valid files of every kind that genets reads; the mutations begin from these."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import genets
from conditions import ROOT
from genets.analysis import compare
from genets.analysis.comparison.networks import find_network
from genets.analysis.comparison.rows import Timing
from genets.analysis.masters import MasterScore
from genets.core.json_files import write_json
from genets.data import load_data
from genets.latency import Target
from genets.nas.study import layout
from genets.nas.study.study import Study
from genets.networks import build, export_onnx
from genets.structure import Structure
from genets.training import RunSettings, Score
from genets.training.recipe import Recipe, make_recipe
from genets.training.train_network import train_network

STORED = ROOT / "tests" / "data" / "stored_study"
STUDY, RUN, PHOTOS = Path("study"), Path("run"), Path("photos")
NOTATION = "Conv3x8s2 XX3x8s2*2 DW3x8r3 Conv1x16 @8"
OTHER = "Conv3x8s2 XX3x8s2 XX3x8 Conv1x16 @8"
RECIPE = 'epochs = 3\nbatch_size = 8\ncrop_area = [0.3, 1.0]\nauto_augment = ""\nmixup = 0.2\n'
CLASSES = Path(f"{layout.TEST}.json")  # the stored study is older than this file
CLASS_COUNTS = """{"class_names": ["a", "b", "c"], "master": [[0, 0, 5], [1, 2, 3]],
"winner": [[0, 0, 6], [2, 1, 2]], "difference": {"top1": 0.1, "half_width": 0.05, "images": 8}}"""
RANKING_RECIPE = Recipe(epochs=1)
RANKED = {"wide": Structure.parse(NOTATION), "thin": Structure.parse(OTHER)}
IMAGES = {
    "a.jpg": ("JPEG", "RGB"), "b.jpg": ("JPEG", "CMYK"), "c.png": ("PNG", "RGB"),
    "d.png": ("PNG", "P"), "e.png": ("PNG", "I;16"), "f.png": ("GIF", "P"), "g.bmp": ("BMP", "RGB"),
    "h.tif": ("TIFF", "RGB"), "i.webp": ("WEBP", "RGB"), "j.ppm": ("PPM", "RGB"),
    "k.jpg": ("JPEG2000", "RGB"), "l.jpg": ("TGA", "RGB"), "m.tiff": ("TIFF", "L"),
    "n.png": ("PNG", "RGBA"), "o.jpg": ("PCX", "RGB"), "p.jpg": ("ICO", "RGBA"),
}  # fmt: skip


def make_valid_files(root: Path) -> None:
    """Write every file that the subjects name; a small network is trained on small images."""
    shutil.copytree(STORED, root / STUDY)
    with Study.open(root / STUDY) as study:  # brings the files of an older version up to date
        study.results(), study.results(2)
    _write_images(root / PHOTOS)
    network = genets.load(root / STUDY / "results")
    export_onnx(network, root / STUDY / "results" / "network.onnx", 8)
    torch.save(build(Structure.parse(NOTATION), 10).state_dict(), root / "weights.pth")
    (root / STUDY / CLASSES).write_text(CLASS_COUNTS)
    Structure.parse(NOTATION).save(root / "structure.toml")
    (root / "settings.toml").write_text((root / STUDY / "study.toml").read_text())
    (root / "recipe.toml").write_text(RECIPE)
    recipe = make_recipe({"epochs": 1, "warmup_epochs": 0, "batch_size": 4})
    settings = RunSettings(network=OTHER, data=str(root / PHOTOS), recipe=recipe, resolution=16)
    train_network(settings, root / RUN, device="cpu", workers=0)
    (checkpoint,) = (root / RUN / "checkpoints").glob("*.safetensors")
    shutil.copy(checkpoint, root / "checkpoint.safetensors")
    (root / RUN / "broken.jsonl").write_text(
        "".join(
            f'{{"image": "{root / PHOTOS / name}", "reason": "x"}}\n'
            for name in ("cat/a.jpg", "dog/b.jpg")
        )
    )
    networks = [find_network(NOTATION), find_network(OTHER)]
    compare(networks, [Target(batch_size=1, threads=1)], timing=Timing(time_limit_s=0.01),
            file=root / "rows.json")  # fmt: skip
    (root / "profile").mkdir()
    write_json(root / "profile" / "profile.json", {"rows": [*map(_profile_row, (1.0, 0.5))]})
    _write_ranking(root / "masternets.json")


def _write_images(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for number, (name, (format_name, mode)) in enumerate(IMAGES.items()):
        path = folder / class_of(number) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        image = Image.fromarray(pixels)
        if mode == "I;16":
            image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 256)
        elif mode != "RGB":
            image = image.convert(mode)
        image.save(path, format=format_name)


def class_of(number: int) -> str:
    return ("cat", "dog")[number % 2]


def _profile_row(ratio: float) -> dict[str, Any]:
    latencies = {"ms_per_image": 1.0, "low_ms_per_image": 0.9, "high_ms_per_image": 1.1}
    target = {"device": "cpu", "engine": "torch", "precision": "fp32", "batch_size": 1}
    block = {"type": "XX" if ratio == 1 else "BL", "ratio": ratio, "width": 64}
    return {"figure": "3", "noisy": False, "resolution": 8, **latencies, **target, **block}


def _write_ranking(path: Path) -> None:
    data = load_data("digits", 8)
    scores = [
        MasterScore(name, seed, Score(0.5, 1.5, 300)).to_json()
        for name in RANKED
        for seed in (0, 1)
    ]
    record = {
        "structures": {name: str(structure) for name, structure in RANKED.items()},
        "data": [data.name, len(data.train), len(data.validation)],
        "recipe": asdict(RANKING_RECIPE),
        "scores": scores,
    }
    write_json(path, record)
