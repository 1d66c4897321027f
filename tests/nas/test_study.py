"""Studies continue after any kill, are locked for other processes, and name damaged files."""

import errno
import fcntl
import json
import os
import random
import re
import signal
import sqlite3
import tempfile
import time
import unicodedata
import warnings
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from genets.core.errors import StudyError
from genets.data import MAX_BROKEN_SHARE, load_digits
from genets.nas.search import _check_same_data
from genets.nas.settings.settings import SearchSettings
from genets.nas.study import layout
from genets.nas.study.records import Trial, TrialResult
from genets.nas.study.study import Study
from genets.nas.study.trial_database import SCHEMA_1, read_in_order
from genets.structure import SuperBlock, zoo

SETTINGS = SearchSettings(data="digits", budget="0.2ms")


def trial(number, repeat=0):
    return Trial(number % 4, SuperBlock("BL", 1 + number // 4, 64, 2, 5, 0.1 + 0.2), repeat)


def done(number):
    return TrialResult(trial(number), "done", number / 1000, 1 / (number + 3), 0.5)


def record_all(study, numbers):
    for number in numbers:
        study.record(done(number))


@pytest.fixture
def study(tmp_path):
    with Study.create_or_resume(tmp_path / "study", SETTINGS) as study:
        yield study


def test_stored_results_are_read_unchanged_and_in_order(study):
    failed = TrialResult(trial(9), "failed", reason="diverged: 'loss' is [nan]")
    for result in (done(7), failed, done(2), replace(done(2), trial=trial(2, repeat=1))):
        study.record(result)
    study.close()
    with Study.open(study.folder) as again:
        assert again.settings == SETTINGS
        assert [r.trial for r in again.results()] == sorted(r.trial for r in again.results())
        assert {failed, done(7), done(2)} < set(again.results())


def test_a_trial_is_recorded_once(study):
    study.record(done(1))
    with pytest.raises(StudyError, match="recorded already"):
        study.record(replace(done(1), top1=0.5))
    assert study.results() == [done(1)]


def test_a_failed_trial_counts_as_ended_and_may_be_replaced(study):
    study.record(TrialResult(trial(1), "failed", reason="out of memory"))
    trials = [trial(n) for n in (2, 1, 2, 0)]
    assert study.missing(trials) == [trial(2), trial(0)]
    assert study.missing(trials, retry_failed=True) == [trial(2), trial(1), trial(0)]
    study.record(done(1))
    assert study.results() == [done(1)]


def test_every_changed_setting_is_named(study):
    study.close()
    other = SearchSettings(
        data="digits", budget="0.1ms", target={"batch_size": 1}, trial_training={"epochs": 99}
    )
    with pytest.raises(StudyError) as caught:
        Study.create_or_resume(study.folder, other)
    message = str(caught.value)
    assert "budget: 0.2ms in the study, 0.1ms asked" in message
    assert "target.batch_size: 64 in the study, 1 asked" in message
    assert "trial_training.epochs: 6 in the study, 99 asked" in message
    assert "seed" not in message
    Study.create_or_resume(study.folder, SETTINGS).close()


def test_a_folder_that_is_not_a_study_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("dear")
    with pytest.raises(StudyError, match=r"holds thesis\.tex but no study\.toml"):
        Study.create_or_resume(tmp_path, SETTINGS)
    with pytest.raises(StudyError, match="is a file"):
        Study.create_or_resume(tmp_path / "thesis.tex", SETTINGS)
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(StudyError, match="not a study folder"):
            Study.open(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_study_begins_in_an_empty_folder_and_after_a_kill_at_the_start(tmp_path):
    (tmp_path / "study.lock").write_text("123\n")
    (tmp_path / ".study.toml.abcd.tmp").write_text("data = ")
    Study.create_or_resume(tmp_path, SETTINGS).close()
    (tmp_path / "trials.sqlite").unlink()
    (tmp_path / ".trials.sqlite.tmp").write_bytes(b"half a data")
    with Study.create_or_resume(tmp_path, SETTINGS) as study:
        study.record(done(1))
        assert study.results() == [done(1)]
        assert study.settings == SETTINGS


@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.7])
def test_a_truncated_database_is_refused_and_not_changed(study, share):
    record_all(study, range(200))
    study.close()
    path = study.folder / "trials.sqlite"
    content = path.read_bytes()[: int(path.stat().st_size * share)]
    path.write_bytes(content)
    with pytest.raises(StudyError, match=r"trials\.sqlite (is damaged|was not written by genets)"):
        Study.create_or_resume(study.folder, SETTINGS)
    assert path.read_bytes() == content


def test_damage_inside_the_database_is_found(study):
    record_all(study, range(200))
    study.close()
    path = study.folder / "trials.sqlite"
    content = bytearray(path.read_bytes())
    content[4096:12288] = b"\x5a" * 8192
    path.write_bytes(content)
    with pytest.raises(StudyError, match=r"damaged.*or move it away to run the trials again"):
        Study.open(study.folder)


def test_foreign_files_are_refused(study):
    study.close()
    path = study.folder / "trials.sqlite"
    path.write_text("no database at all, but long enough to be mistaken for one" * 20)
    with pytest.raises(StudyError, match="damaged"):
        Study.open(study.folder)
    path.unlink()
    foreign = sqlite3.connect(path)
    foreign.execute("CREATE TABLE trials (mine TEXT)")
    foreign.close()
    with pytest.raises(StudyError, match="not written by genets"):
        Study.open(study.folder)


ENDLESS = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT n FROM c"


@pytest.mark.parametrize(
    "change",
    [
        f"DROP TABLE trials; CREATE VIEW trials AS {ENDLESS}",
        "ALTER TABLE trials ADD COLUMN more TEXT",
        "DROP TABLE trials",
        "CREATE TABLE t AS SELECT * FROM trials; UPDATE t SET notation = NULL; "
        "DROP TABLE trials; ALTER TABLE t RENAME TO trials",
    ],
)
def test_a_database_with_another_table_is_refused(study, change):
    study.record(done(1))
    study.close()
    path = study.folder / "trials.sqlite"
    database = sqlite3.connect(path)
    database.executescript(change)
    database.close()
    with pytest.raises(StudyError, match="it does not hold the table of trials"):
        Study.open(study.folder)
    with pytest.raises(StudyError, match="it does not hold the table of trials"):
        read_in_order(path)


def test_a_file_system_without_locks_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    folder = tmp_path / "study"
    message = f"study {folder} cannot be locked against other processes (its file system ignores l"
    with pytest.raises(StudyError, match=re.escape(message)) as caught:
        Study.create_or_resume(folder, SETTINGS)
    assert str(caught.value).endswith("or on a network file system that has locks")


def test_a_database_that_cannot_be_locked_says_what_to_do(study):
    """Another connection holds the lock, as it seems on a file system without locks."""
    study.record(done(1))
    study._trials[1]._connection.execute("PRAGMA busy_timeout = 0")
    with closing(sqlite3.connect(study.folder / "trials.sqlite")) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StudyError, match="to a file system that has locks, and give the same"):
            study.record(done(2))


