"""Files that are written completely or not at all, locks between processes, and file names."""

import errno
import fcntl
import os
import secrets
import unicodedata
from contextlib import suppress
from pathlib import Path
from typing import Self
from weakref import WeakSet

# The names of temporary files; a process that is killed while it writes leaves its file behind.
TEMPORARY_FILES = ".*.tmp"


def write_atomic(path: str | Path, content: bytes | str) -> None:
    """Write `content` (text as UTF-8) to `path`, so that a crash never leaves half a file.

    A temporary file in the same folder is written, synced and renamed. On failure it is removed,
    and the earlier file at `path` stays as it was.

    Raises:
        OSError: the file cannot be written; its filename is `path`, also for a full disk.
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
        with suppress(OSError):  # in a read-only folder this fails too, with a less helpful error
            temporary.unlink()
    _sync_folder(path.parent)


def normal_name(name: str) -> str:
    """Give a name in the Unicode normal form NFC.

    macOS writes the names of files in the form NFD: the same name has other characters there.
    """
    return unicodedata.normalize("NFC", name)


def describe_hidden_folder(name: str, meaning: str) -> str:
    """One sentence where a folder has a name that means something else; else an empty text.

    Args:
        name: A name that a command takes.
        meaning: The words for its meaning.
    """
    if not os.path.isdir(name):
        return ""
    return f"{name} is {meaning}; for the folder of that name, write ./{name}"


class NoLocksError(OSError):
    """The file system of a file cannot lock the file; strerror says why."""


class FileLock:
    """A lock on a file that holds until it is closed or this process ends.

    It uses `fcntl`, so it needs a POSIX system. A forked or spawned process does not hold it.
    """

    def __init__(self, path: str | Path) -> None:
        """Take the lock.

        Raises:
            BlockingIOError: another process holds the lock; strerror has its number.
            NoLocksError: the file system has no locks, or ignores them.
            OSError: the file cannot be created.
        """
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
        except OSError as error:
            raise NoLocksError(error.errno, error.strerror, str(path)) from error
        if _is_locked_again(path):
            raise NoLocksError(errno.ENOLCK, "its file system ignores locks", str(path))
        with suppress(OSError):  # on a full disk the lock holds, and messages lack the number
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        """Release the lock; a second call does nothing."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _is_locked_again(path: str | Path) -> bool:
    """Whether a locked file can be locked again, as by another process: then a lock does nothing.

    Some network file systems say that they lock a file, and do not.
    """
    handle = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


_held: WeakSet[FileLock] = WeakSet()


def _release_in_child() -> None:
    """Release all locks in a forked child, such as an image reader that outlives its parent."""
    for lock in list(_held):
        lock.close()


os.register_at_fork(after_in_child=_release_in_child)


def _sync_folder(folder: Path) -> None:
    """Make a rename in the folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
