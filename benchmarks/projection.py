"""The cost of a search on ImageNet, projected in hours of one GPU, against the paper's 1,440.

Run from the repository: python benchmarks/projection.py [--gpu v100 --master genet_normal].
Writes results/projection.json and prints the calculation:

    hours = (MasterNet's epochs + trials * their epochs * cost + candidates * their epochs * cost)
            * images / images per second / 3600

Counted by the package: the trials of a plan for the paper's space, and the cost of one trial per
image. The unit of this cost is one full training step of the MasterNet on that image: forward, and
backward, which counts as twice the forward. In a group of trials the frozen part before their
super-block runs forward once for all of them, and so does the teacher. The new super-block and all
later ones run forward and backward in each trial.
Measured: how well that count agrees with seconds, on digits and this machine (`check`); and how
well so many trials predict, by `search_quality` and `trial_cost` on digits.
Assumed: the GPU's images per second, from published measurements (see SPEEDS and GPUS) unless it is
given; that a trial is as fast per multiply-add as full training; that trials which predict well on
digits after `--trial-epochs` do so on ImageNet, where an epoch has three hundred times the steps;
the paper's 120 epochs for a MasterNet; candidates of the MasterNet's size, trained for a quarter of
these epochs. No network was trained on ImageNet here, and none on a GPU.

`from_pretrained` is a search for several budgets from published weights: the MasterNet is
fine-tuned, a trial learns the feature maps of the MasterNet's super-block for one epoch and is then
scored on the validation images, and the screened structures and the candidates of each budget
inherit weights. A screened structure is trained for one epoch. These structures count as candidates
above, although those of a small budget cost less. The numbers are the defaults of such a search.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from conditions import read_result, write_result
from genets.data import load_data
from genets.nas.settings.settings import SearchSettings
from genets.nas.settings.space import SpaceSettings
from genets.nas.study.records import Trial
from genets.nas.trials.plan import GROUP_SIZE, group_trials, plan_trials
from genets.nas.trials.runner import TrialJob
from genets.networks import build, save_weights
from genets.structure import DesignSpace, Structure, zoo
from genets.structure.cost import input_resolutions, stage_multiply_adds
from genets.structure.space import PAPER_BLOCKS
from genets.training import Recipe, train

VALIDATION_IMAGES = 50_000
TRAINED_IMAGES = 1_281_167 - VALIDATION_IMAGES  # of ImageNet
PAPER_GPU_HOURS = 60 * 24  # of V100, section 5
# Full training of GENets on an RTX 3090: resolution, images per second. Mixed precision, channels
# last, batch 512; no images are read. timm (huggingface/pytorch-image-models),
# results/benchmark-train-amp-nhwc-pt112-cu113-rtx3090.csv: gernet_s, gernet_m, gernet_l.
SPEEDS = {
    "genet_light": (224, 4165.03),
    "genet_normal": (224, 1822.12),
    "genet_large": (256, 1201.09),
}
# Full training of ResNet-50, mixed precision, images per second of one GPU: the RTX 3090 from the
# same file, the others from NVIDIA/DeepLearningExamples, README of PyTorch resnet50v1.5 (V100 16GB
# of a DGX-1, A100 80GB of a DGX A100, images are read). A GENet is assumed to speed up as much as
# ResNet-50 from one GPU to another.
GPUS = {"rtx3090": 1218.01, "v100": 1200.0, "a100": 2470.0}
BACKWARD = 2.0  # times the forward multiply-adds: gradients of inputs and of weights
CANDIDATE = 1 + 1 / (1 + BACKWARD)  # full steps: the MasterNet, and one forward of the teacher
OTHER_EPOCHS = (6, 12, 20, 30)  # of a trial; the paper's are "up to 30"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    defaults = SearchSettings(data="digits", budget="1x", from_scratch=True)
    parser.add_argument("--master", default="genet_large", choices=SPEEDS)
    parser.add_argument("--gpu", default="v100", help=f"{', '.join(GPUS)}, or a GPU of known speed")
    parser.add_argument("--images-per-second", type=float, help="speed of --gpu in full training")
    parser.add_argument("--trials", type=int, default=defaults.trials_per_super_block)
    parser.add_argument("--controls", type=int, default=defaults.controls_per_super_block)
    parser.add_argument("--trial-epochs", type=int, default=defaults.trial_training.epochs)
    parser.add_argument("--master-epochs", type=int, default=120)
    parser.add_argument("--candidates", type=int, default=defaults.confirm)
    parser.add_argument("--candidate-epochs", type=int, default=30)
    parser.add_argument("--fine-tuning-epochs", type=int, default=20,
                        help="of a pretrained MasterNet")  # fmt: skip
    parser.add_argument(
        "--budgets", type=int, default=3, help="of a search from pretrained weights"
    )
    parser.add_argument("--check-epochs", type=int, default=6, help="on digits; 0: no check")
    parser.add_argument("--keep", action=argparse.BooleanOptionalAction, default=True,
                        help="write the results")  # fmt: skip
    options = parser.parse_args()
    if options.gpu not in GPUS and options.images_per_second is None:
        parser.error(f"--gpu {options.gpu} needs --images-per-second; known: {', '.join(GPUS)}")
    figures = projection(options, options.master, options.gpu, options.images_per_second)
    print(describe(figures))
    figures["gpu_hours_of_others"] = {
        gpu: {m: projection(options, m, gpu)["gpu_hours"]["all"] for m in SPEEDS} for gpu in GPUS
    }
    figures["from_pretrained"] = {
        gpu: {m: pretrained_hours(options, m, gpu) for m in SPEEDS} for gpu in GPUS
    }
    if options.check_epochs:
        figures["check"] = check(defaults, options.check_epochs)
    figures["measured_elsewhere"] = measured_elsewhere()
    if options.keep:
        write_result("projection", figures)
    else:
        print(json.dumps(figures, indent=2))


def projection(
    options: argparse.Namespace, name: str, gpu: str, images_per_second: float | None = None
) -> dict[str, Any]:
    speed = images_per_second or assumed_speed(name, gpu)
    master, planned = plan(name, options.trials, options.controls)
    trial = mean_cost(master, group_trials(planned))
    epoch_hours = TRAINED_IMAGES / speed / 3600
    by_epochs = {
        epochs: gpu_hours(options, len(planned), trial, epochs, epoch_hours)
        for epochs in sorted({options.trial_epochs, *OTHER_EPOCHS})
    }
    hours = by_epochs[options.trial_epochs]
    return {
        "gpu": gpu,
        "master": name,
        "resolution": master.resolution,
        "images_per_second": speed,
        "images_per_epoch": TRAINED_IMAGES,
        "hours_per_epoch": epoch_hours,
        "super_blocks": len(master.super_blocks),
        "trials": len(planned),
        "group_size": GROUP_SIZE,
        "trial_over_full_step": trial,
        "separate_trial_over_full_step": mean_cost(master, group_trials(planned, 1)),
        "trial_epochs": options.trial_epochs,
        "master_epochs": options.master_epochs,
        "candidates": options.candidates,
        "candidate_epochs": options.candidate_epochs,
        "gpu_hours": hours,
        "gpu_hours_by_trial_epochs": {str(e): other["all"] for e, other in by_epochs.items()},
        "paper_v100_hours": PAPER_GPU_HOURS,
        "paper_over_ours": PAPER_GPU_HOURS / hours["all"],
    }


def assumed_speed(name: str, gpu: str) -> float:
    """Images per second in full training."""
    return SPEEDS[name][1] * GPUS[gpu] / GPUS["rtx3090"]


def plan(name: str, trials: int, controls: int) -> tuple[Structure, tuple[Trial, ...]]:
    """The MasterNet, and the trials of each super-block of a search in the paper's space."""
    master = zoo[name].with_resolution(SPEEDS[name][0])
    space = DesignSpace(resolutions=()).around(master)
    return master, plan_trials(space, trials, controls, seed=0)