def test_a_study_that_disappears_is_one_sentence(study):
    study.record(done(1))
    moved = study.folder.rename(study.folder.with_name("moved"))
    with pytest.raises(StudyError, match=r"trials\.sqlite is gone, so trials cannot be recorded"):
        study.record(done(2))
    study.close()
    with Study.open(moved) as again:
        assert done(1) in again.results()


def test_a_copy_that_cannot_be_written_names_the_folder(study, tmp_path, monkeypatch):
    """The folder for temporary files is full, or it is gone."""
    study.record(done(1))
    place = tmp_path / "temporary"
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    path = study.folder / "trials.sqlite"
    message = f"cannot copy {path} to the folder for temporary files, {place}: {{}}; free some"
    with pytest.raises(StudyError, match=re.escape(message.format("No such file or directory"))):
        read_in_order(path)

    def fill(self, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    place.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", fill)
        with pytest.raises(StudyError, match=re.escape(message.format("No space left on device"))):
            read_in_order(path)
    assert read_in_order(path) == [done(1)]
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("notation", ["'XX3'", "''", "CAST(x'ff' AS TEXT)"])
def test_a_row_that_is_no_trial_is_refused(study, notation):
    study.record(done(1))
    study._trials[1]._connection.execute(f"UPDATE trials SET notation = {notation}")
    with pytest.raises(StudyError, match=r"trials\.sqlite"):
        study.results()
    with pytest.raises(StudyError, match=r"trials\.sqlite is damaged"):
        read_in_order(study.folder / "trials.sqlite")


def saved(study, name, content):
    """Save some content, and give its file."""
    study.save_json(name, content)
    return study.path(f"{name}.json")


CANDIDATE = {
    "structure": str(zoo["genet_light"]), "budget_ms": 1, "predicted_ms": 1.5, "measured_ms": 1.5,
    "low_ms": 1.4, "high_ms": 1.6, "master_ms": 2.0, "noisy": False, "predicted_accuracy": None,
    "predicted_accuracy_std": None, "table_rmspe": 0.1,
}  # fmt: skip
TRAINED = {
    "structure": str(zoo["genet_light"]), "status": "done", "epochs": 3, "top1": 0.5,
    "cross_entropy": 1.5, "seconds": 1.0, "reason": "",
}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [{"measured_ms": "fast"}, {"budget_ms": 0}, {"high_ms": None}, {"noisy": "no"},
     {"predicted_accuracy": []}, {"structure": 7}, {"table_rmspe": 10**400}],
)  # fmt: skip
def test_a_candidate_with_a_wrong_value_is_refused(study, change):
    path = saved(study, "selected", CANDIDATE)
    assert study.selected().structure == zoo["genet_light"]
    path.write_text(json.dumps(CANDIDATE | change))
    with pytest.raises(StudyError, match=r"selected\.json is damaged"):
        study.selected()


