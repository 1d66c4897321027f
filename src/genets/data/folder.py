"""A folder of images: class folders, or train, validation and test folders with class folders."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Unpack

from PIL import Image

from genets.core.data_name import find_data_path
from genets.core.errors import DataError, counted, printable
from genets.core.log import get_logger
from genets.core.progress import OnProgress
from genets.data.broken_images import broken_files
from genets.data.folder_layout import find_classes, find_splits
from genets.data.folder_scan import FolderScan, FoundImage
from genets.data.pixels import read_rgb
from genets.data.pool import PoolOptions, PoolSplit, assemble
from genets.data.pool_cuts import Pool
from genets.data.split import SPLITS, ImageData, name_some
from genets.data.split_names import suggest_names

_log = get_logger(__name__)

LabelledImages = list[tuple[FoundImage, int]]


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Image files and their classes."""

    paths: Sequence[str]
    labels: Sequence[int]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, position: int) -> tuple[Image.Image, int]:
        """Raises one of `BROKEN`."""
        return read_rgb(self.paths[position]), self.labels[position]


def load_folder(
    folder: str | Path,
    resolution: int,
    *,
    check: bool = True,
    on_progress: OnProgress | None = None,
    **options: Unpack[PoolOptions],
) -> ImageData:
    """Read a folder of images.

    The folder holds either class folders, or split folders that hold class folders; see
    `split_names.SPLIT_FOLDERS` for their names. Validation and test may be missing.

    Args:
        folder: the folder.
        resolution: pixels along each side of the images.
        check: read every image once now, so that broken images are reported and counted now and
            not when a pass meets them.
        on_progress: called with the number of images that `check` has read.
        options: see `PoolOptions`.

    Returns:
        The data set. Its `description` says how the folder was understood; the logger
        `genets.data.folder` gets each of its lines at level INFO.

    Raises:
        DataError: the folder cannot be read, has too few images or classes, or has too many broken
            images.
    """
    scan = FolderScan(Path(os.path.expanduser(folder)))
    parts = find_splits(scan)
    wanted, cut_missing = options.get("splits", SPLITS), options.get("cut_missing", True)
    used = {split for split in wanted if split in parts}
    if cut_missing and used != set(wanted):
        used.add("train")  # a missing split is cut off the training images
    if not used <= parts.keys():
        beside = sorted(set(scan.list_folders("")) - set(parts.values()))
        beside = [name for name in beside if scan.examine(name) != "results"]
        raise DataError(
            f"folder {scan.root} has {name_some(sorted(parts.values()))} but no train folder"
            f"{suggest_names(beside)}"
        )
    names, files = _read_parts(scan, parts, used)
    fingerprint, train_fingerprint = _fingerprints(scan, files)
    data = assemble(
        str(folder),
        resolution,
        names,
        # A split that is not read is still there, so it is not cut off the training images.
        *(_pool(scan, files.get(split, [])) if split in parts else None for split in SPLITS),
        **options,
        fingerprint=fingerprint,
        train_fingerprint=train_fingerprint,
    )
    data = replace(data, description=_describe(data, parts, wanted, scan, is_cut=cut_missing))
    for line in data.description.splitlines():
        _log.info("%s", line)
    if check and data.broken is not None:
        data.broken.meet(data.broken.scan(on_progress=on_progress))
    _check_test_split(data)
    return data


def _check_test_split(data: ImageData) -> None:
    """Raise DataError where no test image can be read, which a training would notice at its end."""
    assert isinstance(data.test, PoolSplit)
    paths = data.test.paths
    if paths and all(broken_files([path]) for path in paths):
        raise DataError(
            f"none of the {len(paths)} images of the test split of {data.name} can be read"
        )


def check_output_folder(data: str | Path, out: str | Path) -> None:
    """Refuse to write into a folder that holds images of a data set.

    A later command would read pictures there as images of a class. Pictures among earlier results
    of genets are no such images.

    Raises:
        DataError: `out` is such a folder, or lies in one.
    """
    data_path = find_data_path(data)
    if data_path is None or not data_path.is_dir():
        return
    root, folder = (Path(os.path.realpath(path)) for path in (data_path, os.path.expanduser(out)))
    for place in (folder, *folder.parents):
        if root not in place.parents:
            return
        scan = FolderScan(place)
        if place.is_dir() and scan.holds_images("") and scan.examine("") != "results":
            raise DataError(
                f"folder {out} is in {place}, which holds images of data set {data}; give a folder "
                "elsewhere"
            )


