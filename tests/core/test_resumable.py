"""Resumable folders: closed to others, plain about foreign folders, damage and full disks."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from genets.core.errors import BlockFileError, GenetsError, StudyError, TrainingError
from genets.core.files import write_atomic
from genets.core.json_files import check_version
from genets.core.output_folder import MARKER, is_free
from genets.core.resumable import FolderKind, ResumableFolder, differences, flatten, take_lock

STUDY = FolderKind(
    noun="study",
    settings_file="study.toml",
    lock_file="study.lock",
    raises=StudyError,
    kept="every finished trial is kept",
    may_precede=("latency", "masternets.json"),
)
RUN = FolderKind(
    noun="run",
    settings_file="settings.json",
    lock_file="run.lock",
    raises=TrainingError,
    kept="every checkpoint is kept",
    may_precede=(".*",),
)
HOLD = """
import sys, time
from genets.core.resumable import FolderKind, ResumableFolder
from genets.core.errors import StudyError
kind = FolderKind(noun="study", settings_file="study.toml", lock_file="study.lock",
                  raises=StudyError, kept="")
with ResumableFolder(sys.argv[1], kind).create_or_resume():
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def study(tmp_path: Path) -> Iterator[ResumableFolder]:
    with ResumableFolder(tmp_path / "new" / "study", STUDY).create_or_resume() as folder:
        folder.write_settings('budget = "0.2ms"\n')
        yield folder


def test_a_new_folder_is_made_and_continued(study: ResumableFolder) -> None:
    assert study.is_begun
    study.close()
    study.close()
    with ResumableFolder(study.path, STUDY).create_or_resume() as again:
        assert again.read_settings(tomllib.loads) == {"budget": "0.2ms"}
    with ResumableFolder(study.path, STUDY).resume() as again:
        assert again.read_settings(tomllib.loads) == {"budget": "0.2ms"}


def test_one_process_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "study"
    program = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        in_use = (
            rf"^study {path} is in use by process {process.pid}; wait until it ends, or stop it$"
        )
        with pytest.raises(StudyError, match=in_use):
            ResumableFolder(path, STUDY).create_or_resume()
        (path / "study.toml").touch()
        with pytest.raises(StudyError, match=in_use):
            ResumableFolder(path, STUDY).resume()
        reader = ResumableFolder(path, STUDY)
        assert reader.read_settings(tomllib.loads) == {}, "reading needs no lock"
        process.send_signal(signal.SIGKILL)
        process.wait()
        ResumableFolder(path, STUDY).resume().close()


def test_a_single_file_can_be_locked(tmp_path: Path) -> None:
    path = tmp_path / ".rows.json.lock"
    message = f"^rows.json is in use by process {os.getpid()}; take another folder$"
    with (
        take_lock(path, "rows.json", raises=GenetsError),
        pytest.raises(GenetsError, match=message),
    ):
        take_lock(path, "rows.json", raises=GenetsError, cure="take another folder")
    take_lock(path, "rows.json", raises=GenetsError).close()


@pytest.mark.parametrize("kind", [STUDY, RUN], ids=["study", "run"])
def test_foreign_folders_are_refused_and_left_alone(tmp_path: Path, kind: FolderKind) -> None:
    (tmp_path / "thesis.tex").write_text("dear")
    (tmp_path / "zz").touch()
    message = (
        f"^{tmp_path} is neither empty nor a {kind.noun} "
        f"\\(it holds thesis.tex but no {kind.settings_file}\\); take another folder$"
    )
    with pytest.raises(kind.raises, match=message):
        ResumableFolder(tmp_path, kind).create_or_resume()
    with pytest.raises(kind.raises, match=f"is a file; a {kind.noun} needs a folder"):
        ResumableFolder(tmp_path / "thesis.tex", kind).create_or_resume()
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(kind.raises, match=f"is not a {kind.noun} folder: it holds no"):
            ResumableFolder(path, kind).resume()
        with pytest.raises(kind.raises, match=f"it holds no {kind.settings_file}"):
            ResumableFolder(path, kind).read_settings(str)
    assert sorted(os.listdir(tmp_path)) == ["thesis.tex", "zz"]


@pytest.mark.parametrize(
    ("kind", "files", "refused"),
    [
        (STUDY, ("study.lock", "latency", "masternets.json"), ".other"),
        (RUN, ("run.lock", ".DS_Store"), "checkpoints"),
    ],
    ids=["study", "run"],
)
def test_files_may_precede_the_settings(
    tmp_path: Path, kind: FolderKind, files: tuple[str, ...], refused: str
) -> None:
    for name in files:
        (tmp_path / name).write_text("123\n")
    ResumableFolder(tmp_path, kind).create_or_resume().close()
    (tmp_path / refused).touch()
    with pytest.raises(kind.raises, match=rf"it holds {refused} but no"):
        ResumableFolder(tmp_path, kind).create_or_resume()


