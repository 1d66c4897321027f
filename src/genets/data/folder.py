"""A folder of images: class folders, or train, validation and test folders of class folders."""

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
    validation_share: float = 0.2,
    augmentation: Augmentation | None = None,
    workers: int | None = None,
    share: Share = WHOLE,
    device: torch.device = CPU,
    check: bool = True,
) -> ImageData:
    """Read a folder of images.

    Either class folders lie directly below, or folders train, validation (val) and test with
    class folders in them; of these, validation and test may be missing.
    workers: processes that read images; None chooses by the number of images.
    share: what this process reads. device: that images are given on. check: read every image
    once beforehand, so that broken ones are named and counted now, and not when they are met.
    Raises DataError: among others, more than 1 % of the images are broken.
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
        validation_share=validation_share,
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
    """The folder of class folders for each purpose; without a train folder that is the root."""
    children = _folders(root)
    if not children:
        raise DataError(
            f"folder {root} has no class folders; it needs one folder of images for each class"
        )
    found = {
        purpose: root / name
        for purpose, names in SPLIT_FOLDERS.items()
        for name in names
        if name in children
    }
    if set(children) <= {part.name for part in found.values()} and "train" not in found:
        raise DataError(f"folder {root} has {name_some(children)} but no train folder")
    # A folder `train` that holds images directly is a class of that name.
    return found if "train" in found and _folders(found["train"]) else {"train": root}


def _folders(folder: Path) -> list[str]:
    """Names of the folders directly below, hidden ones left out, ascending."""
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
            f"folder {part} has class {name_some(foreign)}, which the train folder lacks"
        )
    classes = {name: names.index(name) for name in own}
    found = make_dataset(part, classes, extensions=IMG_EXTENSIONS, allow_empty=True)
    lacking = sorted(set(names) - set(own))
    if lacking:
        raise DataError(
            f"folder {part} lacks class {name_some(lacking)}, which the train folder has"
        )
    empty = sorted(set(own) - {names[label] for _, label in found})
    if empty:
        raise DataError(
            f"folder {part} has no image of class {name_some(empty)}; files that end in "
            f"{', '.join(IMG_EXTENSIONS)} count as images"
        )
    return [(Path(path), label) for path, label in found]


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
