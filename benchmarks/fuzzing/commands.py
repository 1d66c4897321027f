"""Whole commands on mutated files."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import resource
import shlex
import shutil
import signal
import sys
import tempfile
from multiprocessing.connection import wait
from pathlib import Path

from fuzzing.files import STUDY
from fuzzing.mutations import MUTATIONS
from fuzzing.process import HANG_SECONDS, KINDS, Outcome, digests, ends_in_time
from fuzzing.readers import read_study, subjects
from genets.cli import main
from genets.core.errors import GenetsError

BLOW_UP_BYTES = 4 * 2**30  # of a whole command
ERRORS, USAGE = "standard-error.txt", "usage.json"
PRELOADED = (
    "fuzzing.commands", "genets.nas.search", "genets.report.study.page", "genets.report.rank.page",
    "genets.training.train_network", "timm", "onnxruntime", "altair",
)  # fmt: skip


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
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    process = context.Process(target=_be_genets, args=(words, root))
    process.start()
    is_late = not ends_in_time(lambda seconds: bool(wait([process.sentinel], seconds)), process.pid)
    process.kill()
    process.join()
    text = (root / ERRORS).read_text(errors="replace")
    usage = root / USAGE
    seconds, memory = json.loads(usage.read_text()) if usage.exists() else (0.0, 0)
    lines = [line for line in text.splitlines() if line.strip()] or [""]
    ours = [line.strip() for line in lines if "/genets/" in line and line.lstrip()[:4] == "File"]
    reason = " ".join([*ours[-1:], lines[-1][:200]])
    code = process.exitcode or 0
    result = "traceback"
    if is_late or code == -signal.SIGXCPU:
        result = "hang"
    elif code < 0:
        result, reason = "crash", f"exit status {code}"
    elif "Traceback (most recent call last)" not in text:
        result = {0: "read", **dict.fromkeys((2, 3, 4), "named error")}.get(code, result)
    return result, reason, seconds, memory


def _be_genets(words: list[str], root: Path) -> None:
    """Become a process of the script `genets`, which a server forks after the slow imports."""
    resource.setrlimit(resource.RLIMIT_CPU, (int(HANG_SECONDS), resource.RLIM_INFINITY))
    os.chdir(root)
    os.environ["PATH"] = f"{root / 'programs'}{os.pathsep}{os.environ['PATH']}"
    with open(root / ERRORS, "w") as errors, open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 1)
        os.dup2(errors.fileno(), 2)
        sys.argv = ["genets", *words]
        try:
            main()
        finally:
            used = resource.getrusage(resource.RUSAGE_SELF)
            seconds = used.ru_utime + used.ru_stime
            (root / USAGE).write_text(json.dumps([seconds, 1024 * used.ru_maxrss]))


def _is_readable(root: Path) -> bool:
    try:
        read_study(root)
    except GenetsError:
        return False
    return True
