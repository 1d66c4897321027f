"""The search on public tables of trained networks and measured latencies.

Run from the repository: python benchmarks/public_tables.py --tables FOLDER
Writes results/public_tables.json. `tables` names the tables; the folder holds their CSV files. With
--tiny and without a folder, small made-up tables are used.
Nothing is trained: scores and latencies are looked up, and all other parts are those of a search.

- `macro` (NAS-Bench-Macro): whole rounds of a search under six budgets of multiply-adds, from
  random networks as MasterNets, against rivals with as many trainings (see `table_rivals`). Rank
  correlation and intervals are those of the accuracy model after one round of trials.
- `accel` (Accel-NASBench): the table lacks the changes of most networks, so no round of trials can
  be run. The accuracy model learns from random networks instead, and candidates are chosen among
  the networks of the table under budgets of measured time.
- `fbnet`: how well a sum of one cost for each layer and operator, as in a latency table, predicts
  measured latencies. The costs are fitted to whole networks here; a search also times pieces.

Regret: top-1 points between the best network within the budget and the chosen one, by the mean of
all trainings; on NAS-Bench-Macro also by the trainings that the search did not see. Settings were
tuned on MasterNets 0 to 24 with trainings 0 and 1, and on A100 and TPUv3 (--tuning). All other
MasterNets, training 2, the other devices and other random networks are reported.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from conditions import add_tiny_option, write_result
from genets.latency.timing.statistics import rmspe
from genets.nas.accuracy.bayes import BayesEffects
from genets.nas.accuracy.model import DEVIATIONS_95, AccuracyModel
from genets.nas.selection.improvement import choose_candidates
from genets.nas.study.records import TrainedCandidate, TrialResult
from genets.nas.trials.plan import plan_trials
from made_tables import write_accel, write_fbnet, write_macro
from table_lab import IMAGES, Outcome, search_macro
from table_rivals import RIVALS, Rival, layer_features, make_trees
from tables import (
    ACCEL,
    FBNET,
    MACRO,
    Floats,
    Integers,
    Table,
    macro_space,
    read_accel,
    read_fbnet,
    read_macro,
)
from zero_cost import read_scores

WORKERS = 2
MACRO_QUANTILES = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
ACCEL_QUANTILES = (0.1, 0.25, 0.5, 0.75)
TUNED_DEVICES = ("a100", "tpuv3")
BANDS = 10
INTERVALS = {68: 1.0, 95: DEVIATIONS_95}  # percent, and standard deviations

Choose = Callable[[Table, list[int], Integers, int], list[int]]

# The settings of a search that differ from the defaults of this benchmark, by name.
METHODS: dict[str, dict[str, Any]] = {
    "one round, one candidate": {"confirm": 1, "rounds": 1},
    "one round, four candidates": {"confirm": 4, "rounds": 1},
    "two rounds, four candidates": {"confirm": 4, "rounds": 2},
}
# Rounds and candidates that were compared for the defaults, on the tuning part alone.
COMPARED: dict[str, dict[str, Any]] = {
    "one round, eight candidates": {"confirm": 8, "rounds": 1},
    "one round, 24 candidates": {"confirm": 24, "rounds": 1},
    "two rounds, two candidates": {"confirm": 2, "rounds": 2},
    "three rounds, four candidates": {"confirm": 4, "rounds": 3},
}
AS_MANY = ("one round, four candidates", "two rounds, four candidates")

# Accel-NASBench: trained random networks, then rounds of chosen ones; 84 trainings in all.
ACCEL_ROUNDS = {"five rounds": (64, 5), "one round": (80, 1)}
ACCEL_CANDIDATES = 4  # of a round
HELD_OUT_SEED = 1000  # so that the held-out part draws other random networks


@dataclass(frozen=True)
class Scope:
    """How much is run.

    Attributes:
        tuning: the part for tuning, or the held-out part.
        starts: the number of MasterNets or seeds; None for all.
        budgets: the number of budgets, the smallest ones first; None for all.
    """

    tuning: bool = False
    starts: int | None = None
    budgets: int | None = None


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tables", type=Path, help="folder of the CSV files")
    parser.add_argument("--parts", nargs="+", default=[*PARTS], choices=PARTS)
    parser.add_argument("--tuning", action="store_true", help="the part for tuning; store nothing")
    parser.add_argument("--starts", type=int, help="use so many MasterNets only; store nothing")
    add_tiny_option(parser)
    options = parser.parse_args()
    if options.tables is None and not options.tiny:
        parser.error("--tables FOLDER is missing; only --tiny runs without it")
    if options.starts is not None and options.starts < 1:
        parser.error(f"--starts must be at least 1, but it is {options.starts}")
    with ExitStack() as stack:
        folder = options.tables
        if folder is None:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="genets-tables-")))
            write_made_tables(folder)
        scope = Scope(options.tuning, options.starts)
        if options.tiny:
            scope = Scope(options.tuning, starts=1, budgets=1)
        figures = run_parts(folder, options.parts, scope)
    if figures and not (options.tiny or options.tuning or options.starts):
        write_result("public_tables", figures)


def write_made_tables(folder: Path) -> None:
    write_macro(folder, interaction=0.02, noise=0.2)
    write_accel(folder, noise=0.2)
    write_fbnet(folder, noise=0.02)


def run_parts(folder: Path, parts: Sequence[str], scope: Scope) -> dict[str, Any]:
    """The figures of each part whose table is in the folder."""
    figures: dict[str, Any] = {}
    for part in parts:
        file, run = PARTS[part]
        if not (folder / file).exists():
            print(f"skipped {part}: {folder / file} is missing")
            continue
        figures[part] = run(folder, scope)
        print_figures(part, figures[part])
    return figures


def print_figures(part: str, figures: Mapping[str, Any]) -> None:
    for name, value in figures.items():
        print(f"{part}: {name}: {value}", flush=True)


# NAS-Bench-Macro


def run_macro(folder: Path, scope: Scope) -> dict[str, Any]:
    table = read_macro(folder)
    drawn = np.random.default_rng(0).choice(len(table.structures), 50, replace=False)
    starts = (drawn[:25] if scope.tuning else drawn[25:])[: scope.starts]
    trainings = (0, 1) if scope.tuning else (2,)
    jobs = [(int(start), n) for start in starts for n in trainings]
    quantiles = MACRO_QUANTILES[: scope.budgets]
    methods = METHODS | (COMPARED if scope.tuning else {})
    with ProcessPoolExecutor(WORKERS) as pool:
        rows = [*pool.map(partial(macro_regrets, folder, quantiles, methods), jobs)]
        ranks = [*pool.map(partial(macro_ranks, folder), jobs)]
    figures: dict[str, Any] = {"starts": len(starts), "trainings": list(trainings)}
    for method in rows[0]:
        regret = np.array([row[method]["regret"] for row in rows])  # (starts, budgets)
        used = np.mean([row[method]["trainings"] for row in rows])
        unseen = float(np.mean([row[method]["by unseen trainings"] for row in rows]))
        figures[method] = summary(regret) | {
            "by_unseen_trainings": round(unseen, 3), "trainings": round(float(used), 1)
        }  # fmt: skip
    for name in ranks[0]:
        figures[name] = spread([rank[name] for rank in ranks])
    return figures


def summary(regret: Floats) -> dict[str, Any]:
    """The mean, its spread over starts, and the mean by budget. regret: (starts, budgets)."""
    return {
        "regret": spread(regret.mean(axis=1)),
        "by_budget": regret.mean(axis=0).round(3).tolist(),
    }


def spread(values: Sequence[float] | Floats) -> dict[str, float]:
    return {"mean": round(float(np.mean(values)), 3), "std": round(float(np.std(values)), 3)}


macro, accel = cache(read_macro), cache(read_accel)  # read once in each process


@cache
def untrained(folder: Path) -> dict[str, Floats]:
    """(networks,) by method that trains nothing; Zen-score and AZ-NAS where they are complete."""
    table = macro(folder)
    return {"most multiply-adds": table.multiply_adds} | (read_scores(table) or {})


def macro_regrets(
    folder: Path,
    quantiles: Sequence[float],
    methods: Mapping[str, dict[str, Any]],
    job: tuple[int, int],
) -> dict[str, dict[str, Any]]:
    """Regrets by budget, from one MasterNet and with one training of all networks."""
    table, (start, training) = macro(folder), job
    found: dict[str, list[Outcome]] = {}
    budgets = np.quantile(table.multiply_adds, quantiles)
    for budget in budgets:
        ours = {
            name: search_macro(table, start, training, budget, changes)
            for name, changes in methods.items()
        }
        rival = Rival(table, start, training, budget)
        rivals = {"one training of all": rival.one_training_of_all()}
        for name, scores in untrained(folder).items():
            rivals[name] = rival.best_by(scores)
            for method in AS_MANY:
                rivals[f"{name}, as {method}"] = rival.best_of(scores, ours[method].trainings)
        for method in AS_MANY:
            for name, run in RIVALS.items():
                rival = Rival(table, start, training, budget)
                rivals[f"{name}, as {method}"] = run(rival, ours[method].trainings)
        for name, outcome in (ours | rivals).items():
            found.setdefault(name, []).append(outcome)
    return {name: regrets(table, training, budgets, outcomes) for name, outcomes in found.items()}


def regrets(
    table: Table, training: int, budgets: Floats, outcomes: Sequence[Outcome]
) -> dict[str, Any]:
    """Regrets by the mean of all trainings, and by the mean of the trainings that were not seen."""
    unseen = np.delete(table.scores, training, axis=1).mean(axis=1)
    winners = [outcome.winner for outcome in outcomes]
    assert (table.multiply_adds[winners] <= budgets).all()

    def regret(truth: Floats) -> list[float]:
        best = [truth[table.multiply_adds <= budget].max() for budget in budgets]
        return [100 * float(a - b) for a, b in zip(best, truth[winners], strict=True)]

    return {
        "regret": regret(table.truth),
        "by unseen trainings": regret(unseen),
        "trainings": float(np.mean([outcome.trainings for outcome in outcomes])),
    }


def macro_ranks(folder: Path, job: tuple[int, int]) -> dict[str, float]:
    """Rank correlations and intervals of the accuracy model after one round of trials."""
    table, (start, training) = macro(folder), job
    master, scores = table.structures[start], table.scores[:, training]
    results = []
    for trial in plan_trials(macro_space(master), 2, 1, seed=training):
        score = float(scores[table.number[trial.structure(master)]])
        results.append(TrialResult(trial, "done", score, 1 - score))
    model = AccuracyModel.fit(master, results, float(scores[start]), images=IMAGES)
    others = [row for row in range(len(table.structures)) if row != start]
    mean, covered = judge(model, table, others)
    truth, adds = table.truth[others], table.multiply_adds[others]
    return {
        "spearman": float(spearmanr(mean, truth).statistic),
        "spearman within bands": spearman_within_bands(mean, truth, adds),
    } | covered


def spearman_within_bands(predicted: Floats, truth: Floats, cost: Floats) -> float:
    """The mean rank correlation within BANDS equally large groups of networks of similar cost.

    A network without a measured cost (NaN) is left out.
    """
    known = np.flatnonzero(np.isfinite(cost))
    bands = np.array_split(known[np.argsort(cost[known], kind="stable")], BANDS)
    return float(np.mean([spearmanr(predicted[band], truth[band]).statistic for band in bands]))


def judge(
    model: AccuracyModel, table: Table, rows: Sequence[int] | Integers
) -> tuple[Floats, dict[str, float]]:
    """(rows,): predictions, and the shares of truths that are within the intervals."""
    predictions = [model.predict(table.structures[row]) for row in rows]
    value = np.array([prediction.value for prediction in predictions])
    truth, covered = table.truth[rows], {}
    for share, width in INTERVALS.items():
        low, high = np.array([prediction.interval(width) for prediction in predictions]).T
        within = (low <= truth) & (truth <= high)
        covered[f"truths within the {share} % interval"] = float(np.mean(within))
    return value, covered


# Accel-NASBench


def run_accel(folder: Path, scope: Scope) -> dict[str, Any]:
    table = read_accel(folder)
    devices = [d for d in table.latency_ms if (d in TUNED_DEVICES) == scope.tuning]
    first = 0 if scope.tuning else HELD_OUT_SEED
    seeds = range(first, first + 10)[: scope.starts]
    quantiles = ACCEL_QUANTILES[: scope.budgets]
    jobs = [(device, seed) for device in devices for seed in seeds]
    with ProcessPoolExecutor(WORKERS) as pool:
        rows = dict(
            zip(jobs, pool.map(partial(accel_regrets, folder, quantiles), jobs), strict=True)
        )
        ranks = [*pool.map(partial(accel_ranks, folder, devices[0]), seeds)]
    figures: dict[str, Any] = {"seeds": len(seeds), "bands of latency": devices[0]}
    for method in rows[jobs[0]]:
        by_device = {
            device: round(float(np.mean([rows[device, seed][method] for seed in seeds])), 3)
            for device in devices
        }
        by_seed = np.array([
            np.mean([rows[device, seed][method] for device in devices]) for seed in seeds
        ])  # fmt: skip
        figures[method] = {"regret": spread(by_seed), "by_device": by_device}
    for name in ranks[0]:
        figures[name] = spread([rank[name] for rank in ranks])
    return figures


def accel_regrets(
    folder: Path, quantiles: Sequence[float], job: tuple[str, int]
) -> dict[str, list[float]]:
    """Regrets by budget on one device."""
    table, (device, seed) = accel(folder), job
    latency, scores = table.latency_ms[device], table.scores[:, 0]
    regret: dict[str, list[float]] = {}
    for quantile in quantiles:
        within = np.flatnonzero(latency <= np.nanquantile(latency, quantile))
        rng = np.random.default_rng([seed, int(100 * quantile)])
        drawn, random = rng.permutation(len(scores)), rng.permutation(within)[:84]
        chosen = {
            "random search": int(random[scores[random].argmax()]),
            "most multiply-adds": int(within[table.multiply_adds[within].argmax()]),
        }
        for name, (count, rounds) in ACCEL_ROUNDS.items():
            for method, choose in (("search", choose_by_model), ("boosted trees", choose_by_trees)):
                row = search_accel(table, drawn[:count], within, rounds, choose)
                chosen[f"{method}, {name}"] = row
        for name, row in chosen.items():
            regret.setdefault(name, []).append(100 * float(scores[within].max() - scores[row]))
    return regret


def search_accel(
    table: Table, drawn: Integers, within: Integers, rounds: int, choose: Choose
) -> int:
    """Train random networks and rounds of chosen ones; the best within the budget wins."""
    rows, scores = drawn.tolist(), table.scores[:, 0]
    for number in range(rounds):
        rows += choose(table, rows, within, number)
    trained = np.intersect1d(within, rows)
    return int(trained[scores[trained].argmax()])


def choose_by_model(table: Table, rows: list[int], within: Integers, seed: int) -> list[int]:
    effects = fit_accel(table, rows).effects
    assert isinstance(effects, BayesEffects)
    pool = [table.structures[row] for row in within]
    rows_of_pool = np.array([effects.feature_map.structure_row(each) for each in pool])
    gains = rows_of_pool @ effects.posterior.mean
    best = [pool[n] for n in np.argsort(-gains, kind="stable")[:200]]
    trained = [table.structures[row] for row in np.intersect1d(within, rows)]
    new = choose_candidates(effects, best, ACCEL_CANDIDATES, trained, seed=seed)
    return [table.number[structure] for structure in new]


def choose_by_trees(table: Table, rows: list[int], within: Integers, seed: int) -> list[int]:
    others = np.setdiff1d(within, rows)
    if not len(others):
        return []
    features, trees = layer_features(table), make_trees()
    trees.fit(features[rows], table.scores[rows, 0])
    order = np.argsort(-trees.predict(features[others]), kind="stable")
    return [int(row) for row in others[order[:ACCEL_CANDIDATES]]]


def fit_accel(table: Table, rows: Sequence[int] | Integers) -> AccuracyModel:
    """Fit to trained networks, of which the first one is the MasterNet."""
    trained = [
        TrainedCandidate(table.structures[row], "done", 1, float(table.truth[row]), None)
        for row in rows
    ]
    return AccuracyModel.fit(
        table.structures[rows[0]], [], float(table.truth[rows[0]]), candidates=trained
    )


def accel_ranks(folder: Path, device: str, seed: int) -> dict[str, float]:
    """Rank correlations and intervals of the accuracy model after 80 random networks."""
    table = accel(folder)
    order = np.random.default_rng([seed, 1]).permutation(len(table.structures))
    model, others = fit_accel(table, order[:80]), order[80:1080]
    mean, covered = judge(model, table, others)
    truth, ms = table.truth[others], table.latency_ms[device][others]
    return {
        "spearman, 80 random networks": float(spearmanr(mean, truth).statistic),
        "spearman within bands of latency": spearman_within_bands(mean, truth, ms),
    } | covered


# FBNet


def run_fbnet(folder: Path, scope: Scope) -> dict[str, Any]:
    """Error of a sum of costs on half of the networks, fitted to 1,000 others; by device."""
    layers, latency_ms = read_fbnet(folder)
    one_hot = np.concatenate([layers == name for name in range(layers.max() + 1)], axis=1).astype(
        float
    )
    features = np.hstack((one_hot, np.ones((len(layers), 1))))
    figures = {}
    for device, ms in latency_ms.items():
        used = np.flatnonzero(np.isfinite(ms))
        order = np.random.default_rng(0).permutation(used)
        half = len(order) // 2
        fitted, held_out = order[:half][:1000], order[half:]
        costs = np.linalg.lstsq(features[fitted] / ms[fitted, None], np.ones(len(fitted)))[0]
        figures[device] = round(rmspe(features[held_out] @ costs, ms[held_out]), 4)
    return {"rmspe": figures, "median": round(float(np.median(list(figures.values()))), 4)}


Part = tuple[str, Callable[[Path, Scope], dict[str, Any]]]
PARTS: dict[str, Part] = {
    "macro": (MACRO, run_macro),
    "accel": (ACCEL, run_accel),
    "fbnet": (FBNET, run_fbnet),
}

if __name__ == "__main__":
    main()
