"""What every benchmark stores beside its figures."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from genets.latency import Target
from genets.latency.environment import describe_environment

ROOT = Path(__file__).parents[1]
# Short runs write elsewhere, so that the committed figures stay: see `make benchmarks-tiny`.
RESULTS = Path(os.environ.get("BENCHMARK_RESULTS", ROOT / "benchmarks" / "results"))


def write_result(name: str, figures: dict[str, Any], *targets: Target) -> None:
    """Write `results/<name>.json` with the command and the machine, and show the figures.

    The machine is described as the first target uses it, with the packages of all.
    """
    environments = [describe_environment(target) for target in targets or (Target(),)]
    packages = {name: one for each in environments for name, one in each["packages"].items()}
    environment = {**environments[0], "packages": packages}
    record = {**PROVENANCE, "environment": environment, **figures}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=2))


def provenance() -> dict[str, str]:
    """The command that runs now, the day, and the commit of the code (-dirty if it was changed)."""
    commit = git("rev-parse", "--short", "HEAD")
    changed = git("status", "--porcelain", "--", "src", "benchmarks", ":!benchmarks/results")
    return {
        "command": " ".join(["python", "benchmarks/" + Path(sys.argv[0]).name, *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d"),
        "commit": f"{commit}-dirty" if changed else commit,
    }


def git(*words: str) -> str:
    """What git says at the root of the project; empty where it has nothing to say of it."""
    if shutil.which("git") is None:
        return ""
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True).stdout.strip()


def read_result(name: str) -> dict[str, Any]:
    """What an earlier run wrote; empty if there was none."""
    path = RESULTS / f"{name}.json"
    record: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return record


PROVENANCE = provenance()  # when a run begins: the code may be another when it ends
