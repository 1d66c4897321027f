"""JSON files: complete or absent, damage in one sentence, and format versions."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from genets.core.errors import GenetsError, StudyError
from genets.core.json_files import check_version, read_json, write_json


def test_values_come_back_and_an_absent_file_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    assert read_json(path, dict) is None
    write_json(path, {"net": [0.1, None, "ü"]})
    assert read_json(path, dict) == {"net": [0.1, None, "ü"]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, float("nan"))
    assert read_json(path, dict) == {"net": [0.1, None, "ü"]}


def test_a_full_disk_keeps_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_json(path, 1)

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_json(path, 2)
    assert caught.value.filename == str(path)
    assert read_json(path, int) == 1
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"a": 1', r"Expecting ',' delimiter"),
        (b"\xff\xfe{", "codec can't decode"),
        (b"", "Expecting value"),
        (b"{}", "it has no 'a'"),
        (b"[" * 100_000, "maximum recursion depth"),
        (b"[]", "list indices must be"),
        (b'{"a": "x"}', "invalid literal"),
        (b'{"a": 1e999}', "cannot convert float infinity"),
        (b'{"a": 1e15, "bytes": 1}', "MemoryError"),
        (b'{"a": 1, "version": 3}', r"a\.json has format version 3, .* up to 2; update genets$"),
    ],
)
def test_damage_is_one_sentence(tmp_path: Path, content: bytes, reason: str) -> None:
    def read(record: Any) -> int:
        value = int(record["a"])
        bytes(value if "bytes" in record else 0)
        check_version(record, newest=2)
        return value

    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(StudyError, match=reason) as caught:
        read_json(path, read, raises=StudyError, cure="put back a copy of it")
    assert "\n" not in str(caught.value)
    if b"version" not in content:
        assert str(caught.value).startswith(f"{path} is damaged (")
        assert str(caught.value).endswith("); put back a copy of it")


def test_a_file_without_a_version_has_the_first() -> None:
    assert check_version({}, newest=3) == 1
    assert check_version({"version": 3}, newest=3) == 3
    with pytest.raises(GenetsError, match=r"version 4.* up to 3; update genets"):
        check_version({"version": 4}, newest=3)
    with pytest.raises(GenetsError, match=r"version 1.* from 2; .* the genets that wrote it"):
        check_version({}, newest=3, oldest=2)


@pytest.mark.parametrize("version", [True, "2", 2.0, None])
def test_a_version_is_an_integer(version: object) -> None:
    with pytest.raises(GenetsError, match="it must be an integer above 0"):
        check_version({"version": version}, newest=3)
    with pytest.raises(GenetsError, match="it must be an integer above 0"):
        check_version({"version": 0}, newest=3)
