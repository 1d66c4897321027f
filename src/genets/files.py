"""Files that are either wholly there or not there at all."""

import os
import secrets
from pathlib import Path


def write_atomic(path: str | Path, content: bytes | str) -> None:
    """Write `content` (text as UTF-8) to `path`, so that no crash leaves half a file.

    A temporary file in the same folder is written, synced and renamed; on failure it is
    removed and what stood at `path` before is untouched. Raises OSError.
    """
    path = Path(path)
    data = content.encode("utf-8") if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
