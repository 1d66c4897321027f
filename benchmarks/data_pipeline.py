"""Images per second on one core from a folder of JPEGs: genets' splits against torchvision.

torchvision uses ImageFolder and DataLoader, with the same transforms and batch size. Both run in
one thread without workers, and take turns batch by batch. The batches of the evaluation passes are
also compared with each other.
Run from the repository: python benchmarks/data_pipeline.py. Writes results/data_pipeline.json.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from conditions import write_result
from genets.data import Augmentation, Batch, Split, load_folder
from genets.latency import Target
from photos import write_photos

SIDES, RESOLUTION, CLASSES, SMALL = (500, 375), 224, 10, 10
BICUBIC = transforms.InterpolationMode.BICUBIC
TENSOR = (
    transforms.ToTensor(),
    transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
)
CROP = (
    transforms.RandomResizedCrop(RESOLUTION, interpolation=BICUBIC),
    transforms.RandomHorizontalFlip(),
)
JITTER = transforms.ColorJitter(0.4, 0.4, 0.4)
CENTRE = (
    transforms.Resize(int(RESOLUTION / 0.875), interpolation=BICUBIC),
    transforms.CenterCrop(RESOLUTION),
)
# genets' augmentation (None for an evaluation pass), and torchvision's transforms.
CASES: dict[str, tuple[Augmentation | None, tuple[Any, ...]]] = {
    "training: crop, flip": (Augmentation(colour_jitter=0.0), (*CROP, *TENSOR)),
    "training: crop, flip, colour jitter": (Augmentation(), (*CROP, JITTER, *TENSOR)),
    "evaluation: resize, centre crop": (None, (*CENTRE, *TENSOR)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--batch-size", type=int, default=50)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="genets-pipeline-") as folder:
        for label in range(CLASSES):
            photos = Path(folder) / "train" / f"class-{label}"
            write_photos(photos, options.images // CLASSES, SIDES, label)
            for part in ("val", "test"):
                write_photos(Path(folder) / part / photos.name, SMALL // CLASSES, SIDES, label)
        cases = {name: compare(Path(folder), name, options.batch_size) for name in CASES}
    figures = {"images": options.images, "sides": SIDES, "resolution": RESOLUTION,
               "batch_size": options.batch_size, "cores": 1, "cases": cases}  # fmt: skip
    write_result("data_pipeline", figures, Target(threads=1))


def compare(folder: Path, name: str, batch_size: int) -> dict[str, Any]:
    """Compare one case; each side runs one batch first, to warm up."""
    augmentation, steps = CASES[name]
    split = load_folder(folder, RESOLUTION, augmentation=augmentation, workers=0, check=False).train
    theirs = ImageFolder(str(folder / "train"), transforms.Compose(steps))
    for batches in passes(split, theirs, augmentation, batch_size):
        next(batches)
    ours_s, theirs_s = [], []
    for pair in zip(*map(timed, passes(split, theirs, augmentation, batch_size)), strict=True):
        (own, own_s), (other, other_s) = pair
        ours_s.append(own_s)
        theirs_s.append(other_s)
        assert own[0].shape == other[0].shape
        if augmentation is None:
            torch.testing.assert_close(own[0], other[0])
            assert torch.equal(own[1], other[1])
    pairs = list(zip(ours_s, theirs_s, strict=True))
    return {
        "genets_images_per_second": batch_size / statistics.median(ours_s),
        "torchvision_images_per_second": batch_size / statistics.median(theirs_s),
        "times_torchvision": statistics.median(other / own for own, other in pairs),
        "times_torchvision_quartiles": statistics.quantiles(
            (other / own for own, other in pairs), n=4
        ),
    }


def passes(
    split: Split, theirs: ImageFolder, augmentation: Augmentation | None, batch_size: int
) -> tuple[Iterator[Batch], Iterator[Batch]]:
    training = augmentation is not None
    loader = DataLoader(theirs, batch_size, shuffle=training, drop_last=training)
    return split.batches(batch_size, epoch=0 if training else None), iter(loader)


def timed(batches: Iterator[Batch]) -> Iterator[tuple[Batch, float]]:
    """Each batch, and the seconds that it took."""
    while True:
        start = time.perf_counter()
        try:
            batch = next(batches)
        except StopIteration:
            return
        yield batch, time.perf_counter() - start


if __name__ == "__main__":
    main()
