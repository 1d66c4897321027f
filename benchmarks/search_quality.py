"""How well do trials predict? Rank correlation of predicted and true scores of random structures.

Run from the repository:
    python benchmarks/search_quality.py truth   the true scores: results/truth_digits.json
    python benchmarks/search_quality.py         the predictions: results/search_quality.json
With --data shapes: results/truth_shapes.json, results/search_quality_shapes.json; see `shapes`.
With --data cifar10 --photos FOLDER in the same way; see `cifar10`.

The truth is the test score of each structure, trained from scratch with the final recipe of a
search, once per seed. The ceiling beside the correlations is the square root of the truth's
reliability: the correlation of a perfect predictor, given the noise between seeds. Correlations at
equal latency are partial correlations, given the measured latency. Truth and trials are stored (see
`truth`, `trial_runs`): a stopped run continues, and another variant or seed costs only its own
trials.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from conditions import add_tiny_option, write_result
from genets.nas.accuracy.model import Form
from genets.nas.settings.settings import SearchSettings
from genets.nas.settings.toml_tables import merge
from genets.networks import count
from genets.training.score import Metric
from trial_runs import trial_run, trials_file
from truth import TINY, Truth, add_data_options, data_settings, make_truth, truth_file
from zen_score import zen_score

VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "balanced": {"sampling": "balanced"},
    "random": {"sampling": "random"},
    "separate": {"trials": "separate"},
    # As in the paper, but with this benchmark's number of trials and epochs.
    "literal": {"sampling": "random", "trials": "separate", "trial_training": {"thaw": "block"}},
    "block thawed": {"trial_training": {"thaw": "block"}},
    "all thawed": {"trial_training": {"thaw": "all"}},
    "half the epochs": {"trial_training": {"epochs": 3}},
    "twice the epochs": {"trial_training": {"epochs": 12}},
    "half the rate": {"trial_training": {"learning_rate": 0.4}},
    "twice the rate": {"trial_training": {"learning_rate": 1.6}},
    # A new super-block learns feature maps of the MasterNet.
    "inherited": {
        "from_scratch": False,
        "screen": 0,
        "trial_training": {"feature_steps": 100},
    },
    "inherited, 300 steps": {
        "from_scratch": False,
        "screen": 0,
        "trial_training": {"feature_steps": 300},
    },
}
FORMS: tuple[tuple[Form, Metric], ...] = (
    ("bayes", Metric.TOP1),
    ("bayes", Metric.CROSS_ENTROPY),
    ("paper", Metric.TOP1),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", default="compare", choices=("compare", "truth"))
    add_data_options(parser)
    parser.add_argument("--structures", type=int, default=30)
    parser.add_argument("--truth-seeds", type=int, default=2)
    parser.add_argument("--search-seeds", type=int, default=3)
    parser.add_argument("--variants", nargs="*", default=["default"], choices=VARIANTS)
    add_tiny_option(parser)
    options = parser.parse_args()
    with data_settings(options) as settings:
        run(options, merge(settings, {"budget": "1x"}, TINY if options.tiny else {}))


def run(options: argparse.Namespace, base: dict[str, Any]) -> None:
    if options.tiny:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "truth.json"
            make_truth(path, base, options.structures, options.truth_seeds)
            truth = Truth.load(path)
        print(json.dumps(compare(truth, base, options.variants, options.search_seeds), indent=2))
        return
    if options.what == "truth":
        make_truth(truth_file(options.data), base, options.structures, options.truth_seeds)
        return
    truth, stored = Truth.load(truth_file(options.data)), trials_file(options.data)
    figures = compare(truth, base, options.variants, options.search_seeds, stored)
    name = "search_quality" if options.data == "digits" else f"search_quality_{options.data}"
    write_result(name, figures)


def compare(
    truth: Truth,
    base: dict[str, Any],
    variants: list[str],
    search_seeds: int,
    stored: Path | None = None,
) -> dict[str, Any]:
    """Correlations of all variants with the truth. stored: see `trial_run`."""
    sizes = [count(structure) for structure in truth.structures]
    figures: dict[str, Any] = {
        "structures": len(truth.structures),
        "truth_seeds": truth.scores.shape[1],
        "truth": truth.spread(),
        "ms_per_image": truth.ms_per_image.tolist(),
        "parameters": truth.correlation([c.parameters for c in sizes]),
        "multiply_adds": truth.correlation([c.multiply_adds for c in sizes]),
        "zen_score": truth.correlation([zen_score(s) for s in truth.structures]),
    }
    for name in variants:
        chosen = merge(base, VARIANTS[name])
        runs = [*predict(truth, chosen, search_seeds, stored)]
        figures[name] = {"settings": VARIANTS[name], "runs": runs, "mean": average(runs)}
        print(name, json.dumps(figures[name]["mean"]), flush=True)
    return figures


def predict(
    truth: Truth, chosen: dict[str, Any], seeds: int, stored: Path | None
) -> Iterator[dict[str, Any]]:
    for seed in range(seeds):
        run = trial_run(SearchSettings(**chosen | {"seed": seed}), stored)
        figures: dict[str, Any] = {
            "seed": seed,
            "trials": len(run.results),
            "core_seconds": run.core_seconds,
        }
        for form, metric in FORMS:
            predicted = run.predict(truth.structures, form, metric)
            figures[f"{form} {metric}"] = truth.correlation(predicted)
        yield figures


def average(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation over search seeds of every correlation."""
    means: dict[str, Any] = {"core_seconds": float(np.mean([r["core_seconds"] for r in runs]))}
    for form, metric in FORMS:
        key = f"{form} {metric}"
        for figure in runs[0][key]:
            values = [run[key][figure] for run in runs]
            means.setdefault(key, {})[figure] = [float(np.mean(values)), float(np.std(values))]
    return means


if __name__ == "__main__":
    main()
