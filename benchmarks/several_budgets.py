"""One search for three budgets, against a search for each of them.

Run from the repository: python benchmarks/several_budgets.py [--seeds 0] [--budgets 0.8x 0.5x 0.3x]
Writes results/several_budgets.json after each seed; seeds in the file stay if they are not run
again.

The searches are those of the demo: digits, from fresh weights. They share one latency table.
`seconds` is the time of all phases of a search; each counts the time in which the table was made.
On one thread, no structure of the space meets 0.3x.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from conditions import read_result, write_result
from genets.latency import Target
from genets.nas.result import SearchResult
from genets.nas.search import run_search
from genets.nas.settings.settings import SearchSettings

NAME = "several_budgets"
TABLE = "latency table"
BUDGETS = ("0.8x", "0.5x", "0.3x")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--budgets", nargs="+", default=BUDGETS)
    parser.add_argument("--threads", type=int, help="of the target [the default of a search]")
    options = parser.parse_args()
    target = Target(threads=options.threads) if options.threads else Target()
    runs = dict(read_result(NAME).get("runs", {}))
    for seed in options.seeds:
        given = {"data": "digits", "seed": seed, "target": target}
        with tempfile.TemporaryDirectory(prefix="genets-several-budgets-") as folder:
            runs[str(seed)] = compare(given, tuple(options.budgets), Path(folder))
        figures = {"mean": summary([*runs.values()]), "runs": runs}
        write_result(NAME, figures, target)


def compare(given: dict[str, Any], budgets: tuple[str, ...], folder: Path) -> dict[str, Any]:
    """Run the search for all budgets, and that for each of them."""
    together = run_search(SearchSettings(**given, budgets=budgets), folder / "together")
    if together.refused:
        raise SystemExit(f"give other --budgets: {' '.join(together.refused.values())}")
    run: dict[str, Any] = {"seconds": {"together": sum(together.seconds.values())}, "winners": {}}
    for budget in budgets:
        shutil.copytree(together.folder / "latency", folder / budget / "latency")
        alone = run_search(SearchSettings(**given, budget=budget), folder / budget)
        seconds = alone.seconds | {TABLE: together.seconds[TABLE]}
        run["seconds"][budget] = sum(seconds.values())
        run["winners"][budget] = {
            "together": of_winner(together.budgets[budget]),
            "alone": of_winner(alone),
        }
        print({"seed": given["seed"], budget: run["winners"][budget]}, flush=True)
    return run


def of_winner(result: SearchResult) -> dict[str, Any]:
    return {
        "test_top1": result.winner.top1,
        "structure": str(result.selected.structure),
        "ms_per_image": result.selected.measured_ms,
    }


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The time of one search over that of several, and the gain in top-1, means over the seeds."""
    ratios, gains = [], []
    for run in runs:
        alone_s = sum(seconds for name, seconds in run["seconds"].items() if name != "together")
        ratios.append(run["seconds"]["together"] / alone_s)
        gains += [
            winner["together"]["test_top1"] - winner["alone"]["test_top1"]
            for winner in run["winners"].values()
        ]
    return {
        "time_ratio": float(np.mean(ratios)),
        "gain_top1": float(np.mean(gains)),
        "gain_top1_std": float(np.std(gains)),
    }


if __name__ == "__main__":
    main()
