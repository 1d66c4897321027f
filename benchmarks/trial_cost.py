"""The cost of a trial, fine-tuned in a group or separately, and how well such trials predict.

Run from the repository: python benchmarks/trial_cost.py [--points together:6 separate:6 ...].
Writes results/trial_cost.json. A point is a method and its epochs. All methods run the same trials
from the same MasterNet, with the same learning rate and the same regression. (The trials have the
same perturbed super-blocks, which favours the other methods: the paper draws them at random.)

    together    this search: the new super-block and all later ones are trained; groups share the
                rest
    separate    the same, but each trial alone
    block       the paper's fine-tuning: only the new super-block is trained, each trial alone
    all         everything is trained, each trial alone

The cost is core-seconds per trial. The quality is Spearman's correlation between predictions and
truth (see `truth`). For each point of another method, `read` names the cheapest point of `together`
with at least the same correlation, and the ratio of their costs: the cost at equal correlation.
Trials are stored (see `trial_runs`), so points can be run one by one; the last command names all
points that are compared.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from conditions import add_tiny_option, write_result
from genets.nas.settings.settings import SearchSettings
from genets.nas.settings.toml_tables import merge
from genets.training.score import Metric
from trial_runs import trial_run, trials_file
from truth import DATA, TINY, Truth, make_truth, truth_file

OURS = "together"
METHODS: dict[str, dict[str, Any]] = {
    OURS: {},
    "separate": {"trials": "separate"},
    "block": {"trials": "separate", "trial_training": {"thaw": "block"}},
    "all": {"trials": "separate", "trial_training": {"thaw": "all"}},
}
POINTS = ("together:6", "together:3", "separate:6", "block:30", "all:12")
METRIC: Metric = Metric.CROSS_ENTROPY


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="digits", choices=DATA)
    parser.add_argument(
        "--points", nargs="+", type=parse_point, default=[*map(parse_point, POINTS)]
    )
    parser.add_argument("--seeds", type=int, default=1)
    add_tiny_option(parser)
    options = parser.parse_args()
    base = merge(DATA[options.data], {"budget": "1x"}, TINY if options.tiny else {})
    if options.tiny:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "truth.json"
            make_truth(path, base, structures=4, seeds=1)
            truth = Truth.load(path)
        print(json.dumps(compare(truth, base, options.points, options.seeds, None), indent=2))
        return
    truth, stored = Truth.load(truth_file(options.data)), trials_file(options.data)
    figures = compare(truth, base, options.points, options.seeds, stored)
    name = "trial_cost" if options.data == "digits" else f"trial_cost_{options.data}"
    write_result(name, {"data": options.data, **figures})


def parse_point(text: str) -> tuple[str, int]:
    """Parse `separate:6`: a method, and its epochs."""
    method, _, epochs = text.partition(":")
    if method not in METHODS or not epochs.isdecimal() or int(epochs) < 1:
        raise argparse.ArgumentTypeError(
            f"a point must be one of {', '.join(METHODS)} with its epochs, as in separate:6, "
            f"not {text!r}"
        )
    return method, int(epochs)


def compare(
    truth: Truth,
    base: dict[str, Any],
    points: list[tuple[str, int]],
    seeds: int,
    stored: Path | None,
) -> dict[str, Any]:
    figures = {}
    for method, epochs in points:
        name = f"{method}:{epochs}"
        figures[name] = measure_point(truth, base, method, epochs, seeds, stored)
        print(name, json.dumps(figures[name]), flush=True)
    return {
        "structures": len(truth.structures),
        "truth_seeds": truth.scores.shape[1],
        "truth": truth.spread(),
        "seeds": seeds,
        "points": figures,
        "read": {n: compare_cost(figures, n) for n in figures if not is_ours(n)},
    }


def measure_point(
    truth: Truth, base: dict[str, Any], method: str, epochs: int, seeds: int, stored: Path | None
) -> dict[str, Any]:
    """Cost and correlation: the mean over the seeds, and the numbers of each seed."""
    chosen = merge(base, METHODS[method], {"trial_training": {"epochs": epochs}})
    seconds, correlations = [], []
    for seed in range(seeds):
        run = trial_run(SearchSettings(**chosen | {"seed": seed}), stored)
        seconds.append(run.core_seconds / len(run.results))
        predicted = run.predict(truth.structures, "bayes", METRIC)
        correlations.append(truth.rank_correlations(predicted)[METRIC])
    return {
        "trials": len(run.results),
        "core_seconds_per_trial": float(np.mean(seconds)),
        "correlation": float(np.mean(correlations)),
        "core_seconds_per_trial_each": seconds,
        "correlation_each": correlations,
    }


def is_ours(name: str) -> bool:
    return name.startswith(f"{OURS}:")


def compare_cost(points: dict[str, dict[str, Any]], other: str) -> dict[str, Any] | None:
    """The cheapest of our points with at least the correlation of another; None if none has."""
    cost, min_correlation = (
        points[other][name] for name in ("core_seconds_per_trial", "correlation")
    )
    costs = {
        name: figures["core_seconds_per_trial"]
        for name, figures in points.items()
        if is_ours(name) and figures["correlation"] >= min_correlation
    }
    if not costs:
        return None
    cheapest = min(costs, key=costs.__getitem__)
    return {"ours": cheapest, "cost_over_theirs": costs[cheapest] / cost}


if __name__ == "__main__":
    main()
