"""The recipe `finetune` on few photographs, against a linear model and a plain AdamW loop.

Run from the repository:
    python benchmarks/finetune.py --photos FOLDER --weights FILE [--per-class 20 200 1000]
Writes results/finetune.json; figures in the file stay if they are not computed again. FOLDER has
`train` and `test`, each with a folder for each class; FILE has trained weights of the network.

For each number of images per class, all methods get the same training images, starting weights and
resolution, and are scored on all test images. genets holds a fifth of the images back, to choose
the epoch; the rivals train on all of them.

- `finetune`: `genets train` with the recipe of this name.
- `linear model`: logistic regression on the features of the network as it starts; the penalty is
  chosen by cross-validation.
- `AdamW loop`: a plain loop of PyTorch, with a rate of 3e-4 and of 3e-3 for the classifier, one
  cycle, random crops of at least 60 % of the image, and flips. The classifier starts with weights
  of PyTorch's initialisation; see `resolve_network`.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegressionCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from conditions import read_result, write_result
from genets.data import Augmentation, ImageData, load_data, seeded_globals
from genets.networks import resolve_network
from genets.networks.source import NetworkSource
from genets.training import RunSettings, evaluate, make_recipe, named_recipe
from genets.training.linear_start import features_of, linear_classifier
from genets.training.recipe import apply_changes
from genets.training.run.inputs import preprocessing_of
from genets.training.train_network import train_network

NAME = "finetune"
BATCH_SIZE, RATE, CLASSIFIER_RATE, CROP = 32, 3e-4, 3e-3, (0.6, 1.0)
PENALTIES = np.logspace(-4, 0, 9)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--network", default="timm:tf_efficientnet_lite0")
    parser.add_argument("--resolution", type=int, default=96)
    parser.add_argument("--per-class", type=int, nargs="+", default=[20, 200, 1000])
    parser.add_argument("--epochs", type=int, nargs="+", default=[6, 20])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--methods", nargs="+", default=[*METHODS], choices=[*METHODS])
    options = parser.parse_args()
    for path in (options.photos, options.weights):
        if not path.exists():
            print(f"skipped: {path} is missing")
            return
    conditions = {"network": options.network, "resolution": options.resolution}
    stored = read_result(NAME)
    is_same = all(stored.get(name) == value for name, value in conditions.items())
    runs = stored.get("runs", {}) if is_same else {}
    for count in options.per_class:
        for seed in options.seeds:
            with tempfile.TemporaryDirectory(prefix="genets-finetune-") as name:
                folder = Path(name)
                choose_photos(options.photos, folder / "photos", count, seed)
                for method in options.methods:
                    for epochs in [0] if method == "linear model" else options.epochs:
                        began = time.perf_counter()
                        top1 = METHODS[method](options, folder, epochs, seed)
                        run = {"test_top1": top1, "seconds": time.perf_counter() - began}
                        runs[f"{method}, {count} per class, {epochs} epochs, seed {seed}"] = run
                        write_result(NAME, {**conditions, "runs": runs})


def choose_photos(source: Path, folder: Path, count: int, seed: int) -> None:
    """Copy `count` training photographs of each class, and all test photographs."""
    for split in ("train", "test"):
        for number, label in enumerate(sorted((source / split).iterdir())):
            (folder / split / label.name).mkdir(parents=True)
            files = sorted(label.iterdir())
            if split == "train":
                drawn = np.random.default_rng([seed, number]).permutation(len(files))[:count]
                files = [files[place] for place in drawn]
            for file in files:
                shutil.copyfile(file, folder / split / label.name / Path(file).name)


def finetune(options: argparse.Namespace, folder: Path, epochs: int, seed: int) -> float:
    settings = RunSettings(
        network=options.network,
        data=str(folder / "photos"),
        recipe=make_recipe(apply_changes(named_recipe("finetune"), {"epochs": epochs})),
        resolution=options.resolution,
        seed=seed,
        weights=str(options.weights),
    )
    return train_network(settings, folder / f"run-{epochs}", device="cpu").test.top1


def start(options: argparse.Namespace, folder: Path, seed: int) -> tuple[NetworkSource, ImageData]:
    """The network with the weights, and all photographs, as its weights expect them."""
    settings = RunSettings(
        network=options.network,
        data=str(folder / "photos"),
        recipe=make_recipe(named_recipe("finetune")),
        weights=str(options.weights),
    )
    data = load_data(
        str(folder / "photos"),
        options.resolution,
        check=False,
        splits=("train", "test"),
        cut_missing=False,
        preprocessing=preprocessing_of(settings),
        augmentation=Augmentation(crop_area=CROP, colour_jitter=0.0),
    )
    source = resolve_network(
        options.network, data.num_classes, weights=options.weights, fit="new classifier", seed=seed
    )
    return source, data


def linear_model(options: argparse.Namespace, folder: Path, epochs: int, seed: int) -> float:
    source, data = start(options, folder, seed)
    train = features_of(source.network, data.train, 100, "cpu")
    test = features_of(source.network, data.test, 100, "cpu")
    assert train is not None
    assert test is not None
    regression = LogisticRegressionCV(
        Cs=PENALTIES, l1_ratios=(0,), scoring="accuracy", max_iter=300, use_legacy_attributes=False
    )
    model = make_pipeline(StandardScaler(), regression)
    model.fit(*(each.numpy() for each in train))
    return float(model.score(*(each.numpy() for each in test)))


def adamw_loop(options: argparse.Namespace, folder: Path, epochs: int, seed: int) -> float:
    source, data = start(options, folder, seed)
    net = source.network.to(memory_format=torch.channels_last)
    classifier = linear_classifier(net)
    assert classifier is not None
    head = [*classifier.parameters()]
    body = [p for p in net.parameters() if all(p is not other for other in head)]
    groups = [{"params": body}, {"params": head}]
    optimizer = torch.optim.AdamW(groups, RATE)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        [RATE, CLASSIFIER_RATE],
        epochs=epochs,
        steps_per_epoch=len(data.train) // BATCH_SIZE,
    )
    with seeded_globals("loop", seed):
        for epoch in range(epochs):
            net.train()
            for images, labels in data.train.batches(BATCH_SIZE, epoch=epoch, seed=seed):
                loss = F.cross_entropy(
                    net(images.contiguous(memory_format=torch.channels_last)), labels
                )
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                optimizer.step()
                cycle.step()
    return evaluate(net, data.test).top1


METHODS: dict[str, Any] = {
    "finetune": finetune,
    "linear model": linear_model,
    "AdamW loop": adamw_loop,
}


if __name__ == "__main__":
    main()
