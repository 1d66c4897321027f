"""One search for three budgets, against a search for each of them.

Run from the repository: python benchmarks/several_budgets.py [--seeds 0]
Writes results/several_budgets.json after each seed; seeds in the file stay if they are not run
again.

The searches are those of the demo: digits, from fresh weights. Each makes its own latency table, as
a user's search does. `seconds` is the time of all phases of a search.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from conditions import add_tiny_option, read_result, write_result
from genets.latency import Target
from genets.nas.result import SearchResult
from genets.nas.search import run_search
from genets.nas.settings.settings import SearchSettings
from genets.nas.settings.toml_tables import merge
from truth import TINY

NAME = "several_budgets"
BUDGETS = ("0.8x", "0.5x", "0.3x")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--threads", type=int, help="of the target [the default of a search]")
    add_tiny_option(parser)
    options = parser.parse_args()
    target = Target(threads=options.threads) if options.threads else Target()
    runs = {} if options.tiny else dict(read_result(NAME).get("runs", {}))
    for seed in options.seeds:
        given = merge({"data": "digits", "seed": seed}, TINY if options.tiny else {})
        with tempfile.TemporaryDirectory(prefix="genets-several-budgets-") as folder:
            runs[str(seed)] = compare({**given, "target": target}, Path(folder))
        figures = {"mean": summary([*runs.values()]), "runs": runs}
        if options.tiny:
            print(figures)
        else:
            write_result(NAME, figures, target)


def compare(given: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Run the search for all budgets, and that for each of them."""
    together = run_search(SearchSettings(**given, budgets=BUDGETS), folder / "together")
    run: dict[str, Any] = {"seconds": {"together": sum(together.seconds.values())}, "winners": {}}
    for budget in BUDGETS:
        alone = run_search(SearchSettings(**given, budget=budget), folder / budget)
        run["seconds"][budget] = sum(alone.seconds.values())
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
    """The time of one search over that of three, and the gain in top-1, means over the seeds."""
    ratios = [
        run["seconds"]["together"] / sum(run["seconds"][budget] for budget in BUDGETS)
        for run in runs
    ]
    gains = {
        budget: [
            run["winners"][budget]["together"]["test_top1"]
            - run["winners"][budget]["alone"]["test_top1"]
            for run in runs
        ]
        for budget in BUDGETS
    }
    return {
        "time_ratio": float(np.mean(ratios)),
        "gain_top1": {budget: float(np.mean(each)) for budget, each in gains.items()},
    }


if __name__ == "__main__":
    main()
