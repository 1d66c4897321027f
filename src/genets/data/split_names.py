"""The names of split folders, and names that are probably misspelt."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

# The names that Hugging Face datasets takes, in any case.
SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
SPLIT_OF = {name: split for split, names in SPLIT_FOLDERS.items() for name in names}

CUTOFF = 0.7  # `tset` and `test` have a ratio of 0.75


def suggest_split(name: str) -> str | None:
    """Find the name of a split folder that a folder was probably meant to have.

    Args:
        name: The name of a folder that is neither a split nor a class.

    Returns:
        The usual name; None where no name is close.
    """
    words: list[str] = re.findall(r"[^\W\d_]+", name.casefold())
    letters = "".join(words)
    for candidate in (letters, *words):
        if candidate in SPLIT_OF:
            return candidate
    for split in SPLIT_OF:
        if sorted(split) == sorted(letters):
            return split
    close = difflib.get_close_matches(letters, SPLIT_OF, n=1, cutoff=CUTOFF)
    return close[0] if close else None


def suggest_split_for_class(name: str, folders: Iterable[str]) -> str | None:
    """Find the name of a split folder that a class folder was probably meant to have.

    A class may have any name, such as `rain` or `oval`. So a split is only suggested where two
    neighbouring letters are swapped, other folders name splits, and none of them names this split.
    The first letter must be right, because `veal` is a class, too.

    Args:
        name: The name of a folder that is read as a class.
        folders: The names of the folders beside it.

    Returns:
        The usual name; None for any other class.
    """
    letters = name.casefold()
    present = {SPLIT_OF.get(folder.casefold()) for folder in folders} - {None}
    if not present:
        return None
    swapped = {
        letters[:i] + letters[i + 1] + letters[i] + letters[i + 2 :]
        for i in range(1, len(letters) - 1)
    }
    missing = (split for split in SPLIT_OF if SPLIT_OF[split] not in present)
    return next((split for split in missing if split in swapped), None)


def describe_left_out(name: str) -> str:
    """One sentence about a folder that is left out and was perhaps meant as a split; else empty."""
    split = None if name.casefold() in SPLIT_OF else suggest_split(name)
    if split is None:
        return ""
    return (
        f"the folder {name!r} is neither a split nor a class, and is left out; did you mean "
        f"{split}?"
    )


def describe_class(name: str, folders: Iterable[str]) -> str:
    """One sentence about a class folder that was perhaps meant as a split; else an empty text.

    Args:
        name: The name of a folder that is read as a class.
        folders: The names of the folders beside it.
    """
    if name.casefold() in SPLIT_OF:
        return f"the folder {name!r} holds no class folders, so it is read as a class"
    split = suggest_split_for_class(name, folders)
    return f"the folder {name!r} is read as a class; did you mean {split}?" if split else ""


def suggest_names(folders: Iterable[str]) -> str:
    """The end of a message that names misspelt split folders; empty where no name is close."""
    pairs = [(name, suggest_split(name)) for name in folders if name.casefold() not in SPLIT_OF]
    texts = [f"{split} for {name!r}" for name, split in pairs if split is not None]
    return f"; did you mean {' and '.join(texts)}?" if texts else ""