@pytest.mark.parametrize(
    "change",
    [{"top1": None}, {"top1": 1.5}, {"cross_entropy": "low"}, {"status": "ended"}, {"epochs": 2.5}],
)
def test_a_trained_candidate_with_a_wrong_value_is_refused(study, change):
    path = saved(study, "confirmed", [TRAINED])
    assert study.trained()[0].score["top1"] == 0.5
    path.write_text(json.dumps([TRAINED | change]))
    with pytest.raises(StudyError, match=r"confirmed\.json is damaged"):
        study.trained()


COUNTS = {
    "class_names": ["a", "b"], "master": [[0, 0, 5]], "winner": [[0, 1, 5]],
    "difference": {"top1": -1.0, "half_width": 0.0, "images": 5},
}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [{"class_names": "ab"}, {"class_names": [1, 2]}, {"master": [[0, -1, 5]]},
     {"master": [[0, 2, 5]]}, {"winner": [[0, 0, -5]]}, {"winner": 3},
     {"difference": {"top1": 2, "half_width": 0, "images": 5}}],
)  # fmt: skip
def test_predictions_that_are_not_possible_are_refused(study, change):
    path = saved(study, layout.TEST, COUNTS)
    assert study.class_counts().winner.tolist() == [[0, 5], [0, 0]]
    path.write_text(json.dumps(COUNTS | change))
    with pytest.raises(StudyError, match=r"test\.json is damaged"):
        study.class_counts()


@pytest.mark.parametrize("seconds", ["-1", "NaN", "1e999", '"long"', "[]"])
def test_times_that_are_not_times_are_refused(study, seconds):
    (study.folder / "seconds.json").write_text(f'{{"trials": {seconds}}}')
    with pytest.raises(StudyError, match=r"seconds\.json is damaged"):
        study.seconds()


def test_another_schema_is_refused(study):
    study.close()
    newer = sqlite3.connect(study.folder / "trials.sqlite")
    newer.execute("PRAGMA user_version = 9")
    newer.close()
    with pytest.raises(StudyError, match="schema version 9, this genets reads 2"):
        Study.open(study.folder)


