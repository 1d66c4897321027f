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

# `tset` and `test` have a ratio of 0.75. Class folders need more, because `text` has 0.75, too.
LEFT_OUT_CUTOFF, CLASS_CUTOFF = 0.7, 0.85


def suggest_split(name: str, *, is_class: bool = False) -> str | None:
    """Find the name of a split folder that a folder was probably meant to have.

    Args:
        name: The name of a folder that is no split.
        is_class: Whether the folder is read as a class. Such a folder gets a suggestion only where
            its name is an obvious misspelling, because classes may have any name.

    Returns:
        The usual name; None where no name is close.
    """
    words = re.findall(r"[^\W\d_]+", name.casefold())
    letters = "".join(words)
    candidates = [letters] if is_class else [letters, *words]
    for candidate in candidates:
        if candidate in SPLIT_OF:
            return candidate
    for split in SPLIT_OF:
        if sorted(split) == sorted(letters):
            return split
    cutoff = CLASS_CUTOFF if is_class else LEFT_OUT_CUTOFF
    close = difflib.get_close_matches(letters, SPLIT_OF, n=1, cutoff=cutoff)
    return close[0] if close else None


def describe_doubtful(name: str, *, is_class: bool = False) -> str:
    """One sentence about a folder that was perhaps meant as a split; else an empty text.

    Args:
        name: The name of a folder that is not read as a split.
        is_class: Whether the folder is read as a class; otherwise it is left out.
    """
    if name.casefold() in SPLIT_OF:
        reason = f"the folder {name!r} holds no class folders, so it is read as a class"
        return reason if is_class else ""
    split = suggest_split(name, is_class=is_class)
    if split is None:
        return ""
    role = "is read as a class" if is_class else "is neither a split nor a class, and is left out"
    return f"the folder {name!r} {role}; did you mean {split}?"


def suggest_names(folders: Iterable[str]) -> str:
    """The end of a message that names misspelt split folders; empty where no name is close."""
    pairs = [(name, suggest_split(name)) for name in folders if name.casefold() not in SPLIT_OF]
    texts = [f"{split} for {name!r}" for name, split in pairs if split is not None]
    return f"; did you mean {' and '.join(texts)}?" if texts else ""
