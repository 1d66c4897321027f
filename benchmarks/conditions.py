"""What all benchmarks share: the file of results, its provenance, and the option --tiny."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from genets.core.files import write_atomic
from genets.latency import Target
from genets.latency.environment import describe_environment

ROOT = Path(__file__).parents[1]
# Short runs write elsewhere, so that the committed figures stay: see `make benchmarks-tiny`.
RESULTS = Path(os.environ.get("BENCHMARK_RESULTS", ROOT / "benchmarks" / "results"))


def write_result(name: str, figures: dict[str, Any], *targets: Target) -> None:
    """Write `results/<name>.json` with the command and the machine, and print the figures.

    The environment is that of the first target; its packages are those of all targets.
    """
    environments = [describe_environment(target) for target in targets or (Target(),)]
    packages = {k: v for environment in environments for k, v in environment["packages"].items()}
    environment = {**environments[0], "packages": packages}
    record = {**PROVENANCE, "environment": environment, **figures}
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(record, indent=2) + "\n")
    print(json.dumps(figures, indent=2))


def provenance() -> dict[str, str]:
    """The command, the date, and the commit of the code (-dirty if the code has changed since)."""
    commit = git("rev-parse", "--short", "HEAD")
    changed = git("status", "--porcelain", "--", "src", "benchmarks", ":!benchmarks/results")
    return {
        "command": " ".join(["python", "benchmarks/" + Path(sys.argv[0]).name, *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d"),
        "commit": f"{commit}-dirty" if changed else commit,
    }


def git(*words: str) -> str:
    """The output of a git command at the root of the project; empty without git."""
    if shutil.which("git") is None:
        return ""
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True).stdout.strip()


def add_tiny_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tiny", action="store_true", help="run in minutes with little training; store nothing"
    )


def read_result(name: str) -> dict[str, Any]:
    """The results of an earlier run; empty if there was none."""
    path = RESULTS / f"{name}.json"
    record: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return record


PROVENANCE = provenance()  # read at the start of a run, as the code may change before its end
