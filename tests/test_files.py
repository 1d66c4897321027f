"""Files that are wholly there or not at all, and locks that end with their process."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from genets.core.files import FileLock, NoLocksError, write_atomic

HOLD = """
import sys, time
from genets.core.files import FileLock
with FileLock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_atomic(path, "before")

    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", no_space)
    with pytest.raises(OSError, match="No space") as error:
        write_atomic(path, "after")
    assert error.value.filename == str(path), "a full disk names no file"
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_read_only_folder_names_the_file_that_was_asked_for(tmp_path, monkeypatch):
    def read_only(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr("builtins.open", read_only)
    monkeypatch.setattr(Path, "unlink", read_only)
    with pytest.raises(OSError, match="Read-only") as error:
        write_atomic(tmp_path / "a.json", "text")
    assert error.value.filename == str(tmp_path / "a.json")


def test_a_lock_is_held_by_one_and_names_its_owner(tmp_path):
    held = pytest.raises(BlockingIOError, match=f"in use by process {os.getpid()}")
    with FileLock(tmp_path / "lock"), held:
        FileLock(tmp_path / "lock")
    lock = FileLock(tmp_path / "lock")
    lock.close()
    lock.close()
    FileLock(tmp_path / "lock").close()


def refuse_locks(handle: int, operation: int) -> None:
    raise OSError(errno.ENOLCK, "No locks available")


@pytest.mark.parametrize(
    ("flock", "reason"),
    [(refuse_locks, "No locks available"), (lambda *_: None, "its file system ignores locks")],
)
def test_a_file_system_without_locks_is_noticed(tmp_path, monkeypatch, flock, reason):
    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(NoLocksError, match=reason):
        FileLock(tmp_path / "lock")


def test_a_lock_ends_with_its_process(tmp_path):
    path = tmp_path / "lock"
    program = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(BlockingIOError, match=f"in use by process {process.pid}"):
            FileLock(path)
        process.send_signal(signal.SIGKILL)
        process.wait()
        FileLock(path).close()


def test_a_forked_process_does_not_hold_the_lock(tmp_path):
    """Such as one that reads images, which notices only after seconds that its parent is gone."""
    reading, writing = os.pipe()
    telling, told = os.pipe()
    lock = FileLock(tmp_path / "lock")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: fork beside threads
        child = os.fork()
    if child == 0:
        os.write(told, b"x")
        os.read(reading, 1)
        os._exit(0)
    try:
        os.read(telling, 1)
        with pytest.raises(BlockingIOError, match="in use by process"):
            FileLock(tmp_path / "lock")
        lock.close()
        FileLock(tmp_path / "lock").close()
    finally:
        os.write(writing, b"x")
        os.waitpid(child, 0)


def test_a_lock_holds_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int, content: bytes, offset: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with (
        FileLock(tmp_path / "lock"),
        pytest.raises(BlockingIOError, match="in use by process unknown"),
    ):
        FileLock(tmp_path / "lock")