def pretrained_hours(options: argparse.Namespace, name: str, gpu: str) -> dict[str, float]:
    """Hours by phase of a search for several budgets from published weights."""
    space = SpaceSettings(blocks=tuple(map(str, PAPER_BLOCKS)))
    settings = SearchSettings(data="digits", budget="1x", space=space)
    counts = settings.trials_per_super_block, settings.controls_per_super_block
    master, planned = plan(name, *counts)
    image_hours = 1 / assumed_speed(name, gpu) / 3600  # of a full training step
    epoch_hours = TRAINED_IMAGES * image_hours
    costs = [cost for group in group_trials(planned) for cost in feature_costs(master, group)]
    scoring = VALIDATION_IMAGES * image_hours / (1 + BACKWARD)
    candidates = options.budgets * settings.confirm * options.candidate_epochs
    screened = options.budgets * settings.screen  # of one epoch each
    hours = {
        "MasterNet": options.fine_tuning_epochs * epoch_hours,
        "trials": sum(costs) * epoch_hours + len(planned) * scoring,
        "screening": screened * CANDIDATE * epoch_hours,
        "candidates": candidates * CANDIDATE * epoch_hours,
    }
    return hours | {"all": sum(hours.values())}


def feature_costs(master: Structure, group: Sequence[Trial]) -> list[float]:
    """Cost of each trial per image that learns feature maps, in full steps of the MasterNet.

    The part of the MasterNet up to the end of the super-block runs forward once for the group.
    """
    index = group[0].index
    own = stage_costs(master)
    shared = sum(own[: index + 2]) / len(group)
    full = (1 + BACKWARD) * sum(own)
    return [
        (shared + (1 + BACKWARD) * stage_costs(trial.structure(master))[index + 1]) / full
        for trial in group
    ]


def gpu_hours(
    options: argparse.Namespace, trials: int, trial: float, epochs: int, epoch_hours: float
) -> dict[str, float]:
    """Hours by phase."""
    hours = {
        "MasterNet": options.master_epochs * epoch_hours,
        "trials": trials * epochs * trial * epoch_hours,
        "candidates": options.candidates * options.candidate_epochs * CANDIDATE * epoch_hours,
    }
    return hours | {"all": sum(hours.values())}