def _read_parts(
    scan: FolderScan, parts: Mapping[str, str], used: Collection[str]
) -> tuple[list[str], dict[str, LabelledImages]]:
    """The class names, and the images of the splits that are used."""
    first = next(split for split in SPLITS if split in {"train", *used} & parts.keys())
    classes = {first: find_classes(scan, parts[first])}
    names = list(classes[first])
    for split in SPLITS:
        if split in used and split != first:
            classes[split] = find_classes(scan, parts[split], names)
            _check_same_classes(scan.path(parts[split]), list(classes[split]), names)
    files: dict[str, LabelledImages] = {
        split: [
            (image, label)
            for label, name in enumerate(names)
            for folder in classes[split][name]
            for image in scan.find_images(folder)
        ]
        for split in SPLITS
        if split in used
    }
    # A link in a split that is read may lead to an image of a split that is not read.
    linked = any(image.real for images in files.values() for image, _ in images)
    others = parts.keys() - used if linked else ()
    beside = {split: _list_images(scan, parts[split], names) for split in others}
    files = scan.keep_once(files, beside)
    for split, images in files.items():
        empty = sorted(set(names) - {names[label] for _, label in images})
        if empty:
            left_out = f"; left out: {scan.left_out}" if scan.left_out else ""
            raise DataError(
                f"folder {scan.path(parts[split])} has no image of class {name_some(empty)}"
                f"{left_out}"
            )
    return names, files


def _list_images(scan: FolderScan, part: str, names: Collection[str]) -> list[FoundImage]:
    """The images of a split that is not read; nothing there counts as left out."""
    own = FolderScan(scan.root)
    classes = find_classes(own, part, names)
    return [
        image for folders in classes.values() for each in folders for image in own.find_images(each)
    ]


def _check_same_classes(folder: str, own: Sequence[str], names: Sequence[str]) -> None:
    """Raise DataError unless a split has the classes `names` of the training split."""
    foreign = sorted(set(own) - set(names))
    if foreign:
        raise DataError(
            f"folder {folder} has class {name_some(foreign)}, which the train folder does not have"
        )
    lacking = sorted(set(names) - set(own))
    if lacking:
        raise DataError(
            f"folder {folder} has no class {name_some(lacking)}, which the train folder has"
        )


def _fingerprints(scan: FolderScan, files: Mapping[str, LabelledImages]) -> tuple[str, str]:
    """The fingerprint of all images, and that of the training images, which may be missing."""
    digest, of_train = (hashlib.blake2b(digest_size=16) for _ in range(2))
    for split, part in files.items():
        for image, label in part:
            text = repr((split, image.name, label, _size(scan.path(image.name)))).encode()
            digest.update(text)
            if split == "train":
                of_train.update(text)
    return digest.hexdigest(), of_train.hexdigest() if "train" in files else ""


def _size(path: str) -> int:
    """The bytes of a file; -1 for a link to nothing."""
    try:
        return os.stat(path).st_size
    except OSError:
        return -1


def _pool(scan: FolderScan, files: LabelledImages) -> Pool:
    labels = [label for _, label in files]
    return Pool(ImageFiles([scan.path(image.name) for image, _ in files], labels), labels)


def _describe(
    data: ImageData,
    parts: Mapping[str, str],
    wanted: Collection[str],
    scan: FolderScan,
    *,
    is_cut: bool,
) -> str:
    """How the folder was understood, line by line."""
    texts = [f"{data.num_classes} classes ({name_some(data.class_names)})"]
    for split in wanted:
        count = len(getattr(data, split))
        if split not in parts and not count:
            continue
        source = printable(parts.get(split, "cut off the training images"))
        images = counted(count, "image")
        if source:
            texts.append(f"{split}: {images} ({source})")
        else:  # the class folders themselves
            texts.append(f"{split if is_cut else 'not split'}: {images}")
    unread = [split for split in SPLITS if split not in wanted]
    if unread:
        texts.append(f"not read: {', '.join(unread)}")
    lines = ["; ".join(texts)]
    if scan.left_out:
        lines.append(f"left out: {scan.left_out}")
    lines += map(printable, scan.remarks)
    return "\n".join(f"{printable(data.name)}: {line}" for line in lines)
