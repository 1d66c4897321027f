"""Inputs are read in one process; another one continues where that process crashes or hangs."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from fuzzing.files import STUDY
from fuzzing.mutations import MUTATIONS
from fuzzing.readers import Subject, subjects
from genets.core.errors import GenetsError

KINDS = tuple(MUTATIONS)
HANG_SECONDS = 60.0  # of processor time, because other work may use the machine
HANG_WALL_SECONDS, STEP_SECONDS = 600, 5
BLOW_UP_BYTES = 2**30  # above the memory before
LIMIT_BYTES = 12 * 2**30  # so that no input can harm the machine
LAUNCHES = {"os.system", "subprocess.Popen", "os.posix_spawn", "os.exec", "os.spawn", "pty.spawn"}
CHANGED_BY_COMMANDS = ("study.log", "study.lock", "report.html", "seconds.json")
SCRATCH_SUFFIXES = ("-wal", "-shm", "-journal", ".lock")


@dataclass(frozen=True)
class Outcome:
    """The end of one input.

    Attributes:
        kind: The kind of the file.
        path: The file.
        result: `read`, `named error`, `traceback`, `hang` or `crash`.
        reason: The class, place and message of an error.
        seconds: Processor time.
        memory_bytes: The growth of the memory of this process, or the memory of a command.
        executed: Whether the file made the reader run code or start a program.
        lost: Whether another file of the study was changed or removed.
    """

    kind: str
    path: str
    result: str
    reason: str = ""
    seconds: float = 0.0
    memory_bytes: int = 0
    executed: bool = False
    lost: bool = False

    def is_fault(self, max_bytes: int) -> bool:
        good = self.result in ("read", "named error") and self.seconds <= HANG_SECONDS
        return not good or self.executed or self.lost or self.memory_bytes > max_bytes


def read_all(valid: Path, seed: int, count: int) -> Iterator[Outcome]:
    """Read all inputs in another process; begin another one after a crash or a hang."""
    number = 0
    while number < count:
        here, there = multiprocessing.Pipe(duplex=False)
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=_serve, args=(valid, seed, number, count, there))
        process.start()
        there.close()
        here.recv()  # every valid file was read
        while number < count:
            result = "hang"
            try:
                if ends_in_time(here.poll, process.pid):
                    outcome: Outcome = here.recv()
                    _report(number, outcome)
                    yield outcome
                    number += 1
                    continue
            except EOFError:
                result = "crash"
            process.kill()
            process.join()
            subject, _ = choose(seed, number)
            reason = f"exit status {process.exitcode}"
            outcome = Outcome(subject.kind, str(subject.path), result, reason)
            _report(number, outcome)
            yield outcome
            number += 1
            break
        process.join()


def ends_in_time(wait: Callable[[float], bool], process: int | None) -> bool:
    """Wait for a process; False where it works or sleeps for too long.

    Args:
        wait: Waits for some seconds; gives whether the process is ready.
        process: The number of the process.
    """
    (_, before), waited = _state(process), 0
    while not wait(STEP_SECONDS):
        state, now = _state(process)
        waited += STEP_SECONDS if state != "T" else 0  # T: somebody has paused the process
        if now - before > HANG_SECONDS or waited > HANG_WALL_SECONDS:
            return False
    return True


def _state(process: int | None) -> tuple[str, float]:
    """The state of a process, and its processor seconds."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:  # it has ended
        return "", 0.0
    return fields[0], (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _serve(valid: Path, seed: int, first: int, count: int, results: Connection) -> None:
    reader = Reader(valid, seed)
    results.send(None)
    for number in range(first, count):
        results.send(reader.read(number))


def _report(number: int, outcome: Outcome) -> None:
    if outcome.is_fault(BLOW_UP_BYTES) or number % 1000 == 999:
        print(number, outcome, flush=True)


def choose(seed: int, number: int) -> tuple[Subject, random.Random]:
    """Give the file of an input and the generator of its mutation."""
    kind = KINDS[number % len(KINDS)]
    rng = random.Random(f"{seed} {number}")
    return rng.choice([each for each in subjects() if each.kind == kind]), rng


class Reader:
    """Reads mutated files in this process, in a copy of the valid files."""

    def __init__(self, valid: Path, seed: int) -> None:
        self.valid, self.seed = valid, seed
        self.root = Path(tempfile.mkdtemp(dir=valid.parent)) / "root"
        shutil.copytree(valid, self.root)
        warnings.simplefilter("ignore")
        os.chdir(self.root)
        self._launched = False
        self._files = digests(self.root / STUDY)
        for subject in {each.read: each for each in subjects()}.values():
            subject.read(self.root)  # a valid file is read; libraries start their helpers here
            self._restore(subject.path, (valid / subject.path).read_bytes())
        sys.addaudithook(self._audit)
        used = _memory("VmSize")
        resource.setrlimit(resource.RLIMIT_AS, (used + LIMIT_BYTES, resource.RLIM_INFINITY))

    def read(self, number: int, *, show: bool = False) -> Outcome:
        """Mutate a file, read it, and put the valid file back."""
        subject, rng = choose(self.seed, number)
        path = self.root / subject.path
        valid = (self.valid / subject.path).read_bytes()
        path.write_bytes(MUTATIONS[subject.kind](valid, rng))
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins at the present memory
        self._launched, result, reason = False, "read", ""
        memory, start = _memory("VmRSS"), time.process_time()
        try:
            subject.read(self.root)
        except GenetsError as error:
            result, reason = "named error", str(error)
        except BaseException as error:  # noqa: BLE001 every other error is a fault to be counted
            result, reason = "traceback", _place(error)
            if show:
                traceback.print_exc()
        seconds, memory = time.process_time() - start, _memory("VmHWM") - memory
        executed = self._launched or (self.root / "canary").exists()
        lost = self._restore(subject.path, valid)
        return Outcome(
            subject.kind, str(subject.path), result, reason, seconds, memory, executed, lost
        )

    def _restore(self, changed: Path, content: bytes) -> bool:
        """Put the valid files back; give whether another file of the study was changed."""
        (self.root / "canary").unlink(missing_ok=True)
        (self.root / changed).write_bytes(content)
        for path in (self.root / STUDY).rglob("*"):
            if path.name.endswith(SCRATCH_SUFFIXES):
                path.unlink()
        is_lost = digests(self.root / STUDY) != self._files
        if is_lost:
            shutil.rmtree(self.root / STUDY)
            shutil.copytree(self.valid / STUDY, self.root / STUDY)
        return is_lost

    def _audit(self, event: str, arguments: object) -> None:
        self._launched |= event in LAUNCHES


def _memory(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def _place(error: BaseException) -> str:
    """The class of an error, the last line of genets that it passed, and its message."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/genets/" in frame.filename] or frames
    place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
    return f"{type(error).__name__} at {place}: {str(error)[:200]}"


def digests(folder: Path) -> dict[str, str]:
    """The digest of every file that holds results."""
    return {
        str(path.relative_to(folder)): hashlib.blake2b(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path.name not in CHANGED_BY_COMMANDS
        and not path.name.endswith(SCRATCH_SUFFIXES)
    }