def test_trials_of_an_older_version_have_no_balanced_accuracy(study):
    path = study.folder / "trials.sqlite"
    record_all(study, range(3))
    study.close()
    older = sqlite3.connect(path)
    older.execute("ALTER TABLE trials RENAME TO newer")
    older.execute(SCHEMA_1)
    columns = "super_block, notation, repeat, status, top1, cross_entropy, seconds, reason"
    older.execute(f"INSERT INTO trials SELECT {columns} FROM newer")
    older.execute("DROP TABLE newer")
    older.execute("PRAGMA user_version = 1")
    older.commit()
    older.close()
    before = path.read_bytes()
    assert read_in_order(path) == [done(number) for number in range(3)]
    assert path.read_bytes() == before
    for _ in range(2):  # the second time, the file is up to date
        with Study.open(study.folder) as again:
            assert again.results() == [done(number) for number in range(3)]
    with Study.open(study.folder) as again:
        again.record(replace(done(3), balanced_accuracy=0.25))
        assert again.results()[-1].balanced_accuracy == 0.25
    assert read_in_order(path)[-1].balanced_accuracy == 0.25


def test_damaged_settings_are_refused(study):
    study.close()
    for content in (b'data = "dig', b"\xff\xfe", b"", b'data = "digits"\nbudgte = "1ms"'):
        (study.folder / "study.toml").write_bytes(content)
        with pytest.raises(StudyError, match=r"study\.toml is damaged or of another version"):
            Study.open(study.folder)


def test_a_full_disk_gives_one_sentence_and_loses_no_trial(study):
    study.record(done(0))
    study._trials[1]._connection.execute("PRAGMA max_page_count = 1")  # stands for a full disk
    with pytest.raises(StudyError, match="disk is full; every recorded trial is kept"):
        record_all(study, range(1, 1000))
    results = study.results()
    study.close()
    with Study.create_or_resume(study.folder, SETTINGS) as again:
        assert again.results() == results
        assert len(results) >= 1
        again.record(done(999))


def test_a_full_disk_while_a_json_file_is_written(study, monkeypatch):
    study.save_json("master", {"top1": 0.9})

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StudyError, match=r"No space left on device.*free some space"):
        study.save_json("master", {"top1": 0.1})
    assert study.load_json("master", dict) == {"top1": 0.9}
    assert not list(study.folder.glob(".*.tmp"))


def test_a_folder_that_cannot_be_written_gives_one_sentence(tmp_path):
    with pytest.raises(StudyError, match="cannot use study"):
        Study.create_or_resume("/proc/no/study", SETTINGS)
    (tmp_path / "file").touch()
    with pytest.raises(StudyError, match="cannot use study"):
        Study.create_or_resume(tmp_path / "file" / "study", SETTINGS)


def test_json_files_are_written_and_read(study):
    assert study.load_json("verification", dict) is None
    path = saved(study, "verification", {"net": [0.1, None]})
    assert study.load_json("verification", dict) == {"net": [0.1, None]}
    path.write_text('{"net": [0.1')
    with pytest.raises(StudyError, match=r"verification\.json is damaged"):
        study.load_json("verification", dict)


def test_the_times_of_an_older_study_have_the_present_names(study):
    study.save_json(
        "seconds",
        {
            "trials, round 2": 1,
            "verification": 2,
            "confirmation, round 2": 3,
            "hand-over": 4,
            "export": 5,
        },
    )
    assert study.seconds() == {
        "trials, round 2": 1,
        "selection": 2,
        "candidate training, round 2": 3,
        "export": 9,
    }


def test_one_process_at_a_time(study):
    with pytest.raises(StudyError, match=f"is in use by process {os.getpid()}"):
        Study.open(study.folder)
    study.close()
    Study.open(study.folder).close()


def write_until_killed(folder, pipe):
    """In a forked process: write the number of each trial to the pipe after it was recorded."""
    with Study.create_or_resume(folder, SETTINGS) as study:
        for missing in study.missing([trial(n) for n in range(2000)]):
            number = missing.index + 4 * (missing.super_block.depth - 1)
            study.record(done(number))
            os.write(pipe, f"{number}\n".encode())


