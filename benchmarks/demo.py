"""The demo as a new user runs it: a fresh clone in a new folder, set-up included.

The set-up is timed twice: with this machine's package cache, and with an empty one, as on a new
machine.

Run from the repository: python benchmarks/demo.py. Writes results/demo.json.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

from conditions import write_result

REPOSITORY = Path(__file__).parent.parent


def main() -> None:
    hidden = ("VIRTUAL_ENV", "PYTHONPATH")  # so that the demo uses only its own environment
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    with tempfile.TemporaryDirectory(prefix="genets-demo-") as folder:
        clone = Path(folder) / "a clone"
        subprocess.run(["git", "clone", "--quiet", REPOSITORY, clone], check=True)
        start = time.monotonic()
        subprocess.run(["make", "--silent", "setup"], cwd=clone, env=environment, check=True)
        set_up = time.monotonic()
        subprocess.run(["make", "--silent", "demo"], cwd=clone, env=environment, check=True)
        end = time.monotonic()
        cold_seconds = time_setup_with_empty_cache(Path(folder), environment)
        result = json.loads((clone / "runs" / "demo" / "results" / "result.json").read_text())
    figures = {
        "setup_seconds": set_up - start,
        "demo_seconds": end - set_up,
        "total_seconds": end - start,
        "setup_seconds_with_empty_cache": cold_seconds,
        "result": result,
    }
    write_result("demo", figures)


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
