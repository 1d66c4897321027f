"""The demo as a stranger runs it: a fresh clone in a new folder, set-up included.

The set-up is timed twice: as it is here, and with an empty package cache as on a new machine.

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
    ours = ("VIRTUAL_ENV", "PYTHONPATH")  # nothing of the caller's on the path
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    with tempfile.TemporaryDirectory(prefix="genets-demo-") as folder:
        clone = Path(folder) / "a clone"
        subprocess.run(["git", "clone", "--quiet", REPOSITORY, clone], check=True)
        start = time.monotonic()
        subprocess.run(["make", "--silent", "setup"], cwd=clone, env=kept, check=True)
        set_up = time.monotonic()
        subprocess.run(["make", "--silent", "demo"], cwd=clone, env=kept, check=True)
        end = time.monotonic()
        cold_seconds = set_up_with_empty_cache(Path(folder), kept)
        result = json.loads((clone / "runs" / "demo" / "results" / "result.json").read_text())
    figures = {
        "setup_seconds": set_up - start,
        "demo_seconds": end - set_up,
        "total_seconds": end - start,
        "setup_seconds_with_empty_cache": cold_seconds,
        "result": result,
    }
    write_result("demo", figures)


def set_up_with_empty_cache(folder: Path, environment: dict[str, str]) -> float:
    """Seconds; needs some GiB of disk meanwhile."""
    clone = folder / "another clone"
    subprocess.run(["git", "clone", "--quiet", REPOSITORY, clone], check=True)
    start = time.monotonic()
    empty = environment | {"UV_CACHE_DIR": str(folder / "cache")}
    subprocess.run(["make", "--silent", "setup"], cwd=clone, env=empty, check=True)
    return time.monotonic() - start


if __name__ == "__main__":
    main()
