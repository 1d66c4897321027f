"""The images below a folder: links, hidden folders, and files that are left out."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Literal, NamedTuple

from genets.core.errors import DataError
from genets.core.output_folder import is_marked
from genets.data.image_file import extension_of, image_extensions
from genets.data.left_out import (
    BESIDE_CLASSES,
    DANGLING,
    HIDDEN,
    LOOP,
    REPEATED,
    RESULTS,
    SPECIAL,
    LeftOut,
    file_reason,
)
from genets.data.split import SPLITS

# Names without a leading dot that systems and programs give to their own files and folders.
SYSTEM_NAMES = {
    "__macosx", "network trash folder", "temporary items",  # macOS
    "thumbs.db", "desktop.ini", "$recycle.bin", "system volume information",  # Windows
    "lost+found", "@eadir", "#recycle", "#snapshot", "@recycle",  # Linux, Synology, QNAP
    "__pycache__",
}  # fmt: skip
# genets marks the folders that it makes. A folder without a mark was written by genets if it holds
# one of these files: an older genets did not mark, nor is a folder marked that a user made.
RESULT_FILES = {
    "study.toml", "study.lock", "masternets.json", "run.lock", "weights.safetensors",
    "contract.json", "selected.json",
}  # fmt: skip
# Reports have common names, so a report is recognised by this key of its JSON.
REPORT_KEYS = {
    "rows.json": "references",
    "rows-by-batch-size.json": "references",
    "rows-by-cost.json": "references",
    "rows-blocks.json": "references",
    "eval.json": "accuracy",
    "comparison.json": "findings",
    "profile.json": "findings",
    "rank.json": "networks",
}
MAX_REPORT_BYTES = 2**26

RESULTS_DEPTH = 4  # levels of folders in which results are recognised, as in runs/mine/results

Kind = Literal["folder", "file", "dangling", "special"]
Role = Literal["class", "only folders", "results"]


class FoundImage(NamedTuple):
    """An image file.

    Attributes:
        name: the path below the folder of the data set, with slashes.
        real: the path without links; empty where no link leads to the file.
    """

    name: str
    real: str


@dataclass
class FolderScan:
    """Lists folders and images below the folder of a data set.

    Hidden files and folders, those of systems and programs, and results of genets are left out at
    every level.

    Attributes:
        root: the folder of the data set.
        left_out: everything that was left out so far.
        remarks: sentences about folders that were perhaps meant as splits.
    """

    root: Path
    left_out: LeftOut = field(default_factory=LeftOut)
    remarks: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._real_root = os.path.realpath(self.root)
        self._extensions = image_extensions()

    def remark(self, sentence: str) -> None:
        """Add a sentence to the remarks, unless it is empty."""
        if sentence:
            self.remarks.append(sentence)

    def path(self, name: str) -> str:
        """The path of a file or folder by its name below the root."""
        return str(self.root / name)

    def list_folders(self, name: str) -> list[str]:
        """The names of the folders directly below a folder, ascending, without loops of links.

        Raises:
            DataError: the folder cannot be read.
        """
        return [
            entry.name
            for entry in self._visible(name)
            if _kind(entry) == "folder" and not self._is_loop(entry, name)
        ]

    def holds_images(self, name: str) -> bool:
        """Whether a folder holds images directly."""
        return any(self._is_image(entry) for entry in self._visible(name))

    def examine(self, name: str, depth: int = RESULTS_DEPTH) -> Role:
        """The possible roles of a folder in a data set.

        A folder that holds only folders is no class, nor is a folder with several folders and no
        image: these are splits, or folders of class folders.

        Args:
            name: the folder.
            depth: the levels below the folder that are searched for results of genets.
        """
        entries = list(self._visible(name))
        if self._is_made(name, entries):
            return "results"
        if any(self._is_image(entry) for entry in entries):
            return "class"
        folders = [entry for entry in entries if _kind(entry) == "folder"]
        if not folders or (len(folders) == 1 and len(entries) > 1):
            return "class"
        hold_results = depth > 0 and all(
            not folder.is_symlink()
            and self.examine(_join(name, folder.name), depth - 1) == "results"
            for folder in folders
        )
        return "results" if hold_results else "only folders"

    def count_beside(self, name: str) -> None:
        """Count the loops and the files directly in a folder whose folders are classes or splits.

        Images there belong to no class.
        """
        for entry in self._visible(name, self.left_out):
            path = _join(name, entry.name)
            if _kind(entry) == "folder":
                if self._is_loop(entry, name):
                    self.left_out.add(LOOP, path)
            elif self._is_image(entry):
                self.left_out.add(BESIDE_CLASSES, path)
            else:
                self._count_other(entry, path)

    def find_images(self, name: str) -> list[FoundImage]:
        """All images below a folder, in a fixed order; each folder is read once.

        A link whose target does not exist counts as an image if it has the extension of one.
        """
        found: list[tuple[str, FoundImage]] = []
        pending = deque([name])
        visited: set[str] = set()
        while pending:
            folder = pending.popleft()
            real = os.path.realpath(self.path(folder))
            if real in visited:
                self.left_out.add(REPEATED, folder)
                continue
            visited.add(real)
            entries = list(self._visible(folder, self.left_out))
            if self._is_made(folder, entries):
                self.left_out.add(RESULTS, folder)
                continue
            at_its_place = real == os.path.join(self._real_root, folder)
            for entry in entries:
                path = _join(folder, entry.name)
                if _kind(entry) == "folder":
                    if self._is_loop(entry, folder):
                        self.left_out.add(LOOP, path)
                    elif entry.is_symlink():  # real folders first, so that links repeat them
                        pending.append(path)
                    else:
                        pending.appendleft(path)
                elif not self._is_image(entry):
                    self._count_other(entry, path)
                elif entry.is_symlink():
                    found.append((folder, FoundImage(path, os.path.realpath(entry.path))))
                else:
                    linked = "" if at_its_place else os.path.join(real, entry.name)
                    found.append((folder, FoundImage(path, linked)))
        # The order of torchvision's ImageFolder: by the path of the folder, then by file name.
        return [image for _, image in sorted(found)]

    def keep_once(
        self,
        images: dict[str, list[tuple[FoundImage, int]]],
        beside: Mapping[str, Sequence[FoundImage]],
    ) -> dict[str, list[tuple[FoundImage, int]]]:
        """Keep each real file once, where several links lead to it.

        A file stays at its own place. A file that only links lead to stays in the first split of
        test, validation and train, so that no image is trained on that is scored.

        Args:
            images: the images and their classes, by split.
            beside: the images of the splits that are not read; none without links in `images`.
        """
        if not any(image.real for part in images.values() for image, _ in part):
            return images
        read = [image for part in images.values() for image, _ in part]
        taken = {
            os.path.join(self._real_root, image.name)
            for image in chain(read, *beside.values())
            if not image.real
        }
        kept: dict[str, list[tuple[FoundImage, int]]] = {split: [] for split in images}
        for split in reversed(SPLITS):
            taken |= {image.real for image in beside.get(split, ())}
            for image, label in images.get(split, ()):
                if image.real and image.real in taken:
                    self.left_out.add(REPEATED, image.name)
                else:
                    taken.add(image.real)
                    kept[split].append((image, label))
        return kept

    def _visible(self, name: str, left_out: LeftOut | None = None) -> Iterator[os.DirEntry[str]]:
        """The entries of a folder by name, without hidden ones, which are counted in `left_out`."""
        for entry in sorted(_entries(self.path(name)), key=lambda entry: entry.name):
            if not (entry.name.startswith(".") or entry.name.casefold() in SYSTEM_NAMES):
                yield entry
            elif left_out is not None:
                left_out.add(HIDDEN, _join(name, entry.name))

    def _is_made(self, name: str, entries: Iterable[os.DirEntry[str]]) -> bool:
        """Whether genets made a folder for results, by its mark or by the files in it."""
        return is_marked(self.path(name)) or any(map(_is_result, entries))

    def _is_loop(self, entry: os.DirEntry[str], parent: str) -> bool:
        """Whether a folder in the folder `parent` is a link to a folder that holds the link."""
        if not entry.is_symlink():
            return False
        above = os.path.join(os.path.realpath(self.path(parent)), "")
        return above.startswith(os.path.join(os.path.realpath(entry.path), ""))

    def _is_image(self, entry: os.DirEntry[str]) -> bool:
        is_named_so = extension_of(entry.name) in self._extensions
        return is_named_so and _kind(entry) in ("file", "dangling")

    def _count_other(self, entry: os.DirEntry[str], name: str) -> None:
        reasons = {"dangling": DANGLING, "special": SPECIAL}
        self.left_out.add(reasons.get(_kind(entry)) or file_reason(name), name)


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _is_result(entry: os.DirEntry[str]) -> bool:
    """Whether genets wrote a file."""
    key = REPORT_KEYS.get(entry.name)
    if key is None:
        return entry.name in RESULT_FILES
    try:
        if not entry.is_file() or entry.stat().st_size > MAX_REPORT_BYTES:
            return False
        record = json.loads(Path(entry.path).read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(record, dict) and key in record


def _kind(entry: os.DirEntry[str]) -> Kind:
    """The kind of an entry; of a link, the kind of its target."""
    try:
        if entry.is_dir():
            return "folder"
        if entry.is_file():
            return "file"
    except OSError:  # a link to itself, or into a folder that may not be read
        return "dangling"
    return "dangling" if entry.is_symlink() else "special"


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:
        raise DataError(f"folder {folder} does not exist") from None
    except NotADirectoryError:
        raise DataError(f"{folder} is a file, not a folder of images") from None
    except OSError as error:
        raise DataError(f"folder {folder} cannot be read: {error.strerror}") from error
