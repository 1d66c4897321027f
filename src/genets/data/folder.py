"""A folder of images: class folders, or train, validation and test folders with class folders."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset

from genets.core.errors import DataError
from genets.data.pixels import as_rgb
from genets.data.pool import Augmentation, Pool, assemble
from genets.data.share import WHOLE, Share
from genets.data.split import CPU, ImageData, name_some

SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid"),
    "test": ("test", "testing"),
}


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Image files and their classes."""

    paths: Sequence[str]
    labels: Sequence[int]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, position: int) -> tuple[Image.Image, int]:
        """Raises one of `BROKEN`."""
        with Image.open(self.paths[position]) as image:
            return as_rgb(image), self.labels[position]


def load_folder(
    folder: str | Path,
    resolution: int,
    *,
    seed: int = 0,
    augmentation: Augmentation | None = None,
    workers: int | None = None,
    share: Share = WHOLE,
    device: torch.device = CPU,
    check: bool = True,
) -> ImageData:
    """Read a folder of images.

    The folder holds either class folders, or folders train, validation (val) and test that hold
    class folders; validation and test may be missing.

    Args:
        folder: the folder.
        resolution: pixels along each side of the images.
        seed: decides the cut of the validation split.
        augmentation: of the training images; None is timm's standard augmentation.
        workers: processes that read images; None chooses by the number of images.
        share: the share of the images that this process reads.
        device: device of the images in a batch.
        check: read every image once now, so that broken images are reported and counted now and
            not when a pass meets them.

    Raises:
        DataError: the folder cannot be read, has too few images or classes, or more than 1 % of
            its images are broken.
    """
    root = Path(folder).expanduser()
    parts = _parts(root)
    names = _folders(parts["train"])
    files = {purpose: _scan(part, names) for purpose, part in parts.items()}
    pools = {purpose: _pool(part) for purpose, part in files.items()}
    data = assemble(
        str(folder),
        resolution,
        names,
        pools["train"],
        pools.get("validation"),
        pools.get("test"),
        seed=seed,
        augmentation=augmentation,
        workers=workers,
        share=share,
        device=device,
        paths=[str(path) for part in files.values() for path, _ in part],
        fingerprint=_fingerprint(root, files),
    )
    if check and data.broken is not None:
        data.broken.meet(data.broken.scan())
    return data


def _parts(root: Path) -> dict[str, Path]:
    """The folder of class folders for each split; without a train folder, the root is `train`."""
    children = _folders(root)
    if not children:
        raise DataError(
            f"folder {root} has no class folders; it needs one folder of images for each class"
        )
    parts = {
        purpose: root / name
        for purpose, names in SPLIT_FOLDERS.items()
        for name in names
        if name in children
    }
    if set(children) <= {part.name for part in parts.values()} and "train" not in parts:
        raise DataError(f"folder {root} has {name_some(children)} but no train folder")
    # A folder `train` that holds images directly is a class of that name.
    return parts if "train" in parts and _folders(parts["train"]) else {"train": root}


def _folders(folder: Path) -> list[str]:
    """The names of the folders directly below, without hidden folders, ascending."""
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    except FileNotFoundError:
        raise DataError(f"folder {folder} does not exist") from None
    except NotADirectoryError:
        raise DataError(f"{folder} is a file, not a folder of images") from None
    except OSError as error:
        raise DataError(f"folder {folder} cannot be read: {error.strerror}") from error


def _scan(part: Path, names: list[str]) -> list[tuple[Path, int]]:
    """Image files and classes below `part`, in a fixed order."""
    own = _folders(part)
    foreign = sorted(set(own) - set(names))
    if foreign:
        raise DataError(
            f"folder {part} has class {name_some(foreign)}, which the train folder does not have"
        )
    classes = {name: names.index(name) for name in own}
    images = make_dataset(part, classes, extensions=IMG_EXTENSIONS, allow_empty=True)
    lacking = sorted(set(names) - set(own))
    if lacking:
        raise DataError(
            f"folder {part} has no class {name_some(lacking)}, which the train folder has"
        )
    empty = sorted(set(own) - {names[label] for _, label in images})
    if empty:
        raise DataError(
            f"folder {part} has no image of class {name_some(empty)}; files that end in "
            f"{', '.join(IMG_EXTENSIONS)} are read as images"
        )
    return [(Path(path), label) for path, label in images]


def _fingerprint(root: Path, files: dict[str, list[tuple[Path, int]]]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for purpose, part in files.items():
        for path, label in part:
            name = path.relative_to(root).as_posix()
            digest.update(repr((purpose, name, label, path.stat().st_size)).encode())
    return digest.hexdigest()


def _pool(files: list[tuple[Path, int]]) -> Pool:
    labels = [label for _, label in files]
    return Pool(ImageFiles([str(path) for path, _ in files], labels), labels)
