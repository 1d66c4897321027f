"""A search from trained weights against training from scratch, and against a scaled MasterNet.

Run from the repository:
    python benchmarks/pretrained.py --photos FOLDER [--per-class 25 100 500] [--seeds 0 1 2]
        [--studies FOLDER]
Writes results/pretrained.json after each search; runs in the file stay if they are not run again.
The photographs have a folder `train` with a folder for each of ten classes. With --studies, a
stopped run continues; its searches, budgets and images are stored there.

master_small at 32 pixels is trained once on six of the classes. The other four classes are the
task: for each number of images per class and each seed, searches begin with these weights. The two
budgets lie a quarter and a half of the way from the fastest network of the space to the MasterNet.
All networks are scored on the training photographs of the four classes that no search sees.

- `inherited`: the winner of a search whose trials and candidates inherit weights.
- `scratch`: the winner of the same search with `from_scratch`; its MasterNet is fine-tuned, too.
- `scaled`: the MasterNet with all widths scaled by one factor: the fastest such network that is not
  faster than the inherited winner. It inherits the most important channels, and is fine-tuned with
  the MasterNet as teacher, by the recipe of the winner and as long: where the winner continues
  from its weights as a candidate, for the epochs of both trainings.
- `master`: the whole fine-tuned MasterNet.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from conditions import read_result, write_result
from finals import fine_tune
from genets.core.errors import InfeasibleBudgetError
from genets.core.files import write_atomic
from genets.data import load_data
from genets.latency import Target
from genets.nas.master.start import starting_preprocessing
from genets.nas.new_study import complete_settings
from genets.nas.result import SearchResult
from genets.nas.search import run_search
from genets.nas.settings.settings import SearchSettings
from genets.nas.study.reader import StudyReader, is_study, load_settings
from genets.networks import build, load_weights
from genets.structure import zoo
from genets.training import RunSettings, evaluate
from genets.training.recipe import make_recipe, named_recipe
from genets.training.train_network import train_network
from winner import find_rival

NAME = "pretrained"
MASTER = zoo["master_small"].with_resolution(32)
PRETRAINING_CLASSES, TEST_IMAGES, PRETRAINING_EPOCHS = 6, 1500, 20
WAYS = (0.5, 0.25)  # from the fastest network to the MasterNet
METHODS = ("inherited", "scratch", "scaled", "master")
TRAINING_PHASES = (
    "MasterNet training", "trials", "screening", "candidate training", "final training",
)  # fmt: skip
NO_BUDGET = 1e-3  # times the MasterNet's latency; no network meets it


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--per-class", type=int, nargs="+", default=[25, 100, 500])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1, help="of the target")
    parser.add_argument("--studies", type=Path, help="the folder of the studies, which stays")
    options = parser.parse_args()
    if not (options.photos / "train").is_dir():
        raise SystemExit(f"skipped: there are no photographs in {options.photos}/train")
    runs = list((read_result(NAME) or {}).get("runs", []))
    with tempfile.TemporaryDirectory(prefix="genets-pretrained-") as name:
        folder, target = options.studies or Path(name), Target(threads=options.threads)
        classes = sorted(path for path in (options.photos / "train").iterdir() if path.is_dir())
        start = pretrain(folder / "start", classes[:PRETRAINING_CLASSES])
        for per_class in options.per_class:
            for seed in options.seeds:
                data = make_task(
                    folder / f"{per_class}-{seed}", classes[PRETRAINING_CLASSES:], per_class, seed
                )
                done = compare(data, start, seed, target)
                keys = {(run["per_class"], run["seed"]) for run in runs} - {(per_class, seed)}
                runs = [run for run in runs if (run["per_class"], run["seed"]) in keys]
                runs += [{"per_class": per_class, "seed": seed, **run} for run in done]
                write_result(NAME, {"mean": summary(runs), "runs": runs}, target)


def pretrain(folder: Path, classes: Sequence[Path]) -> Path:
    """Train the MasterNet on the classes, and return its results folder."""
    data = folder / "data"
    for path in classes:
        copy(sorted(path.iterdir()), data / "train" / path.name)
    recipe = make_recipe({**named_recipe("quick"), "epochs": PRETRAINING_EPOCHS})
    settings = RunSettings(network=str(MASTER), data=str(data), recipe=recipe)
    result = train_network(settings, folder / "run", device="cpu")
    print(f"pretrained: {result.test}", flush=True)
    return result.results


def make_task(folder: Path, classes: Sequence[Path], per_class: int, seed: int) -> Path:
    """Choose images of each class for training and for the test, which is equal for all seeds."""
    for path in classes:
        files = np.random.default_rng(0).permutation(sorted(path.iterdir())).tolist()
        copy(files[:TEST_IMAGES], folder / "test" / path.name)
        rest = np.random.default_rng(seed).permutation(files[TEST_IMAGES:]).tolist()
        copy(rest[:per_class], folder / "train" / path.name)
    return folder


def copy(files: Sequence[Path], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        if not (folder / file.name).exists():
            shutil.copyfile(file, folder / file.name)


def compare(data: Path, start: Path, seed: int, target: Target) -> list[dict[str, Any]]:
    """Run both searches and the scaled MasterNet for both budgets."""
    folder = data.parent / f"{data.name}-studies"
    given = {"data": str(data), "master": str(start), "seed": seed, "target": target}
    budgets, latency = find_budgets(data.parent / "fastest", given)
    results = {}
    for method in ("inherited", "scratch"):
        out = folder / method
        if is_study(out):
            settings = load_settings(out)
        else:
            shutil.copytree(latency, out / "latency", dirs_exist_ok=True)
            chosen = given | {"budgets": budgets, "from_scratch": method == "scratch"}
            settings = SearchSettings(**complete_settings(chosen, out).values)
        results[method] = run_search(settings, out)
    runs = []
    for way, budget in zip(WAYS, budgets, strict=True):
        row = {"way": way, "budget": budget}
        for method, result in results.items():
            row[method] = of_winner(result.budgets[budget], result)
        inherited = results["inherited"]
        row["scaled"] = of_scaled(inherited, inherited.budgets[budget])
        row["master"] = {"test_top1": inherited.master.top1}
        print({"images": data.name, **row}, flush=True)
        runs.append(row)
    return runs


def find_budgets(folder: Path, given: dict[str, Any]) -> tuple[list[str], Path]:
    """The budgets as multiples of the MasterNet's latency, and the folder of the latency table.

    They do not depend on the images, so all searches share them.
    """
    stored = folder / "budgets.json"
    if stored.exists():
        return json.loads(stored.read_text()), folder / "latency"
    chosen = given | {"budget": f"{NO_BUDGET}x"}
    try:
        run_search(SearchSettings(**complete_settings(chosen, folder).values), folder)
    except InfeasibleBudgetError as error:
        refusal = error
    assert refusal.fastest_ms is not None
    assert refusal.budget_ms is not None
    fastest = NO_BUDGET * refusal.fastest_ms / refusal.budget_ms
    budgets = [f"{fastest + way * (1 - fastest):.3f}x" for way in WAYS]
    write_atomic(stored, json.dumps(budgets))
    return budgets, folder / "latency"


def of_winner(result: SearchResult, whole: SearchResult) -> dict[str, Any]:
    """Score, structure and times of a winner; the times of phases that budgets share count once."""
    seconds = {name: value for name, value in whole.seconds.items()
               if name.split(", ")[0] in TRAINING_PHASES}  # fmt: skip
    return {
        "test_top1": result.winner.top1,
        "structure": str(result.selected.structure),
        "ms_per_image": result.selected.measured_ms,
        "training_seconds": seconds,
    }


def of_scaled(whole: SearchResult, result: SearchResult) -> dict[str, Any]:
    """Fine-tune the scaled MasterNet that is as fast as a winner."""
    settings = load_settings(whole.folder)
    structure = find_rival(result.selected.structure, settings.structure, settings.target)
    data = load_data(
        settings.data, settings.resolution, seed=settings.seed, check=False,
        preprocessing=starting_preprocessing(settings, whole.folder),
    )  # fmt: skip
    master = build(settings.structure, data.num_classes)
    load_weights(master, whole.folder / "master.safetensors")
    began = time.monotonic()
    recipe = StudyReader(whole.folder).recipe("final_training")
    if settings.num_folds == 1:
        assert settings.confirm_epochs is not None
        recipe = replace(recipe, epochs=recipe.epochs + settings.confirm_epochs)
    net = fine_tune(structure, MASTER, master, recipe, settings.seed, data)
    return {
        "test_top1": evaluate(net, data.test).top1,
        "structure": str(structure),
        "training_seconds": time.monotonic() - began,
    }


def summary(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and standard deviation over the seeds, for each number of images and each budget.

    `in_fine_tunings` is the training time of a search in fine-tunings of the MasterNet.
    `times_scratch` is this time divided by that of `--from-scratch`. `ahead_of_scaled` is the lead
    over the scaled MasterNet in top-1. Each has the mean and the value of each seed.
    """
    rows = []
    for per_class, way in sorted({(run["per_class"], run["way"]) for run in runs}):
        chosen = [run for run in runs if (run["per_class"], run["way"]) == (per_class, way)]
        row: dict[str, Any] = {"per_class": per_class, "way": way, "seeds": len(chosen)}
        for method in METHODS:
            values = [run[method]["test_top1"] for run in chosen]
            std = float(np.std(values, ddof=1)) if len(values) > 1 else None
            row[method] = {"mean": float(np.mean(values)), "std": std}
        row["in_fine_tunings"] = _mean_of(
            _seconds(run, "inherited") / run["inherited"]["training_seconds"]["MasterNet training"]
            for run in chosen
        )
        row["ahead_of_scaled"] = _mean_of(
            run["inherited"]["test_top1"] - run["scaled"]["test_top1"] for run in chosen
        )
        row["times_scratch"] = _mean_of(
            _seconds(run, "inherited") / _seconds(run, "scratch") for run in chosen
        )
        rows.append(row)
    return rows


def _seconds(run: dict[str, Any], method: str) -> float:
    """The training time of a search for both budgets."""
    return float(sum(run[method]["training_seconds"].values()))


def _mean_of(values: Iterable[float]) -> dict[str, Any]:
    each = list(values)
    return {"mean": float(np.mean(each)), "each": each}


if __name__ == "__main__":
    main()
