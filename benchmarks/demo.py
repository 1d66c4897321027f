"""The demo as a new user runs it: a fresh clone in a new folder, set-up included.

The set-up is timed twice: with this machine's package cache, and with an empty one, as on a new
machine.

Run from the repository: python benchmarks/demo.py [--seeds 0 1 2 3 4]. Writes results/demo.json.
The first seed is that of `make demo`. The other seeds run the same search in the same clone.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from conditions import write_result

REPOSITORY = Path(__file__).parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    if options.seeds[0] != 0:
        parser.error("the first seed must be 0, that of `make demo`")
    hidden = ("VIRTUAL_ENV", "PYTHONPATH")  # so that the demo uses only its own environment
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    with tempfile.TemporaryDirectory(prefix="genets-demo-") as folder:
        clone = Path(folder) / "a clone"
        subprocess.run(["git", "clone", "--quiet", REPOSITORY, clone], check=True)
        start = time.monotonic()
        subprocess.run(["make", "--silent", "setup"], cwd=clone, env=environment, check=True)
        setup_seconds = time.monotonic() - start
        runs = [run_demo(clone, seed, environment) for seed in options.seeds]
        cold_seconds = time_setup_with_empty_cache(Path(folder), environment)
    demo_seconds, rows = runs[0]["seconds"], [summarise(run) for run in runs]
    figures = {
        "setup_seconds": setup_seconds,
        "demo_seconds": demo_seconds,
        "total_seconds": setup_seconds + demo_seconds,
        "setup_seconds_with_empty_cache": cold_seconds,
        "result": runs[0]["result"],
        "seeds": rows,
        "spread": spread(rows),
    }
    write_result("demo", figures)


def run_demo(clone: Path, seed: int, environment: dict[str, str]) -> dict[str, Any]:
    """Run the search of the demo, and give its time and its result."""
    out, search = "runs/demo", ["make", "--silent", "demo"]
    if seed:
        out = f"runs/seed-{seed}"
        search = [".venv/bin/genets", "search", "--data", "digits", "--budget", "0.5x",
                  "--seed", str(seed), "--out", out]  # fmt: skip
    start = time.monotonic()
    subprocess.run(search, cwd=clone, env=environment, check=True)
    seconds = time.monotonic() - start
    result = json.loads((clone / out / "results" / "result.json").read_text())
    return {"seed": seed, "seconds": seconds, "result": result}


def summarise(run: dict[str, Any]) -> dict[str, Any]:
    result = run["result"]
    selected = result["selected"]
    return {
        "seed": run["seed"],
        "seconds": run["seconds"],
        "winner_top1": result["winner"]["top1"],
        "master_top1": result["master"]["top1"],
        "unused": 1 - selected["measured_ms"] / selected["budget_ms"],
        "structure": selected["structure"],
    }


def spread(rows: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Mean, standard deviation, least and largest value of each figure over several seeds."""
    if len(rows) < 2:
        return {}
    names = ("seconds", "winner_top1", "master_top1", "unused")
    columns = {name: np.array([row[name] for row in rows]) for name in names}
    return {
        name: [
            float(each) for each in (values.mean(), values.std(ddof=1), values.min(), values.max())
        ]
        for name, values in columns.items()
    }


def time_setup_with_empty_cache(folder: Path, environment: dict[str, str]) -> float:
    """Seconds of the set-up; it needs a few GiB of disk for the time being."""
    clone = folder / "another clone"
    subprocess.run(["git", "clone", "--quiet", REPOSITORY, clone], check=True)
    start = time.monotonic()
    empty = environment | {"UV_CACHE_DIR": str(folder / "cache")}
    subprocess.run(["make", "--silent", "setup"], cwd=clone, env=empty, check=True)
    return time.monotonic() - start


if __name__ == "__main__":
    main()
