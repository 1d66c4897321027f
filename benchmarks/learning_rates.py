"""The learning rate that short trainings choose, against whole trainings with each rate.

Run from the repository:
    python benchmarks/learning_rates.py --photos FOLDER [--per-class 25 500] [--seeds 0]
        [--studies FOLDER] [--weights FILE] [--network timm:tf_efficientnet_lite0]
        [--resolution 96] [--epochs 10]
Writes results/learning_rates.json; runs in the file stay if they are not run again.

Without --weights, the network is master_small at 32 pixels, trained on six classes of the
photographs, and the task is that of pretrained.py: four other classes. With --weights, the network
has the weights of the file, and the task has all classes; its test images are those of the folder.
The recipe is `finetune`, with the epochs of the preset `photos`, or with those of --epochs where
there are --weights. Short trainings choose a variant, with few validation images in folds. Each of
the variants is trained whole, and scored on the test images. The regret is the distance of the
chosen variant from the best one.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from pathlib import Path
from typing import Any

from torch import nn

from conditions import read_result, write_result
from finetune import choose_photos
from genets.core.image_facts import ImageSizes
from genets.data import ImageData, load_data
from genets.data.folds import in_fold
from genets.nas.settings.from_data import settings_from_data
from genets.networks import resolve_network
from genets.training import RunRecipe, RunSettings, evaluate, fitting_threads, train_on
from genets.training.recipe import apply_changes, make_recipe, named_recipe
from genets.training.run.inputs import preprocessing_of
from genets.training.short_trainings import folds_to_decide, try_variants
from genets.training.variants import best_variant, join_folds
from pretrained import MASTER, PRETRAINING_CLASSES, make_task, pretrain

NAME = "learning_rates"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--per-class", type=int, nargs="+", default=[25, 500])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--studies", type=Path, help="the folder of pretrained.py, which stays")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--network", default="timm:tf_efficientnet_lite0")
    parser.add_argument("--resolution", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=10, help="with --weights")
    options = parser.parse_args()
    if not (options.photos / "train").is_dir():
        raise SystemExit(f"skipped: there are no photographs in {options.photos}/train")
    runs = dict((read_result(NAME) or {}).get("runs", {}))
    with tempfile.TemporaryDirectory(prefix="genets-learning-rates-") as name:
        weights, network = options.weights, options.network
        folder = options.studies if options.studies and weights is None else Path(name)
        classes = sorted(path for path in (options.photos / "train").iterdir() if path.is_dir())
        if weights is None:
            network, weights = (
                str(MASTER),
                Path(
                    pretrain(folder / "start", classes[:PRETRAINING_CLASSES])
                    / "weights.safetensors"
                ),
            )
        for per_class in options.per_class:
            for seed in options.seeds:
                task = folder / f"{per_class}-{seed}"
                if options.weights is None:
                    make_task(task, classes[PRETRAINING_CLASSES:], per_class, seed)
                else:
                    choose_photos(options.photos, task, per_class, seed)
                run = compare(network, weights, task, seed, options)
                runs[f"{network}, {per_class} per class, seed {seed}"] = run
                write_result(NAME, {"runs": runs})


def compare(
    network: str, weights: Path, task: Path, seed: int, options: argparse.Namespace
) -> dict[str, Any]:
    """Choose a variant by short trainings, and train each variant whole."""
    base = {**named_recipe("finetune"), "precision": "fp32"}
    settings = RunSettings(
        network=network, data=str(task), recipe=make_recipe(base), weights=str(weights)
    )
    resolution = MASTER.resolution if options.weights is None else options.resolution
    data = load_data(
        str(task), resolution,
        seed=seed, check=False, preprocessing=preprocessing_of(settings),
    )  # fmt: skip
    epochs = options.epochs
    if options.weights is None:
        epochs = settings_from_data(
            ImageSizes(len(data.train), data.resolution), fine_tuning=True
        ).settings["master_training"]["epochs"]
    recipe = make_recipe(apply_changes(base, {"epochs": epochs}))
    net = resolve_network(
        network, data.num_classes, weights=weights, fit="new classifier", seed=seed
    ).network
    with fitting_threads(net, data.resolution, recipe.batch_size):
        began = time.monotonic()
        folds = folds_to_decide(data, recipe)
        tried = join_folds(
            [try_variants(net, in_fold(data, fold), recipe, seed=seed) for fold in folds]
        )
        seconds = time.monotonic() - began
        rows: list[dict[str, Any]] = []
        for variant in tried:
            began = time.monotonic()
            row: dict[str, Any] = {
                "learning_rate": variant.learning_rate,
                "norm_statistics": variant.norm_statistics,
                "short_cross_entropy": variant.cross_entropy,
                "test_top1": test_top1(net, data, variant.of(recipe), seed),
            }
            rows.append(row | {"seconds": time.monotonic() - began})
            print(network, task.name, rows[-1], flush=True)
    chosen = tried.index(best_variant(tried))
    top1 = [row["test_top1"] for row in rows]
    return {
        "epochs": epochs,
        "folds": len(folds),
        "short_seconds": seconds,
        "chosen": chosen,
        "test_top1": top1[chosen],
        "best_test_top1": max(top1),
        "regret": max(top1) - top1[chosen],
        "variants": rows,
    }


def test_top1(net: nn.Module, data: ImageData, recipe: RunRecipe, seed: int) -> float:
    trained = copy.deepcopy(net)
    train_on(trained, data, recipe, seed=seed)
    return evaluate(trained, data.test).top1


if __name__ == "__main__":
    main()
