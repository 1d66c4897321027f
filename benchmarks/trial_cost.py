"""What a trial costs, trained together with others or separately, and what it is worth.

Run from the repository: python benchmarks/trial_cost.py [--points together:6 separate:6 ...].
Writes results/trial_cost.json. A point is a way and its epochs. All ways run the same trials (the
same perturbed super-blocks, which favours the others against the paper's own random ones) from
the same MasterNet, at the same learning rate and with the same regression:

    together    this search: new super-block and what follows are trained, groups share the rest
    separate    the same, each trial alone
    block       the paper's fine-tuning: the new super-block alone is trained, each trial alone
    all         everything is trained, each trial alone

The cost is seconds of one core for each trial; the worth is Spearman's correlation with the truth
(see `truth`), of the networks that the trials predict. For each point of another way, `read` names
the cheapest point of `together` that is worth at least as much, and the ratio of their costs: the
cost at equal correlation. Trials are kept (see `trial_runs`): points may be run one by one, and the
last command names all that are to be read together.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from conditions import write_result
from genets.nas.settings.layers import merge
from genets.nas.settings.settings import SearchSettings
from genets.training.score import Metric
from trial_runs import trial_run, trials_file
from truth import DATA, TINY, Truth, make_truth, truth_file

OURS = "together"
WAYS: dict[str, dict[str, Any]] = {
    OURS: {},
    "separate": {"trials": "separate"},
    "block": {"trials": "separate", "trial_training": {"thaw": "block"}},
    "all": {"trials": "separate", "trial_training": {"thaw": "all"}},
}
POINTS = ("together:6", "together:3", "separate:6", "block:30", "all:12")
RESPONSE: Metric = Metric.CROSS_ENTROPY


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="digits", choices=DATA)
    parser.add_argument("--points", nargs="+", type=point, default=[*map(point, POINTS)])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument(
        "--tiny", action="store_true", help="few trials: whether it runs; no results are kept"
    )
    options = parser.parse_args()
    base = merge(DATA[options.data], {"budget": "1x"}, TINY if options.tiny else {})
    if options.tiny:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "truth.json"
            make_truth(path, base, structures=4, seeds=1)
            truth = Truth.load(path)
        print(json.dumps(compare(truth, base, options.points, options.seeds, None), indent=2))
        return
    truth, kept = Truth.load(truth_file(options.data)), trials_file(options.data)
    figures = compare(truth, base, options.points, options.seeds, kept)
    name = "trial_cost" if options.data == "digits" else f"trial_cost_{options.data}"
    write_result(name, {"data": options.data, **figures})


def point(text: str) -> tuple[str, int]:
    """`separate:6`: a way, and its epochs."""
    way, _, epochs = text.partition(":")
    if way not in WAYS or not epochs.isdecimal() or int(epochs) < 1:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not one of {', '.join(WAYS)} with its epochs, as in separate:6"
        )
    return way, int(epochs)


def compare(
    truth: Truth,
    base: dict[str, Any],
    points: list[tuple[str, int]],
    seeds: int,
    kept: Path | None,
) -> dict[str, Any]:
    found = {}
    for way, epochs in points:
        name = f"{way}:{epochs}"
        found[name] = figures_of(truth, base, way, epochs, seeds, kept)
        print(name, json.dumps(found[name]), flush=True)
    return {
        "structures": len(truth.structures),
        "truth_seeds": truth.scores.shape[1],
        "truth": truth.spread(),
        "seeds": seeds,
        "points": found,
        "read": {name: at_equal_worth(found, name) for name in found if not is_ours(name)},
    }


def figures_of(
    truth: Truth, base: dict[str, Any], way: str, epochs: int, seeds: int, kept: Path | None
) -> dict[str, Any]:
    """Means over seeds, and each seed's own."""
    chosen = merge(base, WAYS[way], {"trial_training": {"epochs": epochs}})
    seconds, worth = [], []
    for seed in range(seeds):
        run = trial_run(SearchSettings(**chosen | {"seed": seed}), kept)
        seconds.append(run.core_seconds / len(run.results))
        predicted = run.predict(truth.structures, "bayes", RESPONSE)
        worth.append(truth.rank_correlations(predicted)[RESPONSE])
    return {
        "trials": len(run.results),
        "core_seconds_per_trial": float(np.mean(seconds)),
        "correlation": float(np.mean(worth)),
        "core_seconds_per_trial_each": seconds,
        "correlation_each": worth,
    }


def is_ours(name: str) -> bool:
    return name.startswith(f"{OURS}:")


def at_equal_worth(points: dict[str, dict[str, Any]], other: str) -> dict[str, Any] | None:
    """The cheapest of our points that is worth at least as much as another way's; None if none."""
    price, least = (points[other][name] for name in ("core_seconds_per_trial", "correlation"))
    prices = {
        name: figures["core_seconds_per_trial"]
        for name, figures in points.items()
        if is_ours(name) and figures["correlation"] >= least
    }
    if not prices:
        return None
    cheapest = min(prices, key=prices.__getitem__)
    return {"ours": cheapest, "cost_over_theirs": prices[cheapest] / price}


if __name__ == "__main__":
    main()
