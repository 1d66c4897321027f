"""A search that suffers faults: its driver, its progress, and the faults of a driver."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faulting.driver import HANG_SECONDS
from kills import rows

POLL_SECONDS = 0.3
LIMIT_SECONDS = 1800.0  # without a finished trial or candidate: the search hangs
MAX_COMMANDS = 20
WORKERS = "2"
PROGRAM = Path(__file__).with_name("driver.py")

Fault = Callable[["DisturbedSearch"], None]


class FaultyRunError(Exception):
    """A search hung, or ended in another way than a search may."""


@dataclass
class DisturbedSearch:
    """A search whose driver is started as often as it stops.

    Attributes:
        study: The study folder.
        where: Where its workers run; see `driver.py`.
        rng: For the choices of the faults.
        commands: How often the driver was started.
        sentences: The last line of each driver that ended with an error.
        seen: Every finished trial, as it was first seen.
        log_begin: Where the output of the last driver begins in the log.
    """

    study: Path
    where: str
    rng: random.Random
    commands: int = 0
    sentences: list[str] = field(default_factory=list)
    seen: dict[tuple[Any, ...], dict[str, Any]] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    log_begin: int = 0

    @property
    def log(self) -> Path:
        return self.study.with_suffix(".log")

    def start(self) -> None:
        """Start the driver."""
        if self.commands == MAX_COMMANDS:
            raise FaultyRunError(f"the search does not end after {MAX_COMMANDS} commands")
        self.commands += 1
        with self.log.open("ab") as log:
            self.log_begin = log.tell()
            self.process = subprocess.Popen(
                [sys.executable, str(PROGRAM), str(self.study), self.where, WORKERS],
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def go_on(self, steps: int | None = None) -> bool:
        """Let the search go on, with a new driver for one that stopped.

        Args:
            steps: The number of finished trials and candidates to wait for; None for the end.

        Returns:
            Whether the search has ended.
        """
        changed_at, last = time.monotonic(), self.steps()
        while True:
            assert self.process is not None
            status = self.process.poll()
            if status == 0:
                return True
            if status is not None:
                self._check_end(status)
                self.start()
            if (now := self.steps()) != last:
                changed_at, last = time.monotonic(), now
            if steps is not None and now >= steps:
                return False
            if time.monotonic() - changed_at > LIMIT_SECONDS:
                raise FaultyRunError(f"the search hangs after {now} trainings")
            time.sleep(POLL_SECONDS)

    def steps(self) -> int:
        """The number of finished trials and candidates."""
        now = rows(self.study)
        self.seen = {key: row for key, row in now.items() if row["status"] == "done"} | self.seen
        with suppress(OSError, ValueError):
            return len(now) + len(json.loads((self.study / "confirmed.json").read_text()))
        return len(now)

    def wait_for(self, find: Callable[[], list[int]]) -> int | None:
        """Choose one of the processes, as soon as there is one; None where the search ends."""
        assert self.process is not None
        while self.process.poll() is None:
            if found := find():
                return self.rng.choice(sorted(found))
            time.sleep(POLL_SECONDS)
        return None

    def end(self) -> None:
        """End the driver."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def _check_end(self, status: int) -> None:
        """A driver may be killed or interrupted, or end with one sentence.

        Before its command begins and after it has ended, Ctrl-C ends the process by the signal.
        """
        if status == -signal.SIGINT:
            return
        text = self.log.read_bytes()[self.log_begin :].decode(errors="replace")
        lines = text.splitlines() or ["no output"]
        if status not in (-signal.SIGKILL, 130) and not lines[-1].startswith("genets: "):
            raise FaultyRunError(f"a driver ended with status {status}: {lines[-1]}")
        if any(line.startswith("Traceback") for line in lines):
            raise FaultyRunError(f"a driver ended with a traceback: {lines[-1]}")
        if status not in (-signal.SIGKILL, 130):
            self.sentences.append(lines[-1])


def kill_driver(search: DisturbedSearch) -> None:
    _signal_driver(search, signal.SIGKILL)


def interrupt_driver(search: DisturbedSearch) -> None:
    """Ctrl-C once: what runs is finished."""
    _signal_driver(search, signal.SIGINT)


def interrupt_driver_twice(search: DisturbedSearch) -> None:
    _signal_driver(search, signal.SIGINT)
    time.sleep(search.rng.uniform(0.1, 2.0))
    _signal_driver(search, signal.SIGINT)


def stop_driver(search: DisturbedSearch) -> None:
    """Stop the driver for longer than the limit after which a group counts as hanging."""
    _signal_driver(search, signal.SIGSTOP)
    time.sleep(1.5 * HANG_SECONDS)
    _signal_driver(search, signal.SIGCONT)


def _signal_driver(search: DisturbedSearch, number: signal.Signals) -> None:
    assert search.process is not None
    search.process.send_signal(number)


DRIVER_FAULTS: dict[str, Fault] = {
    "kill_driver": kill_driver,
    "interrupt_driver": interrupt_driver,
    "interrupt_driver_twice": interrupt_driver_twice,
    "stop_driver": stop_driver,
}


def processes() -> Iterator[tuple[int, int, str]]:
    """The number, the parent and the command line of each process of this machine."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
                yield int(folder.name), int(parent), words


def send(process: int | None, number: signal.Signals) -> None:
    """Signal a process, where there is one that still lives."""
    if process is not None:
        with suppress(ProcessLookupError):
            os.kill(process, number)