def mean_cost(master: Structure, groups: Sequence[Sequence[Trial]]) -> float:
    return float(np.mean([cost for group in groups for cost in group_costs(master, group)]))


def group_costs(master: Structure, group: Sequence[Trial]) -> list[float]:
    """Cost of each trial of a group per image, in full training steps of the MasterNet."""
    index = group[0].index
    own = stage_costs(master)
    frozen, teacher = sum(own[: index + 1]), sum(own[index + 1 :])  # the stem comes first
    shared = (frozen + teacher) / len(group)
    full = (1 + BACKWARD) * sum(own)
    return [
        (shared + (1 + BACKWARD) * sum(stage_costs(trial.structure(master))[index + 1 :])) / full
        for trial in group
    ]


def stage_costs(structure: Structure) -> list[int]:
    """Forward multiply-adds of each stage for one image; the classifier is left out."""
    widths = [3, *(stage.width for stage in structure.stages)]
    stages = zip(structure.stages, widths, input_resolutions(structure), strict=False)
    return [stage_multiply_adds(stage, width, side) for stage, width, side in stages]


def describe(figures: dict[str, Any]) -> str:
    f, hours = figures, figures["gpu_hours"]
    by_epochs = f["gpu_hours_by_trial_epochs"].items()
    return "\n".join(
        (
            f"One epoch: {f['images_per_epoch']:,} images / {f['images_per_second']:,.0f} a second "
            f"(assumed: {f['master']} at {f['resolution']} pixels on one {f['gpu']}) / 3600 "
            f"= {f['hours_per_epoch']:.4f} h",
            f"MasterNet: {f['master_epochs']} epochs (assumed) = {hours['MasterNet']:.1f} h",
            f"Trials: {f['trials']} (planned, {f['super_blocks']} super-blocks) "
            f"x {f['trial_epochs']} epochs (assumed to be enough, as on digits) "
            f"x {f['trial_over_full_step']:.3f} full steps (counted, in groups of "
            f"{f['group_size']}; separately {f['separate_trial_over_full_step']:.3f}) "
            f"= {hours['trials']:.1f} h",
            f"Candidates: {f['candidates']} x {f['candidate_epochs']} epochs (assumed), with a "
            f"teacher = {hours['candidates']:.1f} h",
            f"Total: {hours['all']:.0f} hours of one {f['gpu']}, against the paper's "
            f"{f['paper_v100_hours']:,} V100-hours: 1/{f['paper_over_ours']:.1f}",
            "By epochs of a trial: " + ", ".join(f"{n}: {total:.0f} h" for n, total in by_epochs),
        )
    )


def check(settings: SearchSettings, epochs: int) -> dict[str, Any]:
    """Compare the measured with the counted ratio of a trial to full training, on digits.

    The first group of each super-block runs in one process with one thread.
    """
    torch.set_num_threads(1)
    space = settings.space.design_space().around(settings.structure)
    counts = (settings.trials_per_super_block, settings.controls_per_super_block)
    groups = {g[0].index: g for g in reversed(group_trials(plan_trials(space, *counts, seed=0)))}
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "master.safetensors"
        save_weights(build(settings.structure, 10), weights, {})
        recipe = Recipe(epochs=epochs)
        job = TrialJob(
            master=settings.structure,
            master_weights=weights,
            data=settings.data,
            recipe=recipe,
            thaw=settings.trial_training.thaw,
            seed=0,
        )
        runner = job.runner()
        full = full_seconds(settings, recipe)
        measured = {i: [r.seconds / full for r in runner.run(g)] for i, g in groups.items()}
    counted = {index: group_costs(settings.structure, group) for index, group in groups.items()}
    return {
        "trials": sum(map(len, groups.values())),
        "epochs": epochs,
        "full_training_seconds": full,
        "measured_ratio": float(np.mean([*measured.values()])),
        "counted_ratio": float(np.mean([*counted.values()])),
        "by_super_block": {
            str(index + 1): {
                "measured": float(np.mean(measured[index])),
                "counted": float(np.mean(counted[index])),
            }
            for index in sorted(groups)
        },
    }


def full_seconds(settings: SearchSettings, recipe: Recipe) -> float:
    """Seconds to train the whole MasterNet, after one epoch to warm up."""
    data = load_data(settings.data, settings.resolution, seed=0)
    net = build(settings.structure, data.num_classes)
    train(net, data.train, Recipe(epochs=1), seed=0)
    start = time.perf_counter()
    train(net, data.train, recipe, seed=0)
    return time.perf_counter() - start


def measured_elsewhere() -> dict[str, Any]:
    """Results of `search_quality` and `trial_cost` on digits, if these have been run."""
    quality = read_result("search_quality").get("default", {})
    cost = read_result("trial_cost")
    runs = quality.get("runs", [])
    return {
        "trials_on_digits": runs[0]["trials"] if runs else None,
        "correlation_on_digits": quality.get("mean", {}).get("bayes cross_entropy"),
        "trial_cost": {name: cost[name] for name in ("points", "read") if name in cost},
    }


if __name__ == "__main__":
    main()