def fork_writer(folder):
    """Start a writer; give its process id and the reading end of its pipe."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: fork beside threads
        pid = os.fork()
    if pid == 0:
        try:
            write_until_killed(folder, writing)
        finally:
            os._exit(0)
    os.close(writing)
    return pid, os.fdopen(reading)


def test_ten_kills_neither_lose_nor_repeat_a_trial(tmp_path):
    rng, recorded = random.Random(0), []
    for _ in range(10):
        pid, numbers = fork_writer(tmp_path / "study")
        with numbers:
            recorded.append(int(numbers.readline()))
            time.sleep(rng.uniform(0, 0.05))
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            recorded += map(int, numbers)
    assert len(set(recorded)) == len(recorded)
    with Study.create_or_resume(tmp_path / "study", SETTINGS) as study:
        results = study.results()
    assert set(map(done, recorded)) <= set(results)
    assert len(results) <= len(recorded) + 10  # a kill may come between a row and its number


def test_the_share_of_broken_images_may_change(tmp_path):
    settings = SearchSettings(data="digits", budget="0.1ms")
    Study.create_or_resume(tmp_path, settings).close()
    for share in (0.2, 0.0):
        changed = settings.model_copy(update={"max_broken_share": share})
        with Study.create_or_resume(tmp_path, changed) as study:
            assert study.settings.max_broken_share == share
    assert settings.max_broken_share == MAX_BROKEN_SHARE
    both = settings.model_copy(update={"max_broken_share": 0.3, "seed": 5})
    with pytest.raises(StudyError, match="seed: 0 in the study, 5 asked"):
        Study.create_or_resume(tmp_path, both)


def test_the_disk_space_of_trial_weights_may_change_beside_another_change(tmp_path):
    settings = SearchSettings(data="digits", budget="0.1ms")
    Study.create_or_resume(tmp_path, settings).close()
    free = {"max_broken_share": 0.3, "trial_weights_mb": 5}
    trials = 1 + settings.trials_per_super_block
    for changes in (free, {"trial_weights_mb": 6, "trials_per_super_block": trials}):
        settings = settings.model_copy(update=changes)
        with Study.create_or_resume(tmp_path, settings) as study:
            assert study.settings == settings


def test_the_budget_may_change_until_there_are_candidates(study):
    study.record(done(0))
    study.close()
    other = SETTINGS.model_copy(update={"budget": "0.1ms"})
    with Study.create_or_resume(study.folder, other) as changed:
        assert changed.settings.budget == "0.1ms"
        assert changed.results() == [done(0)]
        changed.save_json("selected", {})  # the list of candidates may be lost
    with pytest.raises(StudyError, match=r"genets select \S+ --budget 0.2ms"):
        Study.create_or_resume(study.folder, SETTINGS)


def test_a_budget_is_the_same_in_other_words(study):
    study.record(done(0))
    study.save_json("selected", {})
    study.close()
    for budget in ("0.20ms", "200us"):
        asked = SETTINGS.model_copy(update={"budget": budget})
        with Study.create_or_resume(study.folder, asked) as again:
            assert again.settings.budget == SETTINGS.budget == "0.2ms"
            assert again.results() == [done(0)]


def test_class_names_in_another_unicode_form_are_the_same_images(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "Blüte") for form in ("NFC", "NFD"))
    data = replace(load_digits(8), class_names=(composed, *"012345678"))
    settings = SearchSettings(data="digits", budget="0.1ms")
    with Study.create_or_resume(tmp_path, settings) as study:
        _check_same_data(study, data)
        record = study.load_json("data", dict)
        # An older genets stored the names as the file system gave them.
        study.save_json("data", record | {"class_names": [decomposed, *"012345678"]})
        _check_same_data(study, data)
        study.save_json("data", record | {"class_names": ["Blute", *"012345678"]})
        with pytest.raises(StudyError, match="have changed since study"):
            _check_same_data(study, data)
