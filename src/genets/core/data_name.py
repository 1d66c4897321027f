"""What the text of a data argument means: a data set by its name, or a file or folder.

Settings use this module before PyTorch is imported, so it must stay light.
"""

from __future__ import annotations

import os
from pathlib import Path

BUILT_IN_DATA = ("digits",)
"""The names of `genets.data.LOADERS`, the data sets that need no files."""


def find_data_path(data: str | Path) -> Path | None:
    """Find the file or folder of a data argument.

    A bare built-in name is always that data set, also beside a folder of the same name. Such a
    folder is given as `./digits`, or as a `Path`.

    Args:
        data: A data argument, as commands and settings take it.

    Returns:
        The path without `~`; it exists unless `data` is a `Path`. None for a data set by its name.
    """
    path = os.path.expanduser(data)
    if isinstance(data, Path):
        return Path(path)
    return Path(path) if data not in BUILT_IN_DATA and os.path.exists(path) else None


def make_data_absolute(data: str) -> str:
    """Make the path of a file or folder absolute; the name of a data set stays as it is."""
    path = find_data_path(data)
    return data if path is None else os.path.abspath(path)
