"""Data sets by the names that `timm.data.create_dataset` takes: torch/, hfds/, tfds/, wds/."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from PIL import Image
from timm.data.dataset_factory import create_dataset

from genets.core.errors import DataError, first_line
from genets.data.pixels import read_rgb
from genets.data.pool import PoolOptions, assemble
from genets.data.pool_cuts import Pool
from genets.data.split import SPLITS, ImageData

PREFIXES = ("torch", "hfds", "hfids", "tfds", "wds")
STREAMS = ("hfids", "tfds", "wds")
MAX_IN_MEMORY = 100_000
# Errors that a reader raises for a split that a data set does not have. timm knows the names of
# torchvision's two splits, so each error of torchvision is a failure.
MISSING_SPLIT: dict[str, tuple[type[Exception], ...]] = {
    "hfds": (ValueError,),
    "hfids": (ValueError,),
    "tfds": (KeyError, ValueError),
    "wds": (RuntimeError,),
}


def load_timm(
    name: str,
    resolution: int,
    *,
    root: str | Path | None = None,
    **options: Unpack[PoolOptions],
) -> ImageData:
    """Load a data set by a name such as `torch/cifar10` or `hfds/food101`.

    The splits `validation` and `test` are used where the data set has them with labels; otherwise
    they are cut off the training split. torchvision's second split is the test split. Streams
    (tfds, wds, hfids) are read into memory, up to 100,000 images in a split.

    Args:
        name: the name with its prefix.
        resolution: pixels along each side of the images.
        root: folder of the files; None means the library's cache, and `~/.cache/genets` for
            torchvision.
        options: see `PoolOptions`.

    Raises:
        DataError: the data set cannot be loaded, or has too few images or classes.
    """
    prefix = name.partition("/")[0].lower()
    if root is None and prefix == "torch":
        root = Path.home() / ".cache" / "genets"
        root.mkdir(parents=True, exist_ok=True)
    try:
        dataset = _open(name, "train", root)
        train = _pool(name, dataset)
        if train is None:
            raise DataError(f"the training split of {name} has images without a class")
        validation, test = _scored_splits(name, prefix, options.get("splits", SPLITS), root)
    except DataError:
        raise
    # The libraries behind timm raise errors of every kind: missing packages, networks, files.
    except Exception as error:
        reason = first_line(error).rstrip(".")
        raise DataError(f"data set {name} cannot be loaded: {reason}") from error
    return assemble(
        name,
        resolution,
        _class_names(dataset, train.labels),
        train,
        validation,
        test,
        **options,
    )


def _scored_splits(
    name: str, prefix: str, needed: Sequence[str], root: str | Path | None
) -> tuple[Pool | None, Pool | None]:
    """The stored validation and test split; None where a split is missing or not needed.

    Which images are cut off the training split depends on the splits that are missing. So both
    are loaded for the training images, and the test split in place of a missing validation split.
    """
    if prefix == "torch":
        return None, _torch_test_split(name, root)
    train = "train" in needed
    validation = _optional(name, "validation", root) if train or "validation" in needed else None
    unknown = "validation" in needed and validation is None
    needs_test = train or "test" in needed or unknown
    return validation, _optional(name, "test", root) if needs_test else None


def _open(name: str, split: str, root: str | Path | None) -> Any:
    # Readers print advice; standard output is for the results of commands.
    with redirect_stdout(sys.stderr):
        return create_dataset(
            name, root=None if root is None else str(root), split=split, download=True
        )


def _torch_test_split(name: str, root: str | Path | None) -> Pool | None:
    try:
        return _pool(name, _open(name, "validation", root))
    except RuntimeError as error:
        reason = first_line(error).rstrip(".")
        raise DataError(
            f"the test split of data set {name} cannot be loaded: {reason}; its files in {root} "
            "are missing or damaged"
        ) from error


def _optional(name: str, split: str, root: str | Path | None) -> Pool | None:
    """The pool of a split, or None where the data set does not have it, or has no labels."""
    try:
        dataset = _open(name, split, root)
    except MISSING_SPLIT[name.partition("/")[0].lower()]:
        return None
    return _pool(name, dataset)


def _pool(name: str, dataset: Any) -> Pool | None:
    """The images and classes of a split; None where images have no class."""
    if name.partition("/")[0].lower() in STREAMS:
        dataset = _in_memory(name, dataset)
        labels = [label for _, label in dataset]
    elif hasattr(dataset, "targets"):
        labels = list(dataset.targets)
    elif hasattr(getattr(dataset, "reader", None), "iter_targets"):
        labels = list(dataset.reader.iter_targets())
    else:
        labels = [dataset[position][1] for position in range(len(dataset))]
    if any(label is None or int(label) < 0 for label in labels):
        return None
    reader = getattr(dataset, "reader", None)
    images = dataset if reader is None else ReaderImages(reader)
    return Pool(images, [int(label) for label in labels])


@dataclass(frozen=True, eq=False)
class ReaderImages:
    """The images of a timm reader.

    timm's own data set silently replaces an image that cannot be read by the next image.
    """

    reader: Any

    def __len__(self) -> int:
        return len(self.reader)

    def __getitem__(self, position: int) -> tuple[Image.Image, Any]:
        file, label, *_ = self.reader[position]
        return read_rgb(file), label


def _in_memory(name: str, stream: Any) -> list[tuple[Image.Image, Any]]:
    images: list[tuple[Image.Image, Any]] = []
    for image, label in stream:
        if len(images) == MAX_IN_MEMORY:
            raise DataError(
                f"{name} is a stream of more than {MAX_IN_MEMORY} images; store it as a folder"
            )
        images.append((image, label))
    return images


def _class_names(dataset: Any, labels: Sequence[int]) -> list[str]:
    """The names of the classes, or their numbers where the data set has no names."""
    count = max(labels, default=0) + 1
    names = getattr(dataset, "classes", None)
    if names is None:
        by_name = getattr(getattr(dataset, "reader", None), "class_to_idx", None) or {}
        names = sorted(by_name, key=by_name.__getitem__)
    if len(names) < count:
        return [str(label) for label in range(count)]
    return [name if isinstance(name, str) else str(name[0]) for name in names]
