"""Photographs for benchmarks: CIFAR-10 in three splits, as a folder of images.

The source has a folder `train` with a folder of images for each class. In each class, 1,500 images
are the test split (standard error of top-1 about 0.4 points with ten classes), 250 the validation
split and 250 the training split; the choice is the same in every run.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

SIZES = {"test": 1500, "validation": 250, "train": 250}  # images of each class
RESOLUTION = 32


def cifar10_settings(source: Path | None, folder: Path) -> dict[str, Any]:
    """Copy the splits into a folder, and give the settings of a search on them.

    Exits with a sentence where the source has no photographs.
    """
    if source is None or not (source / "train").is_dir():
        raise SystemExit(
            f"skipped: there are no photographs in {source}/train; give --photos FOLDER"
        )
    if not folder.exists():
        copied = folder.with_name(f"{folder.name}-copied")
        shutil.rmtree(copied, ignore_errors=True)  # of a run that was stopped
        split_photographs(source / "train", copied)
        copied.rename(folder)
    return {
        "data": str(folder), "master": "master_small", "resolution": RESOLUTION,
        "from_scratch": True,
    }  # fmt: skip


def split_photographs(source: Path, folder: Path) -> None:
    """Copy the images of each class into `folder/<split>/<class>`."""
    for images in sorted(path for path in source.iterdir() if path.is_dir()):
        files = np.random.default_rng(0).permutation(sorted(images.iterdir())).tolist()
        for split, size in SIZES.items():
            own = folder / split / images.name
            own.mkdir(parents=True)
            for file in files[:size]:
                shutil.copyfile(file, own / file.name)
            files = files[size:]
