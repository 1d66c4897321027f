"""The demo's search from scratch against the same search with inherited weights.

Run from the repository: python benchmarks/assembled.py [--seeds 0 1 2]. Writes
results/assembled.json after each seed; seeds in the file stay if they are not run again.

Both searches train the MasterNet on digits from scratch, for the same budget and with the same
latency table. With `from_scratch`, trials and candidates begin with fresh weights. Otherwise trials
learn feature maps of the MasterNet, and candidates are assembled from their super-blocks. The
winners are scored on the test split. `training_seconds` is the time of the phases that train.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from conditions import add_tiny_option, read_result, write_result
from genets.latency import Target
from genets.nas.search import run_search
from genets.nas.settings.settings import SearchSettings
from genets.nas.settings.toml_tables import merge
from truth import TINY

NAME = "assembled"
WAYS = {"from scratch": True, "assembled": False}
TRAINING_PHASES = (
    "MasterNet training", "trials", "screening", "candidate training", "final training",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--budget", default="0.5x")
    parser.add_argument("--threads", type=int, help="of the target [the default of a search]")
    add_tiny_option(parser)
    options = parser.parse_args()
    target = Target(threads=options.threads) if options.threads else Target()
    runs = {} if options.tiny else dict(read_result(NAME).get("runs", {}))
    for seed in options.seeds:
        with tempfile.TemporaryDirectory(prefix="genets-assembled-") as folder:
            given = {"data": "digits", "budget": options.budget, "seed": seed, "target": target}
            runs[str(seed)] = compare(merge(given, TINY if options.tiny else {}), Path(folder))
        figures = {"budget": options.budget, "mean": summary([*runs.values()]), "runs": runs}
        if options.tiny:
            print(figures)
        else:
            write_result(NAME, figures, target)


def compare(given: dict[str, Any], folder: Path) -> dict[str, Any]:
    run: dict[str, Any] = {}
    table: Path | None = None
    for way, from_scratch in WAYS.items():
        out = folder / way
        if table is not None:
            shutil.copytree(table, out / "latency")
        result = run_search(SearchSettings(**given | {"from_scratch": from_scratch}), out)
        table = out / "latency"
        run[way] = {
            "test_top1": result.winner.top1,
            "test_cross_entropy": result.winner.cross_entropy,
            "structure": str(result.selected.structure),
            "ms_per_image": result.selected.measured_ms,
            "training_seconds": sum(result.seconds.get(name, 0.0) for name in TRAINING_PHASES),
            "seconds": result.seconds,
        }
        print({"seed": given["seed"], way: run[way]}, flush=True)
    return run


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation over the seeds."""
    return {
        way: {
            name: [float(np.mean(values)), float(np.std(values))]
            for name in ("test_top1", "test_cross_entropy", "training_seconds")
            for values in [[run[way][name] for run in runs]]
        }
        for way in WAYS
    }


if __name__ == "__main__":
    main()
