"""The files of a report: page, CSV, JSON and pictures in one folder."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from genets.core.errors import encodable
from genets.core.files import write_atomic
from genets.core.output_folder import make_folder


def current_date() -> str:
    """The date and time for pages and pictures, such as `2024-05-31 17:05`."""
    return f"{datetime.now():%Y-%m-%d %H:%M}"


def write_files(folder: Path, contents: Mapping[str, tuple[str, str | bytes]]) -> dict[str, Path]:
    """Write the files of a report, each completely or not at all.

    Args:
        folder: Is made where it does not exist.
        contents: By label the name of the file and its content; characters that UTF-8 lacks are
            written as escapes.

    Returns:
        The paths by label.

    Raises:
        OSError: The folder or a file cannot be written.
    """
    make_folder(folder)
    for name, content in contents.values():
        write_atomic(folder / name, encodable(content) if isinstance(content, str) else content)
    return {label: folder / name for label, (name, _) in contents.items()}
