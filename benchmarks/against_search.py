"""The search against random search, regularised evolution and the scaled MasterNet.

Run from the repository, one seed at a time or all seeds at once:
    python benchmarks/against_search.py --seeds 0 [--studies FOLDER]
    python benchmarks/against_search.py --inherited
    python benchmarks/against_search.py --data cifar10 --photos PHOTOGRAPHS --budget 0.5x
Writes results/against_search.json, or against_search_inherited.json, or the same names with
_cifar10. Seeds already in the file stay if their settings are the same. With --studies, a stopped
run continues: searches, trainings of the rivals and final trainings are stored there.

For each seed there is one search, with one winner for the budget. Random search and
evolution (see `evolution`) get the same search space, the same latency table to stay within the
budget, and the same compute: the core-seconds that the search spent on training its MasterNet,
trials, screened structures and candidates. They train each structure from scratch for a short time
and rank the structures by validation cross-entropy. Their winner is the first structure in this
order whose measured latency meets the budget; its full training is part of their compute. The
scaled MasterNet is that of `winner`: the fastest one that is not faster than our winner.

In the end all four networks are trained equally: from scratch, with the final recipe and the
MasterNet as teacher (the rivals get the teacher without cost), once per final seed. They are scored
on the test split and measured in turn.

With --inherited, trials and candidates of the search inherit weights, which is the default of
genets. Its network is then the exported winner. The networks of the rivals inherit the weights of
the search's MasterNet without cost, and are fine-tuned as long as the winner was as a candidate.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student_t

from conditions import add_tiny_option, read_result, write_result
from evolution import Evaluation, Proposals, Propose, read_history, spend
from finals import Methods, final_latencies, final_scores
from genets.core.files import write_atomic
from genets.data.seeds import seeded_globals
from genets.latency import Budget, LatencyTable, Measurement
from genets.latency.budget import DEFAULT_WAIT_MINUTES
from genets.nas.laboratory import Laboratory
from genets.nas.result import SearchResult
from genets.nas.search import run_search
from genets.nas.selection.measured import MeasuredNetworks
from genets.nas.settings.settings import SearchSettings
from genets.nas.settings.toml_tables import merge
from genets.nas.study.study import Study
from genets.networks import build
from genets.structure import Structure
from genets.training import evaluate, train_on
from truth import TINY, WORKERS, add_data_options, data_settings, images, training_pool
from winner import find_rival

NAME = "against_search"
OURS = "search"
MEASURED_AT_ONCE = 4  # structures of a rival that are measured together


@dataclass(frozen=True)
class Rules:
    """The settings of the comparison.

    Attributes:
        budget: a multiple of the MasterNet's latency.
        short_epochs: epochs of each short training of the rivals.
        population: size of the population of the evolution.
        tournament: size of a tournament of the evolution.
        final_seeds: the number of final trainings of each winner.
        version: of the comparison; results of another version are not kept beside new ones.
    """

    budget: str = "0.7x"
    short_epochs: int = 9
    population: int = 16
    tournament: int = 5
    final_seeds: int = 2
    version: int = 3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--budget", default=Rules.budget, help="multiple of the MasterNet's latency"
    )
    parser.add_argument("--short-epochs", type=int, default=Rules.short_epochs)
    parser.add_argument("--population", type=int, default=Rules.population)
    parser.add_argument("--tournament", type=int, default=Rules.tournament)
    parser.add_argument("--final-seeds", type=int, default=Rules.final_seeds)
    parser.add_argument("--inherited", action="store_true", help="the search inherits weights")
    parser.add_argument("--studies", type=Path, help="the folder of the studies, which stays")
    add_data_options(parser)
    add_tiny_option(parser)
    options = parser.parse_args()
    names = Rules.__annotations__.keys() - {"version"}
    rules = Rules(**{name: getattr(options, name) for name in names})
    with (
        tempfile.TemporaryDirectory(prefix="genets-against-") as folder,
        data_settings(options, options.studies) as base,
    ):
        run(options, rules, base, options.studies or Path(folder))


def run(options: argparse.Namespace, rules: Rules, base: dict[str, Any], studies: Path) -> None:
    way = "_inherited" if options.inherited else ""
    name = f"{NAME}{way}" if options.data == "digits" else f"{NAME}{way}_{options.data}"
    base = base | {"from_scratch": not options.inherited}
    stored = {} if options.tiny else read_result(name)
    runs = stored.get("runs", {}) if stored.get("rules") == asdict(rules) else {}
    shorter = TINY | {"table_seconds": 10.0, "measure_seconds": 0.5} if options.tiny else {}
    for seed in options.seeds:
        settings = SearchSettings(**merge(base, {"budget": rules.budget, "seed": seed}, shorter))
        runs[str(seed)] = compare(settings, rules, studies / f"seed-{seed}")
        figures = {"rules": asdict(rules), "mean": summary([*runs.values()]), "runs": runs}
        if options.tiny:
            print(json.dumps(figures, indent=2))
        else:
            write_result(name, figures, settings.target)


def compare(settings: SearchSettings, rules: Rules, folder: Path) -> dict[str, Any]:
    result = run_search(settings, folder)
    spent = core_seconds(result)
    winner = result.selected.structure
    rivals: Methods = {}
    with training_pool() as pool:
        for name in ("random search", "evolution"):
            rivals[name] = run_rival(name, settings, rules, folder, sum(spent.values()), pool)
            print(settings.seed, name, rivals[name], flush=True)
        scaled = find_rival(winner, settings.structure, settings.target)
        methods: Methods = {
            OURS: {"structure": str(winner), "core_seconds": sum(spent.values())},
            **rivals,
            "scaled MasterNet": {"structure": str(scaled)},
        }
        finals: Methods = {}
        if not settings.from_scratch:
            finals[OURS] = {
                "test_top1": result.winner.top1,
                "test_cross_entropy": result.winner.cross_entropy,
            }
        untrained = {name: method for name, method in methods.items() if name not in finals}
        finals |= final_scores(settings, folder, rules.final_seeds, untrained, pool)
    measured = final_latencies(settings, methods)
    return {
        "core_seconds": spent,
        "methods": {name: methods[name] | finals[name] | measured[name] for name in methods},
    }


def core_seconds(result: SearchResult) -> dict[str, float]:
    """The core-seconds that the search spent on each kind of training."""
    with Study.open(result.folder) as study:
        trials = sum(trial.seconds for trial in study.results())
        screened = sum(structure.seconds for structure in study.screened())
    return {
        "MasterNet": result.seconds["MasterNet training"],
        "trials": trials,
        "screening": screened,
        "candidates": sum(candidate.seconds for candidate in result.confirmed),
        "final training": result.seconds.get("final training", 0.0),
    }


def run_rival(
    name: str,
    settings: SearchSettings,
    rules: Rules,
    folder: Path,
    seconds: float,
    pool: Executor,
) -> dict[str, Any]:
    table = LatencyTable.load(folder / "latency" / f"{settings.target.name}.json")
    budget = Budget.parse(rules.budget)
    space = settings.space.design_space().around(settings.structure)
    ended = read_history(stored := folder / f"{name}-history.jsonl")
    limit_ms = budget.ms_per_image(table.master_ms_per_image)
    seen = [evaluation.structure for evaluation in ended]
    proposals = Proposals(space, table, limit_ms, [settings.seed, len(name)], seen)
    propose: Propose = proposals.random
    if name == "evolution":
        propose = proposals.evolution(rules.population, rules.tournament)
    job = partial(short_training, settings, rules.short_epochs)

    def evaluate_all(structures: Sequence[Structure]) -> list[Evaluation]:
        return [*pool.map(job, structures)]

    # Timed once, for both rivals and for a continued run.
    timed = folder / f"full-seconds-{rules.short_epochs}.json"
    if not timed.exists():
        write_atomic(timed, json.dumps(full_training_seconds(settings, rules, pool)))
    full_seconds = json.loads(timed.read_text())
    history = spend(propose, evaluate_all, seconds - full_seconds, WORKERS, stored)
    best = find_first_within(budget, history, settings, folder / f"{name}-measured.json")
    return {
        "structure": str(best.structure),
        "evaluated": len(history),
        "core_seconds": sum(evaluation.seconds for evaluation in history) + full_seconds,
        "short_cross_entropy": -best.value,
        "rank_among_evaluated": sum(other.value > best.value for other in history) + 1,
    }


def full_training_seconds(settings: SearchSettings, rules: Rules, pool: Executor) -> float:
    """The estimated core-seconds of a full training.

    A short training of the MasterNet is timed and multiplied by the ratio of the epochs.
    """
    job = partial(short_training, settings, rules.short_epochs)
    seconds = [short.seconds for short in pool.map(job, [settings.structure] * WORKERS)]
    epochs: int = settings.final_training.epochs
    return min(seconds) * epochs / rules.short_epochs


def short_training(settings: SearchSettings, epochs: int, structure: Structure) -> Evaluation:
    """Train from scratch without a teacher; the value is minus the validation cross-entropy."""
    data = images(settings.data, settings.resolution, settings.seed)
    recipe = settings.final_training.recipe()
    recipe = replace(recipe, epochs=epochs, warmup_epochs=min(recipe.warmup_epochs, epochs / 2))
    start = time.perf_counter()
    with seeded_globals("final", settings.seed):
        net = build(structure, data.num_classes)
    train_on(net, data, recipe, seed=settings.seed)
    score = evaluate(net, data.validation)
    return Evaluation(structure, -score.cross_entropy, time.perf_counter() - start)


def find_first_within(
    budget: Budget, history: Sequence[Evaluation], settings: SearchSettings, path: Path
) -> Evaluation:
    """The best structure whose upper 95 % bound meets the budget, the rule of the search too."""
    num_classes = images(settings.data, settings.resolution, settings.seed).num_classes
    lab = Laboratory()

    def in_turn(
        structures: Sequence[Structure], times_as_long: int
    ) -> dict[Structure, Measurement]:
        seconds = times_as_long * settings.measure_seconds
        return lab.measure(
            structures, settings.target, num_classes, seconds, relative=budget.is_relative
        )

    networks = MeasuredNetworks(
        path,
        settings.structure,
        in_turn,
        budget=budget,
        wait_for_calm=lambda limit_s: lab.wait_for_calm(
            settings.target, limit_s, lambda seconds, others: None
        ),
        wait_limit_s=60 * DEFAULT_WAIT_MINUTES,
    )
    order = sorted(history, key=lambda evaluation: evaluation.value, reverse=True)
    for start in range(0, len(order), MEASURED_AT_ONCE):
        part = order[start : start + MEASURED_AT_ONCE]
        measured = networks.measure([evaluation.structure for evaluation in part])
        for evaluation in part:
            if measured[evaluation.structure].meets(budget):
                return evaluation
    raise SystemExit(f"none of {len(order)} trained structures meets the budget {budget}")


def summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation of each figure over the seeds, and the lead of our winner.

    `significant_lead` is the smallest mean lead that differs from 0 at the 5 % level, by a paired
    t-test over the seeds.
    """
    fields = ("test_top1", "test_cross_entropy", "times_master", "core_seconds")
    figures: dict[str, Any] = {"seeds": len(runs)}
    for name in runs[0]["methods"]:
        methods = [run["methods"][name] for run in runs]
        figures[name] = {
            field: mean_and_std([method[field] for method in methods])
            for field in fields
            if field in methods[0]
        }
        if name != OURS:
            ours = [run["methods"][OURS]["test_top1"] for run in runs]
            ahead = [own - m["test_top1"] for own, m in zip(ours, methods, strict=True)]
            figures[name]["ours_ahead_top1"] = mean_and_std(ahead)
            if len(ahead) > 1:
                quantile = float(student_t.ppf(0.975, len(ahead) - 1))
                error = float(np.std(ahead, ddof=1)) / math.sqrt(len(ahead))
                figures[name]["significant_lead"] = quantile * error
    return figures


def mean_and_std(values: Sequence[float]) -> list[float | None]:
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return [float(np.mean(values)), std]


if __name__ == "__main__":
    main()
