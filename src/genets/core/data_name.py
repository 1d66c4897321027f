"""The meaning of a data argument: a data set by its name, or a file or folder.

Settings use this module before PyTorch is imported, so it must stay light.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from genets.core.lazy import import_on_call

LOADERS: dict[str, Callable[..., Any]] = {
    "digits": import_on_call("genets.data.digits", "load_digits"),
}
"""Data sets in memory, by name; each loader takes resolution, seed and device, and returns an
`ImageData`."""


def find_data_path(data: str | Path) -> Path | None:
    """Find the file or folder of a data argument.

    A bare name of `LOADERS` is always that data set, also beside a folder of the same name. Such a
    folder is given as `./digits`, or as a `Path`.

    Args:
        data: A data argument, as commands and settings take it.

    Returns:
        The path without `~`; it exists unless `data` is a `Path`. None for a data set by its name.
    """
    path = os.path.expanduser(data)
    if isinstance(data, Path):
        return Path(path)
    return Path(path) if data not in LOADERS and os.path.exists(path) else None


def make_data_absolute(data: str) -> str:
    """Make the path of a file or folder absolute; the name of a data set stays as it is."""
    path = find_data_path(data)
    return data if path is None else os.path.abspath(path)
