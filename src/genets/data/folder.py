"""A folder of images: class folders, or train, validation and test folders of class folders."""

from __future__ import annotations

import hashlib
import os
import struct
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset

from genets.data.pool import Augmentation, Pool, assemble
from genets.data.split import ImageData, name_some
from genets.errors import DataError

SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid"),
    "test": ("test", "testing"),
}
MOST_BROKEN = 0.01
BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)
"""What Pillow raises for files that are no images, or only the beginning of one."""


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Image files and their classes."""

    paths: Sequence[Path]
    labels: Sequence[int]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, position: int) -> tuple[Image.Image, int]:
        path = self.paths[position]
        try:
            with Image.open(path) as image:
                return image.convert("RGB"), self.labels[position]
        except BROKEN as error:
            raise DataError(f"image {path} cannot be read: {error}") from error


def load_folder(
    folder: str | Path,
    resolution: int,
    *,
    seed: int = 0,
    validation_share: float = 0.2,
    augmentation: Augmentation | None = None,
    workers: int | None = None,
) -> ImageData:
    """Read a folder of images.

    Either class folders lie directly below, or folders train, validation (val) and test with
    class folders in them; of these, validation and test may be missing. Every image is read
    once for a check: if at most 1 % are broken they are left out with a warning.
    workers: processes that read images; None chooses by the number of images.
    Raises DataError.
    """
    root = Path(folder).expanduser()
    parts = _parts(root)
    names = _folders(parts["train"])
    files = {purpose: _scan(part, names) for purpose, part in parts.items()}
    skipped = _broken(root, [path for part in files.values() for path, _ in part])
    pools = {purpose: _pool(part, set(skipped)) for purpose, part in files.items()}
    return assemble(
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
        skipped=skipped,
        fingerprint=_fingerprint(root, files),
    )


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


def _broken(root: Path, paths: list[Path]) -> tuple[Path, ...]:
    """Files that cannot be read, after a warning. Raises DataError if they are too many."""
    with ThreadPoolExecutor() as pool:
        reasons = list(pool.map(_fault, paths, chunksize=64))
    broken = [(path, reason) for path, reason in zip(paths, reasons, strict=True) if reason]
    if not broken:
        return ()
    path, reason = broken[0]
    what = (
        f"{len(broken)} of {len(paths)} images in {root} cannot be read, such as {path} ({reason})"
    )
    if len(broken) > MOST_BROKEN * len(paths):
        raise DataError(f"{what}; at most {MOST_BROKEN:.0%} may be broken")
    warnings.warn(f"{what}; they are left out", stacklevel=3)
    return tuple(path for path, _ in broken)


def _fault(path: Path) -> str:
    """Why the image cannot be read, or nothing."""
    try:
        with Image.open(path) as image:
            # JPEG decodes at an eighth of the size, several times as fast; others ignore it.
            image.draft("RGB", (1, 1))
            image.load()
    except BROKEN as error:
        return str(error) or type(error).__name__
    return ""


def _pool(files: list[tuple[Path, int]], skipped: set[Path]) -> Pool:
    good = [(path, label) for path, label in files if path not in skipped]
    labels = [label for _, label in good]
    return Pool(ImageFiles([path for path, _ in good], labels), labels)