@pytest.mark.parametrize("kind", [STUDY, RUN], ids=["study", "run"])
@pytest.mark.parametrize("file", [MARKER, "study.toml", "settings.json", "format.json"])
def test_a_kill_during_the_first_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: FolderKind, file: str
) -> None:
    """A killed process does not remove its temporary file."""

    def killed(source: str, target: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        patch.setattr(Path, "unlink", lambda path: None)
        with pytest.raises(KeyboardInterrupt):
            write_atomic(tmp_path / file, "half")
    assert len(os.listdir(tmp_path)) == 1
    assert is_free(tmp_path)
    ResumableFolder(tmp_path, kind).create_or_resume().close()


@pytest.mark.parametrize("content", [b'budget = "0.', b"\xff\xfe", b"version = 2\nbudget = 1"])
def test_damaged_settings_are_one_sentence(study: ResumableFolder, content: bytes) -> None:
    def read(text: str) -> Any:
        return tomllib.loads(text)["budget"].upper()

    study.settings_path.write_bytes(content)
    with pytest.raises(StudyError, match=r"study\.toml is damaged or of another version: \S"):
        study.read_settings(read)


def test_settings_of_a_newer_genets_ask_for_an_update(study: ResumableFolder) -> None:
    def read(text: str) -> int:
        return check_version(tomllib.loads(text), newest=2)

    assert study.read_settings(read) == 1
    study.write_settings("version = 3\n")
    message = rf"^{study.settings_path} has format version 3, .* up to 2; update genets$"
    with pytest.raises(StudyError, match=message):
        study.read_settings(read)


def test_an_error_that_is_not_of_the_file_passes(study: ResumableFolder) -> None:
    def read(text: str) -> None:
        raise BlockFileError("block file 'mine.py' has changed")

    with pytest.raises(BlockFileError, match=r"^block file 'mine\.py' has changed$"):
        study.read_settings(read, passed=(BlockFileError,))
    with pytest.raises(StudyError, match=r"another version: block file 'mine\.py' has changed$"):
        study.read_settings(read)


def test_other_settings_are_refused_field_by_field(study: ResumableFolder) -> None:
    stored = {"budget": "0.2ms", "seed": 0, "target": {"batch_size": 64, "threads": 2}}
    study.check_same(stored, stored)
    asked = {"budget": "0.1ms", "seed": 0, "target": {"batch_size": 1, "threads": 2}}
    with pytest.raises(StudyError) as caught:
        study.check_same(stored, asked)
    assert str(caught.value) == (
        f"study {study.path} was begun with other settings (budget: 0.2ms in the study, 0.1ms "
        "asked; target.batch_size: 64 in the study, 1 asked); leave the changed settings out to "
        "continue this study, or give another folder"
    )


def test_differences() -> None:
    assert flatten({"a": {"b": {"c": 1}, "d": 2}, "e": {}}) == {"a.b.c": 1, "a.d": 2}
    assert differences({"space": {"widths": [1, 2]}}, {"space": {"widths": (1, 2)}}, "table") == []
    assert differences({"old": 1, "weights": ""}, {"new": [], "weights": "w"}, "run") == [
        "old: 1 in the run, not set asked",
        "weights: not set in the run, w asked",
        "new: not set in the run, [] asked",
    ]
    assert differences({"threads": 2}, {"threads": 4}, "table", now="here") == [
        "threads: 2 in the table, 4 here"
    ]
    assert differences({"x": None}, {}, "table") == []


def test_documents(study: ResumableFolder) -> None:
    assert study.load_json("master.json", dict) is None
    path = study.save_json("master.json", {"top1": 0.9})
    assert path == study.path / "master.json"
    assert json.loads(path.read_text()) == {"top1": 0.9}
    path.write_text('{"top1": ')
    message = r"master\.json is damaged \(.*\); remove it to have it computed again$"
    with pytest.raises(StudyError, match=message):
        study.load_json("master.json", dict)
    with pytest.raises(StudyError, match=r"; put back a copy of it$"):
        study.load_json("master.json", dict, cure="put back a copy of it")


def test_a_full_disk_is_one_sentence_and_loses_nothing(
    study: ResumableFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    study.save_json("master.json", 1)

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    message = (
        f"^cannot use study {study.path}: No space left on device; every finished trial is kept, "
        f"so free some space and give the same command again$"
    )
    with pytest.raises(StudyError, match=message):
        study.save_json("master.json", 2)
    with pytest.raises(StudyError, match=message):
        study.write_settings("")
    assert study.load_json("master.json", int) == 1
    assert study.read_settings(tomllib.loads) == {"budget": "0.2ms"}
    assert not list(study.path.glob(".*.tmp"))


def test_a_place_without_permission_is_one_sentence(tmp_path: Path) -> None:
    # Nothing exists yet, so nothing is said to be kept.
    message = "check the path and its permissions and give the same command again$"
    with pytest.raises(TrainingError, match=f"^cannot use run /proc/no/run: .*; {message}"):
        ResumableFolder("/proc/no/run", RUN).create_or_resume()
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match=f"[a-z]; {message}"):
        ResumableFolder(tmp_path / "file" / "run", RUN).create_or_resume()
    (tmp_path / "run" / "run.lock").mkdir(parents=True)
    with pytest.raises(TrainingError, match=f"[a-z]; {message}"):
        ResumableFolder(tmp_path / "run", RUN).create_or_resume()
    (tmp_path / "run" / "settings.json").write_text("{}")
    with pytest.raises(TrainingError, match=f"every checkpoint is kept, so {message}"):
        ResumableFolder(tmp_path / "run", RUN).create_or_resume()


def test_an_error_without_words_of_the_system_has_its_own() -> None:
    folder = ResumableFolder("x", STUDY)
    with pytest.raises(StudyError, match="cannot use study x: half a file;"), folder.explained():
        raise OSError("half a file")


def test_a_text_that_is_too_long_for_a_name_is_no_begun_folder() -> None:
    """A notation of a large structure stands where a command also takes a folder."""
    assert not ResumableFolder("XX3x16 " * 50, STUDY).is_begun
