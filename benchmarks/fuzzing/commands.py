"""Whole commands on mutated files."""

from __future__ import annotations

import os
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from fuzzing.files import STUDY
from fuzzing.mutations import MUTATIONS
from fuzzing.process import HANG_WALL_SECONDS, KINDS, Outcome, digests
from fuzzing.readers import read_study, subjects
from genets.core.errors import GenetsError

BLOW_UP_BYTES = 4 * 2**30  # of a whole command


def run_command(valid: Path, seed: int, number: int) -> Outcome:
    """Run a whole command on a mutated file, in a copy of the valid files."""
    rng = random.Random(f"{seed} command {number}")
    kind = KINDS[number % len(KINDS)]
    subject = rng.choice([each for each in subjects() if each.kind == kind and each.commands])
    root = Path(tempfile.mkdtemp(dir=valid.parent)) / "root"
    shutil.copytree(valid, root)
    before = digests(root / STUDY)
    content = (root / subject.path).read_bytes()
    (root / subject.path).write_bytes(MUTATIONS[kind](content, rng))
    words = shlex.split(rng.choice(subject.commands).format(root=root))
    result, reason, seconds, memory = _run(words, root)
    executed = (root / "canary").exists()
    (root / subject.path).write_bytes(content)
    lost = not before.items() <= digests(root / STUDY).items() or not _is_readable(root)
    shutil.rmtree(root.parent)
    reason = f"{words[0]}: {reason}" if reason else ""
    outcome = Outcome(kind, str(subject.path), result, reason, seconds, memory, executed, lost)
    if outcome.is_fault(BLOW_UP_BYTES):
        print("command", number, shlex.join(words), outcome, flush=True)
    return outcome


def _run(words: list[str], root: Path) -> tuple[str, str, float, int]:
    """Run a command; give its result, the reason of a failure, processor seconds and memory."""
    programs = root / "programs"
    programs.mkdir()
    for name in ("gs", "gswin32c"):  # Ghostscript, which Pillow would start for an EPS file
        (programs / name).write_text(f"#!/bin/sh\ntouch {shlex.quote(str(root / 'canary'))}\n")
        (programs / name).chmod(0o755)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    process = subprocess.Popen(
        [sys.executable, "-m", "genets", *words],
        cwd=root,
        env={**os.environ, "PATH": path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    watch = threading.Timer(HANG_WALL_SECONDS, process.kill)
    watch.start()
    assert process.stderr is not None
    text = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    is_late = not watch.is_alive()
    watch.cancel()
    lines = [line for line in text.splitlines() if line.strip()] or [""]
    ours = [line.strip() for line in lines if "/genets/" in line and line.lstrip()[:4] == "File"]
    reason = " ".join([*ours[-1:], lines[-1][:200]])
    result = "traceback"
    if is_late:
        result = "hang"
    elif process.returncode < 0:
        result, reason = "crash", f"exit status {process.returncode}"
    elif "Traceback (most recent call last)" not in text:
        result = {0: "read", 2: "named error", 3: "named error"}.get(process.returncode, result)
    return result, reason, usage.ru_utime + usage.ru_stime, 1024 * usage.ru_maxrss


def _is_readable(root: Path) -> bool:
    try:
        read_study(root)
    except GenetsError:
        return False
    return True
