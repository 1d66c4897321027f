"""Files that are either wholly there or not there at all, and whose they are meanwhile."""

import fcntl
import os
import secrets
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self
from weakref import WeakSet


def write_atomic(path: str | Path, content: bytes | str) -> None:
    """Write `content` (text as UTF-8) to `path`, so that no crash leaves half a file.

    A temporary file in the same folder is written, synced and renamed; on failure it is
    removed and what stood at `path` before is untouched. Raises OSError, with `path` as its
    filename: a full disk names none.
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
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with suppress(OSError):  # in a read-only folder this fails as well, and says less
            temporary.unlink()
    _sync_folder(path.parent)


class FileLock:
    """Holds `path` against other processes until it is closed, or this process ends.

    Processes that are forked or spawned meanwhile do not hold it.
    """

    def __init__(self, path: str | Path) -> None:
        """Raises BlockingIOError, whose strerror names the process that holds it; OSError."""
        self._handle: int | None = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            self._take(self._handle, path)
        except BaseException:
            self.close()
            raise
        _held.add(self)

    @staticmethod
    def _take(handle: int, path: str | Path) -> None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.read(handle, 32).decode("ascii", "replace").strip() or "unknown"
            raise BlockingIOError(error.errno, f"in use by process {owner}", str(path)) from error
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        """Release it; nothing happens where that was done before."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


_held: WeakSet[FileLock] = WeakSet()


def _let_go() -> None:
    """In a forked child, such as one that reads images, which may outlive its parent."""
    for lock in list(_held):
        lock.close()


os.register_at_fork(after_in_child=_let_go)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
