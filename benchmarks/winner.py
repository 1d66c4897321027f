"""The winner of a search against the MasterNet scaled by one width factor, at equal latency.

Run from the repository: python benchmarks/winner.py [--seeds 3]. Writes results/winner.json.
For each seed there is one search; from its trials one network is selected for 1.0x and one for 0.5x
of the MasterNet's latency. The rival of each network is the MasterNet with all widths scaled by one
factor: the fastest such network that is not faster than the winner. Both are measured in one run.
Widths are rounded to multiples of 8, which favours the rival. Winner and rival are trained equally:
from scratch, with the recipe of the search's final training and the MasterNet as teacher.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from timm.models.byobnet import ByobNet
from torch import nn

from conditions import write_result
from genets.data import ImageData, load_data
from genets.data.seeds import seeded_globals
from genets.latency import Target, measure_interleaved
from genets.nas.reselect import select
from genets.nas.search import run_search
from genets.nas.settings.settings import SearchSettings
from genets.networks import build, load_weights
from genets.structure import Structure
from genets.training import evaluate, fitting_threads, train_on

BUDGETS = ("1.0x", "0.5x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    runs = []
    with tempfile.TemporaryDirectory(prefix="genets-winner-") as folder:
        for seed in range(options.seeds):
            runs += compare(Path(folder) / str(seed), seed)
    figures = {
        "seeds": options.seeds,
        "mean": {budget: summary([r for r in runs if r["budget"] == budget]) for budget in BUDGETS},
        "runs": runs,
    }
    write_result("winner", figures)


def compare(folder: Path, seed: int) -> list[dict[str, Any]]:
    settings = SearchSettings(data="digits", budget="1.0x", seed=seed, from_scratch=True)
    start = time.monotonic()
    run_search(settings, folder)
    print(f"seed {seed}: the search took {time.monotonic() - start:.0f} s", flush=True)
    data = load_data(settings.data, settings.resolution, seed=seed)
    teacher = load_teacher(settings, folder, data.num_classes)
    runs = []
    for budget in BUDGETS:
        winner = select(folder, budget).structure
        rival = find_rival(winner, settings.structure, settings.target)
        names = {"winner": winner, "rival": rival}
        nets = {name: build(structure, data.num_classes) for name, structure in names.items()}
        measured = measure_interleaved(nets, settings.target, settings.resolution)
        run: dict[str, Any] = {"seed": seed, "budget": budget}
        for name, structure in names.items():
            score = train_and_score(structure, teacher, data, settings)
            run[name] = {
                "structure": str(structure),
                "ms_per_image": measured[name].ms_per_image,
                "low": measured[name].low_ms_per_image,
                "high": measured[name].high_ms_per_image,
                "test_top1": score.top1,
                "test_cross_entropy": score.cross_entropy,
            }
        print(run, flush=True)
        runs.append(run)
    return runs


def find_rival(winner: Structure, master: Structure, target: Target) -> Structure:
    """The fastest scaled MasterNet that is at least as slow as the winner."""
    factors = np.linspace(0.1, 1.6, 31)
    scaled = list(dict.fromkeys(master.scale_width(float(factor)) for factor in (*factors, 1.0)))
    measured = measure_interleaved(
        {str(s): build(s, 10) for s in (winner, *scaled)},
        target,
        master.resolution,
        time_limit_s=0.5,
    )
    ms = {s: measured[str(s)].ms_per_image for s in (winner, *scaled)}
    slower = [s for s in scaled if ms[s] >= ms[winner]]
    return min(slower, key=ms.__getitem__) if slower else max(scaled, key=ms.__getitem__)


def load_teacher(settings: SearchSettings, folder: Path, num_classes: int) -> ByobNet:
    """The MasterNet with the weights of the study in `folder`."""
    teacher = build(settings.structure, num_classes)
    load_weights(teacher, folder / "master.safetensors")
    return teacher


def train_and_score(
    structure: Structure, teacher: nn.Module, data: ImageData, settings: SearchSettings
) -> Any:
    with seeded_globals("final", settings.seed):
        net = build(structure, data.num_classes)
    recipe = settings.final_training.recipe()
    with fitting_threads(net, settings.resolution, recipe.batch_size):
        train_on(net, data, recipe, seed=settings.seed, teacher=teacher)
    return evaluate(net, data.test)


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    def mean(name: str, field: str) -> float:
        return float(np.mean([run[name][field] for run in runs]))

    fields = ("test_top1", "test_cross_entropy", "ms_per_image")
    means = {
        f"{name}_{field}": mean(name, field) for name in ("winner", "rival") for field in fields
    }
    ahead = [run["winner"]["test_top1"] - run["rival"]["test_top1"] for run in runs]
    return means | {
        "winner_ahead_top1_mean": float(np.mean(ahead)),
        "winner_ahead_top1_each": ahead,
    }


if __name__ == "__main__":
    main()
