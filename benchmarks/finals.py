"""The winners of several methods: equally trained, scored on the test split, measured in turn.

In a search with `from_scratch`, the final training begins with fresh weights, and otherwise with
weights of the MasterNet. The MasterNet is the teacher of both.
"""

from __future__ import annotations

import json
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from timm.models.byobnet import ByobNet

from genets.data import ImageData
from genets.data.seeds import seeded_globals
from genets.latency import measure_interleaved
from genets.nas.settings.settings import SearchSettings
from genets.networks import build
from genets.networks.channels import MasterChannels
from genets.networks.inheritance import inherit
from genets.structure import Structure
from genets.training import Recipe, evaluate, fitting_threads, train_on
from genets.training.loop import estimate_norm_statistics
from genets.training.teacher import TeacherNetwork
from truth import images
from winner import load_teacher, train_and_score

Methods = dict[str, dict[str, Any]]  # figures by method, with its `structure`


def final_scores(
    settings: SearchSettings,
    folder: Path,
    seeds: int,
    methods: Methods,
    pool: Executor,
) -> Methods:
    """Test scores of each method's structure: the mean over the final seeds, and each score.

    The scores are stored in the folder as they end, so a stopped run continues.
    """
    path = folder / "finals.json"
    scores: dict[str, list[float]] = json.loads(path.read_text()) if path.exists() else {}
    keys = {(name, seed): f"{methods[name]['structure']} {seed}"
            for name in methods for seed in range(seeds)}  # fmt: skip
    missing = [key for key in dict.fromkeys(keys.values()) if key not in scores]
    final = partial(full_training, settings, folder)
    for key, score in zip(missing, pool.map(final, missing), strict=True):
        scores[key] = [*score]
        path.write_text(json.dumps(scores, indent=1) + "\n")
    figures: Methods = {}
    for name in methods:
        own = [scores[keys[name, seed]] for seed in range(seeds)]
        top1, cross_entropy = np.transpose(own).tolist()
        figures[name] = {
            "test_top1": float(np.mean(top1)),
            "test_cross_entropy": float(np.mean(cross_entropy)),
            "test_top1_each": top1,
            "test_cross_entropy_each": cross_entropy,
        }
    return figures


def full_training(settings: SearchSettings, folder: Path, key: str) -> tuple[float, float]:
    """Train and score a structure. key: Its notation and the seed, separated by a blank."""
    notation, _, seed = key.rpartition(" ")
    data = images(settings.data, settings.resolution, settings.seed)
    teacher = load_teacher(settings, folder, data.num_classes)
    structure = Structure.parse(notation)
    if settings.from_scratch:
        with_seed = settings.model_copy(update={"seed": int(seed)})
        score = train_and_score(structure, teacher, data, with_seed)
    else:
        recipe = settings.final_training.recipe()
        net = fine_tune(structure, settings.structure, teacher, recipe, int(seed), data)
        score = evaluate(net, data.test)
    return score.top1, score.cross_entropy


def fine_tune(
    structure: Structure,
    master: Structure,
    teacher: ByobNet,
    recipe: Recipe,
    seed: int,
    data: ImageData,
) -> ByobNet:
    """Train a network that inherits weights of the MasterNet.

    teacher: The trained MasterNet.
    """
    teacher.eval()
    with seeded_globals("final", seed):
        net = build(structure, data.num_classes)
    inherit(net, structure, MasterChannels(teacher, master))
    soft_labels = TeacherNetwork(teacher, data.resolution, data.mean, data.std, data)
    with fitting_threads(net, data.resolution, recipe.batch_size):
        estimate_norm_statistics(net, data.train, recipe, seed=seed)
        train_on(net, data, recipe, seed=seed, teacher=soft_labels)
    return net


def final_latencies(settings: SearchSettings, methods: Methods) -> dict[str, dict[str, float]]:
    """Measure all structures in turn with the MasterNet."""
    texts = dict.fromkeys([settings.master, *(m["structure"] for m in methods.values())])
    nets = {text: build(Structure.parse(text), 10) for text in texts}
    measured = measure_interleaved(
        nets, settings.target, settings.resolution, time_limit_s=2 * settings.measure_seconds
    )
    master_ms = measured[settings.master].ms_per_image
    figures = {}
    for name, method in methods.items():
        latency = measured[method["structure"]]
        figures[name] = {
            "ms_per_image": latency.ms_per_image,
            "low_ms_per_image": latency.low_ms_per_image,
            "high_ms_per_image": latency.high_ms_per_image,
            "times_master": latency.ms_per_image / master_ms,
        }
    return figures
