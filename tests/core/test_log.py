"""The library's log: silent by default, on standard error, and in one file per study."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextvars import copy_context
from pathlib import Path

import pytest

from genets.core.log import get_logger, log_to_file, set_verbosity
from genets.core.progress import PhaseTimer

LOG = get_logger("genets.nas.session")


@pytest.fixture(autouse=True)
def _silent_afterwards() -> Iterator[None]:
    yield
    set_verbosity(None)


def messages(path: Path) -> list[str]:
    return [line.partition("session: ")[2] for line in path.read_text().splitlines()]


def test_the_library_is_silent_by_default() -> None:
    program = (
        "from genets.core.log import get_logger; get_logger('genets.nas').critical('no'); "
        "import logging; logging.warning('yes')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("", "WARNING:root:yes\n")


def test_an_application_gets_the_records_that_its_level_admits() -> None:
    program = (
        "import logging, sys; logging.basicConfig(level=sys.argv[1], format='%(message)s')\n"
        "from genets.core.log import get_logger\n"
        "log = get_logger('genets.nas'); log.info('phase'); log.warning('noisy')"
    )
    for level, shown in (("WARNING", "noisy\n"), ("INFO", "phase\nnoisy\n")):
        done = subprocess.run(
            [sys.executable, "-c", program, level], capture_output=True, text=True, check=True
        )
        assert done.stderr == shown


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        (logging.DEBUG, ["debug", "info", "warning"]),
        (logging.INFO, ["info", "warning"]),
        (logging.WARNING, ["warning"]),
        (logging.CRITICAL, []),
        (None, []),
    ],
)
def test_verbosity(level: int | None, shown: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    set_verbosity(logging.DEBUG)
    set_verbosity(level)
    LOG.debug("a %s", "debug")
    LOG.info("an info")
    LOG.warning("a warning")
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split()[-1] for line in err.splitlines()] == shown
    if shown:
        assert err.endswith("WARNING genets.nas.session: a warning\n")


def test_a_file_has_a_line_for_each_record(tmp_path: Path) -> None:
    path = tmp_path / "study.log"
    for number in (1, 2):
        with log_to_file(path):
            LOG.info("run %d\nbegins", number)
            LOG.debug("not shown")
            try:
                raise ValueError("why")
            except ValueError:
                LOG.exception("failed")
        LOG.info("after the end")
    lines = path.read_text().splitlines()
    assert len(lines) == 4
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
    assert re.fullmatch(rf"{stamp} INFO genets\.nas\.session: run 1\\nbegins", lines[0])
    assert re.fullmatch(rf"{stamp} ERROR genets\.nas\.session: failed\\n.*why", lines[3])


def test_each_study_gets_its_own_records(tmp_path: Path) -> None:
    """Two searches at the same time in two threads, and one search inside another."""
    meet = threading.Barrier(2)

    def search(name: str) -> None:
        with log_to_file(tmp_path / name):
            for number in range(20):
                meet.wait(timeout=30)
                LOG.info("%s %d", name, number)

    threads = [threading.Thread(target=search, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in ("a", "b"):
        assert messages(tmp_path / name) == [f"{name} {number}" for number in range(20)]
    with log_to_file(tmp_path / "outer"):
        LOG.info("before")
        with log_to_file(tmp_path / "inner"):
            LOG.info("inside")
        LOG.info("after")
    assert messages(tmp_path / "outer") == ["before", "after"]
    assert messages(tmp_path / "inner") == ["inside"]


def test_a_thread_logs_to_the_study_that_is_open(tmp_path: Path) -> None:
    def log_from_thread(*, copied: bool) -> None:
        run = copy_context().run if copied else lambda call, *words: call(*words)
        thread = threading.Thread(target=run, args=(LOG.info, f"copied {copied}"))
        thread.start()
        thread.join()

    with log_to_file(tmp_path / "a"):
        log_from_thread(copied=False)
        with log_to_file(tmp_path / "b"):
            log_from_thread(copied=True)
            log_from_thread(copied=False)  # of neither study, as two are open
    assert messages(tmp_path / "a") == ["copied False"]
    assert messages(tmp_path / "b") == ["copied True"]


def test_a_full_disk_and_a_missing_folder_stop_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("the system has no /dev/full")
    done = []
    for path in (full, tmp_path / "absent" / "study.log", tmp_path):
        with log_to_file(path):
            LOG.warning("lost")
            done.append(path)
    assert len(done) == 3
    assert capsys.readouterr() == ("", "")


def test_files_are_closed_and_an_error_of_the_block_passes(tmp_path: Path) -> None:
    handlers = list(logging.getLogger("genets").handlers)
    with pytest.raises(ZeroDivisionError), log_to_file(tmp_path / "a"):
        raise ZeroDivisionError
    assert logging.getLogger("genets").handlers == handlers


def test_phases_are_logged_with_their_times(tmp_path: Path) -> None:
    timer = PhaseTimer({}, lambda seconds: None)
    with log_to_file(tmp_path / "a"):
        with timer.phase("trials"):
            pass
        with pytest.raises(KeyboardInterrupt), timer.phase("final training"):
            raise KeyboardInterrupt
    words = [line.partition("progress: ")[2] for line in (tmp_path / "a").read_text().splitlines()]
    assert words == [
        "trials: started",
        "trials: ended after 0.0 s",
        "final training: started",
        "final training: stopped by KeyboardInterrupt after 0.0 s",
    ]
