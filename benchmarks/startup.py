"""The time of the help of the command line and of `import genets`, as whole processes.

Run from the repository: python benchmarks/startup.py. Writes results/startup.json.
"""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np

from conditions import write_result

RUNS = 15
COMMANDS = {
    "genets --help": [sys.executable, "-m", "genets", "--help"],
    "genets search --help": [sys.executable, "-m", "genets", "search", "--help"],
    "import genets": [sys.executable, "-c", "import genets"],
    "python alone": [sys.executable, "-c", ""],
}


def main() -> None:
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for run in range(RUNS + 1):  # in turn; the first run warms the disk and is not counted
        for name, command in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            if run:
                seconds[name].append(time.perf_counter() - start)
    figures = {
        name: {"median_s": float(np.median(values)), "max_s": max(values)}
        for name, values in seconds.items()
    }
    write_result("startup", figures)


if __name__ == "__main__":
    main()
