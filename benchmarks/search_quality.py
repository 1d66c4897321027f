"""Do trials predict? Rank correlation of predicted and true accuracy over random structures.

Run from the repository:
    python benchmarks/search_quality.py truth   random structures: results/truth_digits.json
    python benchmarks/search_quality.py         ways to predict: results/search_quality.json
With --data shapes: results/truth_shapes.json, results/search_quality_shapes.json; see `shapes`.

The truth is the test score of each structure trained from scratch by the final recipe
of a search, once per seed. The ceiling beside the correlations is the square root of the truth's
reliability: what a perfect predictor would reach, given the noise between seeds. Correlations
at equal latency are partial ones: of what measured latency leaves of the ranks of both.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from conditions import RESULTS, write_result
from genets.data import load_data
from genets.data.nuisance import Nuisance
from genets.data.seeds import seeded_globals
from genets.latency import measure_interleaved
from genets.nas.executors.inline import run_inline
from genets.nas.fine_tuning import TrialJob
from genets.nas.planning import GROUP_SIZE, group_trials, plan_trials
from genets.nas.regression import AccuracyModel
from genets.nas.settings import SearchSettings, merge
from genets.nas.trial import TrialResult
from genets.networks import build, count, save_weights
from genets.structure import Structure
from genets.training import Score, evaluate, fitting_threads, train
from shapes import NUISANCE, ShapesTrialJob
from zen_score import zen_score

WORKERS = os.cpu_count() or 1
DATA: dict[str, dict[str, Any]] = {
    "digits": {"data": "digits"},
    "shapes": {"data": "shapes", "resolution": 24},
}
NUISANCES = {"digits": Nuisance(), "shapes": NUISANCE}
TINY = {
    "trials_per_super_block": 2,
    "controls_per_super_block": 1,
    **{f"{kind}_training": {"epochs": 1, "warmup_epochs": 0} for kind in
       ("master", "trial", "final")},
}  # fmt: skip

VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "balanced": {"sampling": "balanced"},
    "random": {"sampling": "random"},
    "separate": {"trials": "separate"},
    # What the paper says, with this benchmark's number of trials and their epochs.
    "literal": {"sampling": "random", "trials": "separate", "trial_training": {"thaw": "block"}},
    "block thawed": {"trial_training": {"thaw": "block"}},
    "all thawed": {"trial_training": {"thaw": "all"}},
    "half the epochs": {"trial_training": {"epochs": 3}},
    "twice the epochs": {"trial_training": {"epochs": 12}},
    "half the rate": {"trial_training": {"learning_rate": 0.4}},
    "twice the rate": {"trial_training": {"learning_rate": 1.6}},
}
FORMS = (("bayes", "top1"), ("bayes", "cross_entropy"), ("paper", "top1"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", default="compare", choices=("compare", "truth"))
    parser.add_argument("--data", default="digits", choices=DATA)
    parser.add_argument("--structures", type=int, default=24)
    parser.add_argument("--truth-seeds", type=int, default=2)
    parser.add_argument("--search-seeds", type=int, default=1)
    parser.add_argument("--variants", nargs="*", default=["default"], choices=VARIANTS)
    parser.add_argument(
        "--tiny", action="store_true", help="one epoch each: whether it runs; no results are kept"
    )
    options = parser.parse_args()
    base = merge(DATA[options.data], {"budget": "1x"}, TINY if options.tiny else {})
    if options.tiny:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "truth.json"
            make_truth(path, base, options.structures, options.truth_seeds)
            figures = compare(Truth.load(path), base, options.variants, options.search_seeds)
        print(json.dumps(figures, indent=2))
        return
    path = RESULTS / f"truth_{options.data}.json"
    if options.what == "truth":
        make_truth(path, base, options.structures, options.truth_seeds)
        return
    figures = compare(Truth.load(path), base, options.variants, options.search_seeds)
    name = "search_quality" if options.data == "digits" else f"search_quality_{options.data}"
    write_result(name, figures)


def make_truth(path: Path, base: dict[str, Any], structures: int, seeds: int) -> None:
    """Train, and store after each network, so that a stopped run goes on."""
    settings = SearchSettings(**base)
    around = settings.space.design_space().around(settings.structure)
    rng = np.random.default_rng(2020)
    drawn = [str(around.sample(rng)) for _ in range(structures)]
    record = json.loads(path.read_text()) if path.exists() else {}
    conditions = {
        "recipe": settings.final_training.model_dump(),
        "master": settings.master,
        "nuisance": json.loads(json.dumps(asdict(NUISANCES[settings.data]))),
    }
    if {name: record.get(name) for name in conditions} != conditions:
        record = conditions | {"scores": {}}
    jobs = [
        (base, structure, seed)
        for seed in range(seeds)
        for structure in drawn
        if str(seed) not in record["scores"].get(structure, {})
    ]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(WORKERS, context, torch.set_num_threads, (1,)) as pool:
        pairs = zip(jobs, pool.map(true_score, jobs), strict=True)
        for (_, structure, seed), score in pairs:
            record["scores"].setdefault(structure, {})[str(seed)] = score
            path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
            print(structure, seed, score, flush=True)


def true_score(job: tuple[dict[str, Any], str, int]) -> tuple[float, float]:
    base, notation, seed = job
    settings = SearchSettings(**base)
    data = load_data(settings.data, settings.resolution, seed=0)
    with seeded_globals("truth", seed):
        net = build(Structure.parse(notation), data.num_classes)
    train(net, data.train, settings.final_training.recipe(), seed=1000 + seed)
    score = evaluate(net, data.test)
    return score.top1, score.cross_entropy


@dataclass(frozen=True)
class Truth:
    """Structures and their test scores.

    scores: (structures, seeds, 2), top-1 and cross-entropy. Only seeds that all structures have.
    """

    structures: tuple[Structure, ...]
    scores: np.ndarray

    @classmethod
    def load(cls, path: Path) -> Truth:
        if not path.exists():
            raise SystemExit(f"{path} is not there; make it first: search_quality.py truth")
        record = json.loads(path.read_text())["scores"]
        seeds = sorted(set.intersection(*(set(scores) for scores in record.values())))
        table = np.array([[scores[seed] for seed in seeds] for scores in record.values()])
        return cls(tuple(map(Structure.parse, record)), table)

    @cached_property
    def ms_per_image(self) -> np.ndarray:
        """(structures,), measured here and now in turn."""
        target = SearchSettings(data="digits", budget="1x").target
        nets = {str(s): build(s, 10) for s in self.structures}
        resolution = self.structures[0].resolution
        measured = measure_interleaved(nets, target, resolution, time_limit_s=0.5)
        return np.array([measured[str(s)].ms_per_image for s in self.structures])

    def correlation(self, predicted: Sequence[float]) -> dict[str, float]:
        """Spearman, over all structures and at equal latency; more of `predicted` is better."""
        found = {}
        means = self.scores.mean(axis=1).T
        for name, true in (("top1", means[0]), ("cross_entropy", -means[1])):
            found[name] = rank_correlation(predicted, true)
            found[f"{name}_at_equal_latency"] = partial(predicted, true, self.ms_per_image)
        return found


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    return float(spearmanr(first, second).statistic)


def partial(first: Sequence[float], second: Sequence[float], given: Sequence[float]) -> float:
    """Spearman's partial rank correlation of the first two, given the third."""
    pairs = ((first, second), (first, given), (second, given))
    both, one, other = (rank_correlation(a, b) for a, b in pairs)
    return float((both - one * other) / np.sqrt((1 - one**2) * (1 - other**2)))


