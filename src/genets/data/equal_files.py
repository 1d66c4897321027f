"""Image files with equal bytes in two splits: a score on such images is too good."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations

from genets.core.errors import printable
from genets.data.pool import PoolSplit
from genets.data.split import SPLITS, ImageData

Files = list[tuple[str, str]]
"""Split and path of each file."""


def describe_equal_files(data: ImageData) -> str:
    """One sentence with the numbers of image files that two splits share; empty without any.

    Files of equal size are read. Images that are no files are not compared.
    """
    groups = list(_equal_groups(_files(data)))
    texts = []
    for first, second in combinations(SPLITS, 2):
        count = sum(
            split == second
            for group in groups
            if any(split == first for split, _ in group)
            for split, _ in group
        )
        if count:
            total = len(getattr(data, second))
            texts.append(f"{count} of {total} {second} images are also {first} images")
    if not texts:
        return ""
    one_per_split = dict(groups[0])
    some = " and ".join(printable(path) for path in list(one_per_split.values())[:2])
    return (
        f"{data.name} has equal files in several splits: {'; '.join(texts)}, such as {some}; "
        "the scores on these images will be too high, so keep one copy of each image"
    )


def _files(data: ImageData) -> Iterator[tuple[str, str]]:
    for name in SPLITS:
        split = getattr(data, name)
        if isinstance(split, PoolSplit):
            yield from ((name, path) for path in split.paths)


def _equal_groups(files: Iterable[tuple[str, str]]) -> Iterator[Files]:
    """The groups of files with equal bytes that belong to more than one split."""
    by_size: dict[int, Files] = defaultdict(list)
    for split, path in files:
        try:
            by_size[os.stat(path).st_size].append((split, path))
        except OSError:  # a broken image is reported elsewhere
            continue
    candidates = [
        file for size, group in by_size.items() if size and _has_two_splits(group) for file in group
    ]
    by_content: dict[str, Files] = defaultdict(list)
    with ThreadPoolExecutor() as pool:
        digests = pool.map(_digest, (path for _, path in candidates), chunksize=64)
        for file, digest in zip(candidates, digests, strict=True):
            if digest:
                by_content[digest].append(file)
    yield from (group for group in by_content.values() if _has_two_splits(group))


def _has_two_splits(group: Files) -> bool:
    return len({split for split, _ in group}) > 1


def _digest(path: str) -> str:
    """A digest of the bytes; empty for a file that cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "blake2b").hexdigest()
    except OSError:
        return ""
