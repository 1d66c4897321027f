"""The demo as a stranger runs it: a fresh clone in a new folder, set-up included.

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
        result = json.loads((clone / "runs" / "demo" / "results" / "result.json").read_text())
    figures = {
        "setup_seconds": set_up - start,
        "demo_seconds": end - set_up,
        "total_seconds": end - start,
        "result": result,
    }
    write_result("demo", figures)


if __name__ == "__main__":
    main()
