"""Do trials predict? Rank correlation of predicted and true accuracy over random structures.

Run from the repository:
    python benchmarks/search_quality.py truth   random structures: results/truth_digits.json
    python benchmarks/search_quality.py         ways to predict: results/search_quality.json

The truth is the test score of each structure trained from scratch by the final recipe
of a search, once per seed. The ceiling beside the correlations is the square root of the truth's
reliability: what a perfect predictor would reach, given the noise between seeds.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from conditions import RESULTS, write_result
from genets.data import load_data
from genets.data.nuisance import Nuisance
from genets.data.seeds import seeded_globals
from genets.nas.executors.inline import run_inline
from genets.nas.fine_tuning import TrialJob
from genets.nas.planning import group_trials, plan_trials
from genets.nas.regression import AccuracyModel
from genets.nas.settings import SearchSettings
from genets.nas.trial import TrialResult
from genets.networks import build, count, save_weights
from genets.structure import Structure
from genets.training import Score, evaluate, fitting_threads, train

TRUTH = RESULTS / "truth_digits.json"
WORKERS = os.cpu_count() or 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", default="compare", choices=("compare", "truth"))
    parser.add_argument("--structures", type=int, default=24)
    parser.add_argument("--truth-seeds", type=int, default=2)
    parser.add_argument("--search-seeds", type=int, default=1)
    parser.add_argument("--variants", nargs="*", default=["default"], help="see VARIANTS")
    options = parser.parse_args()
    if options.what == "truth":
        make_truth(options.structures, options.truth_seeds)
    else:
        write_result("search_quality", compare(options.variants, options.search_seeds))


def settings(seed: int = 0, **trial: Any) -> SearchSettings:
    return SearchSettings(data="digits", budget="1x", seed=seed, trial_training=trial)


VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "all thawed": {"thaw": "all"},
    "half the epochs": {"epochs": 3},
    "twice the epochs": {"epochs": 12},
    "half the rate": {"learning_rate": 0.4},
    "twice the rate": {"learning_rate": 1.6},
}


def make_truth(structures: int, seeds: int) -> None:
    """Train, and store after each network, so that a stopped run goes on."""
    base = settings()
    around = base.space.design_space().around(base.structure)
    rng = np.random.default_rng(2020)
    drawn = [str(around.sample(rng)) for _ in range(structures)]
    record = json.loads(TRUTH.read_text()) if TRUTH.exists() else {}
    conditions = {
        "recipe": base.final_training.model_dump(),
        "master": base.master,
        "nuisance": json.loads(json.dumps(asdict(Nuisance()))),
    }
    if {name: record.get(name) for name in conditions} != conditions:
        record = conditions | {"scores": {}}
    jobs = [
        (structure, seed)
        for seed in range(seeds)
        for structure in drawn
        if str(seed) not in record["scores"].get(structure, {})
    ]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(WORKERS, context, torch.set_num_threads, (1,)) as pool:
        for (structure, seed), score in zip(jobs, pool.map(true_score, jobs), strict=True):
            record["scores"].setdefault(structure, {})[str(seed)] = score
            TRUTH.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
            print(structure, seed, score, flush=True)


def true_score(job: tuple[str, int]) -> tuple[float, float]:
    notation, seed = job
    base = settings()
    data = load_data(base.data, base.resolution, seed=0)
    with seeded_globals("truth", seed):
        net = build(Structure.parse(notation), data.num_classes)
    train(net, data.train, base.final_training.recipe(), seed=1000 + seed)
    score = evaluate(net, data.test)
    return score.top1, score.cross_entropy


def compare(variants: list[str], search_seeds: int) -> dict[str, Any]:
    truth = {
        Structure.parse(s): scores for s, scores in json.loads(TRUTH.read_text())["scores"].items()
    }
    table = np.array([[scores[k] for k in sorted(scores)] for scores in truth.values()])
    accuracy, entropy = table.mean(axis=1).T
    sizes = [count(structure) for structure in truth]
    figures: dict[str, Any] = {
        "structures": len(truth),
        "truth": {name: spread(table[:, :, i]) for i, name in enumerate(("top1", "cross_entropy"))},
        "parameters": correlation(np.array([c.parameters for c in sizes]), accuracy, entropy),
        "multiply_adds": correlation(np.array([c.multiply_adds for c in sizes]), accuracy, entropy),
    }
    for name in variants:
        runs = [*predict(name, search_seeds, truth, accuracy, entropy)]
        figures[name] = {"settings": VARIANTS[name], "runs": runs}
        print(name, json.dumps(runs), flush=True)
    return figures


def spread(values: np.ndarray) -> dict[str, float] | None:
    """Between networks and between seeds; values: (structures, seeds). None for one seed."""
    if values.shape[1] < 2:
        return None
    within = float(values.var(axis=1, ddof=1).mean())
    mean_variance = float(values.mean(axis=1).var(ddof=1))
    between = mean_variance - within / values.shape[1]
    return {
        "std_networks": between**0.5,
        "std_seeds": within**0.5,
        "ratio": (between / within) ** 0.5,
        "ceiling": (between / mean_variance) ** 0.5,
    }


def correlation(
    predicted: np.ndarray, accuracy: np.ndarray, entropy: np.ndarray
) -> dict[str, float]:
    return {
        "top1": float(spearmanr(predicted, accuracy)[0]),
        "cross_entropy": float(spearmanr(predicted, -entropy)[0]),
    }


def predict(
    variant: str, seeds: int, truth: dict[Structure, Any], accuracy: np.ndarray, entropy: np.ndarray
) -> Iterator[dict[str, Any]]:
    for seed in range(seeds):
        chosen = settings(seed, **VARIANTS[variant])
        results, master, seconds = run_trials(chosen)
        run: dict[str, Any] = {"seed": seed, "trials": len(results), "core_seconds": seconds}
        for form, response in (
            ("bayes", "top1"), ("bayes", "cross_entropy"), ("paper", "top1"),
        ):  # fmt: skip
            model = AccuracyModel.fit(
                chosen.structure, results, getattr(master, response), response=response, form=form
            )
            predicted = np.array([model.predict(structure).mean for structure in truth])
            run[f"{form} {response}"] = correlation(predicted, accuracy, entropy)
        yield run


def run_trials(chosen: SearchSettings) -> tuple[list[TrialResult], Score, float]:
    around = chosen.space.design_space().around(chosen.structure)
    planned = plan_trials(
        around, chosen.trials_per_super_block, chosen.controls_per_super_block, seed=chosen.seed
    )
    data = load_data(chosen.data, chosen.resolution, seed=chosen.seed)
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "master.safetensors"
        with seeded_globals("master", chosen.seed):
            net = build(chosen.structure, data.num_classes)
        recipe = chosen.master_training.recipe()
        with fitting_threads(net, chosen.resolution, recipe.batch_size):
            train(net, data.train, recipe, seed=chosen.seed)
        save_weights(net, weights, {})
        job = TrialJob(
            chosen.structure, weights, chosen.data, chosen.trial_training.recipe(),
            chosen.trial_training.thaw, chosen.seed,
        )  # fmt: skip
        start = time.monotonic()
        results = [*run_inline(job, group_trials(planned), WORKERS)]
        seconds = (time.monotonic() - start) * WORKERS
    return results, evaluate(net, data.validation), seconds


if __name__ == "__main__":
    main()