def compare(
    truth: Truth, base: dict[str, Any], variants: list[str], search_seeds: int
) -> dict[str, Any]:
    sizes = [count(structure) for structure in truth.structures]
    names = enumerate(("top1", "cross_entropy"))
    figures: dict[str, Any] = {
        "structures": len(truth.structures),
        "truth_seeds": truth.scores.shape[1],
        "truth": {name: spread(truth.scores[:, :, i]) for i, name in names},
        "ms_per_image": truth.ms_per_image.tolist(),
        "parameters": truth.correlation([c.parameters for c in sizes]),
        "multiply_adds": truth.correlation([c.multiply_adds for c in sizes]),
        "zen_score": truth.correlation([zen_score(s) for s in truth.structures]),
    }
    for name in variants:
        chosen = merge(base, VARIANTS[name])
        runs = [*predict(truth, chosen, search_seeds)]
        figures[name] = {"settings": VARIANTS[name], "runs": runs, "mean": mean_of(runs)}
        print(name, json.dumps(figures[name]["mean"]), flush=True)
    return figures


def spread(values: np.ndarray) -> dict[str, float] | None:
    """Between networks and between seeds; values: (structures, seeds). None for one seed."""
    if values.shape[1] < 2:
        return None
    within = float(values.var(axis=1, ddof=1).mean())
    mean_variance = float(values.mean(axis=1).var(ddof=1))
    between = max(0.0, mean_variance - within / values.shape[1])
    return {
        "std_networks": between**0.5,
        "std_seeds": within**0.5,
        "ratio": (between / within) ** 0.5,
        "ceiling": (between / mean_variance) ** 0.5,
    }


