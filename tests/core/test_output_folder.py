"""Folders for results: marked where they are made, and checked without a trace."""

import errno
import os
from pathlib import Path

import pytest

from genets.core.errors import GenetsError
from genets.core.output_folder import (
    MARKER,
    check_writable_file,
    check_writable_folder,
    is_marked,
    make_folder,
)


def test_only_a_folder_that_is_made_is_marked(tmp_path: Path) -> None:
    for _ in range(2):
        make_folder(tmp_path / "new" / "below")
        assert is_marked(tmp_path / "new" / "below")
        assert os.listdir(tmp_path / "new" / "below") == [MARKER]
    assert not is_marked(tmp_path / "new")
    for name in ("empty", "mine"):
        (tmp_path / name).mkdir()
    (tmp_path / "mine" / "a.png").touch()
    for name in ("empty", "mine"):
        make_folder(tmp_path / name)
        assert not is_marked(tmp_path / name)


def test_a_folder_that_cannot_be_marked_is_not_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the next command would take it for a folder of the user."""

    def full(source: str, target: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(OSError, match="No space left"):
            make_folder(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    make_folder(tmp_path / "out")
    assert is_marked(tmp_path / "out")


@pytest.mark.parametrize("name", ["file", "dangling"])
def test_a_folder_that_cannot_be_made(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    with pytest.raises(FileExistsError):
        make_folder(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("file", "is a file"),
        ("file/below", "Not a directory"),
        ("x" * 300, "File name too long"),
        ("new/" + "x" * 300, "File name too long"),
        ("dangling", "dangling is a link to nothing"),
        ("dangling/below", "dangling is a link to nothing"),
        ("loop", "loop is a link to nothing"),
    ],
)
def test_folders_that_cannot_be_written(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(GenetsError, match=reason):
        check_writable_folder(tmp_path / name)
    assert sorted(tmp_path.rglob("*")) == before


def test_folders_and_files_that_can_be_written_are_not_made(tmp_path: Path) -> None:
    check_writable_folder(tmp_path / "new" / "below")
    check_writable_folder(tmp_path)
    check_writable_file(tmp_path / "a.csv")
    assert not list(tmp_path.iterdir())
    (tmp_path / "a.csv").touch()
    check_writable_file(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("new/a.csv", "its folder does not exist"),
        ("", "it is a folder"),
        ("x" * 300, "File name too long"),
    ],
)
def test_files_that_cannot_be_written(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(GenetsError, match=reason):
        check_writable_file(tmp_path / name)


def test_a_folder_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # the tests may run as root
    with pytest.raises(GenetsError, match="no permission to write into"):
        check_writable_folder(tmp_path / "new")
    with pytest.raises(GenetsError, match="no permission to write into"):
        check_writable_file(tmp_path / "a.csv")
