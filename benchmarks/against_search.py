"""The search against random search, regularised evolution and the scaled MasterNet.

Run from the repository, seed by seed or all at once:
    python benchmarks/against_search.py --seeds 0
Writes results/against_search.json; seeds that are there with the same settings are kept.

For each seed one search on digits, and from it the winner for the budget. Random search and
evolution (see `evolution`) have the same design space, the same latency table to stay within the
budget, and the same compute: seconds of training, each in a process of one thread, as the search
spent on its MasterNet, trials and candidates. They train each structure from scratch for a short
time, and rank by validation cross-entropy; the first in that order that keeps the budget by
measurement is theirs, and its full training is part of their compute. The scaled MasterNet is that
of `winner`: the fastest that is not faster than our winner.

In the end all four are trained alike, from scratch, by the final recipe with the MasterNet as
teacher (which the rivals get for nothing), once per final seed, scored on the test split, and
measured in turn.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from conditions import read_result, write_result
from evolution import Evaluated, Proposals, Propose, spend
from finals import Methods, final_latencies, final_scores, images
from genets.data.seeds import seeded_globals
from genets.latency import Budget, LatencyTable
from genets.nas.laboratory import Laboratory
from genets.nas.result import SearchResult
from genets.nas.search import run_search
from genets.nas.selection.measured import MeasuredNetworks
from genets.nas.settings.layers import merge
from genets.nas.settings.settings import SearchSettings
from genets.nas.study.study import Study
from genets.networks import build
from genets.structure import Structure
from genets.training import evaluate, train
from truth import TINY, WORKERS, training_pool
from winner import rival_of

NAME = "against_search"
OURS = "search"
MEASURED_AT_ONCE = 4  # finalists of a rival


@dataclass(frozen=True)
class Rules:
    """Of the comparison: what the rivals may do, and how often winners are trained in the end."""

    budget: str = "0.7x"
    short_epochs: int = 9
    population: int = 16
    tournament: int = 5
    final_seeds: int = 2


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--budget", default=Rules.budget, help="times the MasterNet")
    parser.add_argument("--short-epochs", type=int, default=Rules.short_epochs)
    parser.add_argument("--population", type=int, default=Rules.population)
    parser.add_argument("--tournament", type=int, default=Rules.tournament)
    parser.add_argument("--final-seeds", type=int, default=Rules.final_seeds)
    parser.add_argument("--studies", type=Path, help="where the searches are kept, or were")
    parser.add_argument(
        "--tiny", action="store_true", help="one epoch each: whether it runs; no results are kept"
    )
    values = vars(parser.parse_args())
    rules = Rules(**{name: values[name] for name in Rules.__annotations__})
    stored = {} if values["tiny"] else read_result(NAME)
    runs = stored.get("runs", {}) if stored.get("rules") == asdict(rules) else {}
    with tempfile.TemporaryDirectory(prefix="genets-against-") as folder:
        for seed in values["seeds"]:
            settings = settings_of(rules, seed, tiny=values["tiny"])
            study = (values["studies"] or Path(folder)) / f"seed-{seed}"
            runs[str(seed)] = compare(settings, rules, study)
            figures = {"rules": asdict(rules), "mean": summary([*runs.values()]), "runs": runs}
            if values["tiny"]:
                print(json.dumps(figures, indent=2))
            else:
                write_result(NAME, figures, settings.target)


def settings_of(rules: Rules, seed: int, *, tiny: bool) -> SearchSettings:
    own = {"data": "digits", "budget": rules.budget, "seed": seed}
    shorter = TINY | {"table_seconds": 10.0, "measure_seconds": 0.5} if tiny else {}
    return SearchSettings(**merge(own, shorter))


def compare(settings: SearchSettings, rules: Rules, folder: Path) -> dict[str, Any]:
    found = run_search(settings, folder)
    spent = core_seconds(found)
    winner = found.selected.structure
    rivals: Methods = {}
    with training_pool() as pool:
        for name in ("random search", "evolution"):
            rivals[name] = rival(name, settings, rules, folder, sum(spent.values()), pool)
            print(settings.seed, name, rivals[name], flush=True)
        scaled = rival_of(winner, settings.structure, settings.target)
        methods: Methods = {
            OURS: {"structure": str(winner), "core_seconds": sum(spent.values())},
            **rivals,
            "scaled MasterNet": {"structure": str(scaled)},
        }
        finals = final_scores(settings, folder, rules.final_seeds, methods, pool)
    measured = final_latencies(settings, methods)
    return {
        "core_seconds": spent,
        "methods": {name: methods[name] | finals[name] | measured[name] for name in methods},
    }


def core_seconds(found: SearchResult) -> dict[str, float]:
    """What the search spent on training, seconds of one core."""
    with Study.open(found.folder) as study:
        trials = sum(result.seconds for result in study.results())
    return {
        "MasterNet": found.seconds["MasterNet training"],
        "trials": trials,
        "candidates": sum(one.seconds for one in found.confirmed),
        "final training": found.seconds.get("final training", 0.0),
    }


def rival(
    name: str,
    settings: SearchSettings,
    rules: Rules,
    folder: Path,
    seconds: float,
    pool: Executor,
) -> dict[str, Any]:
    table = LatencyTable.load(folder / "latency" / f"{settings.target.name}.json")
    budget = Budget.parse(rules.budget)
    around = settings.space.design_space().around(settings.structure)
    rng = np.random.default_rng([settings.seed, len(name)])
    limit_ms = budget.ms_per_image(table.master_ms_per_image)
    proposals = Proposals(around, table, limit_ms, rng)
    propose: Propose = proposals.random
    if name == "evolution":
        propose = proposals.evolution(rules.population, rules.tournament)
    job = partial(short_training, settings, rules.short_epochs)

    def trained(structures: Sequence[Structure]) -> list[Evaluated]:
        return [*pool.map(job, structures)]

    full_seconds = full_training_seconds(settings, rules, pool)
    history = spend(propose, trained, seconds - full_seconds, WORKERS)
    best = first_within(budget, history, settings, folder / f"{name}-measured.json")
    return {
        "structure": str(best.structure),
        "evaluated": len(history),
        "core_seconds": sum(one.seconds for one in history) + full_seconds,
        "short_cross_entropy": -best.value,
        "rank_among_evaluated": sum(one.value > best.value for one in history) + 1,
    }


def full_training_seconds(settings: SearchSettings, rules: Rules, pool: Executor) -> float:
    """What a full training takes: as many times a short one of the MasterNet as it is longer."""
    job = partial(short_training, settings, rules.short_epochs)
    seconds = [one.seconds for one in pool.map(job, [settings.structure] * WORKERS)]
    return min(seconds) * settings.final_training.epochs / rules.short_epochs


def short_training(settings: SearchSettings, epochs: int, structure: Structure) -> Evaluated:
    """From scratch, without a teacher; the value is minus the validation cross-entropy."""
    data = images(settings.data, settings.resolution, settings.seed)
    recipe = settings.final_training.recipe()
    recipe = replace(recipe, epochs=epochs, warmup_epochs=min(recipe.warmup_epochs, epochs / 2))
    start = time.perf_counter()
    with seeded_globals("final", settings.seed):
        net = build(structure, data.num_classes)
    train(net, data.train, recipe, seed=settings.seed)
    score = evaluate(net, data.validation)
    return Evaluated(structure, -score.cross_entropy, time.perf_counter() - start)


def first_within(
    budget: Budget, history: Sequence[Evaluated], settings: SearchSettings, path: Path
) -> Evaluated:
    """The best whose upper 95 % bound keeps the budget, as the search promises it of its own."""
    num_classes = images(settings.data, settings.resolution, settings.seed).num_classes
    lab = Laboratory()
    networks = MeasuredNetworks(
        path,
        settings.structure,
        lambda structures: lab.measure(
            structures, settings.target, num_classes, settings.measure_seconds
        ),
    )
    order = sorted(history, key=lambda one: one.value, reverse=True)
    for start in range(0, len(order), MEASURED_AT_ONCE):
        part = order[start : start + MEASURED_AT_ONCE]
        measured = networks.measure([one.structure for one in part])
        for one in part:
            if measured[one.structure].meets(budget):
                return one
    raise SystemExit(f"none of {len(order)} trained structures keeps {budget}")


def summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation over seeds of each figure, and how far ours is ahead."""
    fields = ("test_top1", "test_cross_entropy", "times_master", "core_seconds")
    found: dict[str, Any] = {"seeds": len(runs)}
    for name in runs[0]["methods"]:
        methods = [run["methods"][name] for run in runs]
        found[name] = {
            field: mean_and_std([method[field] for method in methods])
            for field in fields
            if field in methods[0]
        }
        if name != OURS:
            own = [run["methods"][OURS]["test_top1"] for run in runs]
            ahead = [a - m["test_top1"] for a, m in zip(own, methods, strict=True)]
            found[name]["ours_ahead_top1"] = mean_and_std(ahead)
    return found


def mean_and_std(values: Sequence[float]) -> list[float | None]:
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return [float(np.mean(values)), std]


if __name__ == "__main__":
    main()