def predict(truth: Truth, chosen: dict[str, Any], seeds: int) -> Iterator[dict[str, Any]]:
    for seed in range(seeds):
        settings = SearchSettings(**chosen | {"seed": seed})
        results, master, seconds = run_trials(settings)
        run: dict[str, Any] = {"seed": seed, "trials": len(results), "core_seconds": seconds}
        for form, response in FORMS:
            model = AccuracyModel.fit(
                settings.structure,
                results,
                getattr(master, response),
                response=response,
                form=form,
            )
            predicted = [model.predict(structure).mean for structure in truth.structures]
            run[f"{form} {response}"] = truth.correlation(predicted)
        yield run


def mean_of(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation over search seeds of every correlation."""
    found: dict[str, Any] = {"core_seconds": float(np.mean([r["core_seconds"] for r in runs]))}
    for form, response in FORMS:
        key = f"{form} {response}"
        for figure in runs[0][key]:
            values = [run[key][figure] for run in runs]
            found.setdefault(key, {})[figure] = [float(np.mean(values)), float(np.std(values))]
    return found


def run_trials(settings: SearchSettings) -> tuple[list[TrialResult], Score, float]:
    around = settings.space.design_space().around(settings.structure)
    each = (settings.trials_per_super_block, settings.controls_per_super_block)
    planned = plan_trials(around, *each, seed=settings.seed, sampling=settings.sampling)
    data = load_data(settings.data, settings.resolution, seed=settings.seed)
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "master.safetensors"
        with seeded_globals("master", settings.seed):
            net = build(settings.structure, data.num_classes)
        recipe = settings.master_training.recipe()
        with fitting_threads(net, settings.resolution, recipe.batch_size):
            train(net, data.train, recipe, seed=settings.seed)
        save_weights(net, weights, {})
        job_of = ShapesTrialJob if settings.data == "shapes" else TrialJob
        job = job_of(
            settings.structure, weights, settings.data, settings.trial_training.recipe(),
            settings.trial_training.thaw, settings.seed,
        )  # fmt: skip
        groups = group_trials(planned, 1 if settings.trials == "separate" else GROUP_SIZE)
        start = time.monotonic()
        results = [*run_inline(job, groups, WORKERS)]
        seconds = (time.monotonic() - start) * WORKERS
    return results, evaluate(net, data.validation), seconds


if __name__ == "__main__":
    main()
