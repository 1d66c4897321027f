"""The same comparison in several processes: do the medians repeat, and does the order?

    python benchmarks/repeatability.py [--times 3] [--engine torch] [--time-limit 5]

`genets compare` measures the networks of Table 3, each time in a new process and folder. Deviations
are those of the latencies, and of their ratios to the latency of GENet-light. Writes
benchmarks/results/repeatability_<engine>.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np

from conditions import write_result
from genets.networks.baselines import published_speed_ups

NAMES = list(dict.fromkeys(line.network for line in published_speed_ups()))
REFERENCE = "GENet-light"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--engine", default="torch")
    parser.add_argument("--time-limit", type=float, default=5.0)
    options = parser.parse_args()
    runs = [compare(options.engine, options.time_limit) for _ in range(options.times)]
    ms = np.array([[run[name]["ms_per_image"] for name in NAMES] for run in runs])
    ratios = {name: [run[name]["times_reference"] for run in runs] for name in NAMES}
    known = np.array([each for each in ratios.values() if None not in each]).T
    common = np.exp(np.median(np.log(ms / np.median(ms, axis=0)), axis=1, keepdims=True))
    write_result(
        f"repeatability_{options.engine}",
        {
            "largest_deviation_from_the_median_of_runs": deviation(ms),
            "the_same_at_one_pace": deviation(ms / common),
            "the_same_of_ratios": deviation(known) if known.size else None,
            "reference": REFERENCE,
            "pace_of_each_run": common[:, 0].tolist(),
            "pairs_in_another_order_though_intervals_do_not_touch": count_flips(runs),
            "noisy": [sum(bool(run[name]["noisy"]) for name in NAMES) for run in runs],
            "ms_per_image": dict(zip(NAMES, ms.T.tolist(), strict=True)),
            "times_reference": ratios,
        },
    )


def compare(engine: str, time_limit_s: float) -> dict[str, Any]:
    """Run one comparison; return its rows by network."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--engine", engine, "--batch-size", "1", "--time-limit", str(time_limit_s)]
        options += ["--reference", REFERENCE, "--out", folder, "--json"]
        program = [sys.executable, "-m", "genets", "compare", *NAMES, *options]
        done = subprocess.run(program, check=True, capture_output=True, text=True)
    return {row["network"]: row for row in json.loads(done.stdout)["rows"]}


def deviation(values: np.ndarray) -> float:
    """The largest deviation from the median of the runs. values: (runs, networks)."""
    return float(np.abs(values / np.median(values, axis=0) - 1).max())


def count_flips(runs: list[dict[str, Any]]) -> int:
    """The number of pairs whose order is certain in two runs, but not the same."""

    def clearly_faster(run: dict[str, Any], first: str, second: str) -> bool:
        return bool(run[first]["high_ms_per_image"] < run[second]["low_ms_per_image"])

    pairs = itertools.permutations(NAMES, 2)
    return (
        sum(
            any(clearly_faster(run, a, b) for run in runs)
            and any(clearly_faster(run, b, a) for run in runs)
            for a, b in pairs
        )
        // 2
    )


if __name__ == "__main__":
    main()
