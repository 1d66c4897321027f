"""`genets train`: a network, its data and a recipe."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from genets.cli.options import (
    OUTPUT,
    TRAINING,
    WEIGHTS,
    Json,
    MaxBrokenShare,
    WeightsResolution,
    complete_networks,
    given,
    metric_names,
    network_argument,
    option,
    recipe_names,
)
from genets.core.output_folder import check_writable_folder
from genets.latency.target import DEVICES

if TYPE_CHECKING:
    from genets.training import RunResult, RunSettings

MAX_WORD = 60  # characters of a network or data set in the name of a folder


def train(
    network: Annotated[
        str | None,
        network_argument(
            help="Zoo name, timm:NAME, structure file, quoted notation, or a results folder, whose "
            "weights are fine-tuned."
        ),
    ] = None,
    data: Annotated[
        str | None,
        option(
            "Data set: digits, a folder of images, or timm's name of a data set.",
            "none; a new run needs it",
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        option(
            "Recipe to start from. quick: fresh weights and small images, 30 epochs. finetune: "
            "trained weights and few images, 20 epochs, or up to 200 where 20 epochs are less than "
            "500 steps. paper: fresh weights, 480 epochs (section 5). nas: the paper's recipe for "
            "trials of a search, 30 epochs.",
            "finetune for a network with weights, quick for fresh weights",
            TRAINING,
            choices=recipe_names(),
        ),
    ] = None,
    recipe_file: Annotated[
        Path | None,
        option("TOML file of fields of the recipe; options override the file.", "none", TRAINING),
    ] = None,
    changes: Annotated[
        list[str] | None,
        option(
            "Field of the recipe and its value, such as mixup=0.2; may be repeated.",
            "none",
            TRAINING,
            name="--set",
            metavar="FIELD=VALUE",
        ),
    ] = None,
    epochs: Annotated[
        int | None, option("Number of passes over the training images.", "the recipe's", TRAINING)
    ] = None,
    batch_size: Annotated[
        int | None, option("Number of images in a training step.", "the recipe's", TRAINING)
    ] = None,
    learning_rate: Annotated[
        str | None,
        option(
            "Peak learning rate for a batch of 256 images; the rate used is proportional to the "
            "batch size. auto: short trainings with several rates decide it.",
            "the recipe's",
            TRAINING,
            metavar="<float>|auto",
        ),
    ] = None,
    metric: Annotated[
        str | None,
        option(
            "Validation score that decides which epoch is the best one.",
            "balanced_accuracy with class_weights=balanced, otherwise top1",
            TRAINING,
            choices=metric_names(),
        ),
    ] = None,
    pretrained: Annotated[
        bool | None,
        option(
            "Start from published weights, fetched from timm's hub.",
            panel=WEIGHTS,
            name="--pretrained",
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        option(
            "Start from this file of weights: .safetensors or .pth.",
            "fresh weights, or those of the results folder",
            WEIGHTS,
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        option(
            "Network to learn from: a results folder, or a network with published weights.",
            "none",
            WEIGHTS,
            autocompletion=complete_networks,
        ),
    ] = None,
    teacher_weights: Annotated[
        Path | None,
        option(
            "File of the teacher's weights, for a teacher that is not a results folder.",
            "published weights",
            WEIGHTS,
        ),
    ] = None,
    resolution: WeightsResolution = None,
    out: Annotated[
        Path | None,
        option("Folder of the run, new or to be continued.", "runs/NETWORK-DATA", OUTPUT),
    ] = None,
    device: Annotated[
        str,
        option(
            "Device that trains; auto is CUDA where this machine has it.",
            metavar="auto|cpu|cuda|cuda:NUMBER",
            autocompletion=lambda: list(DEVICES),
        ),
    ] = "auto",
    workers: Annotated[
        int | None, option("Number of processes that read images.", "by number of cores", min=0)
    ] = None,
    processes: Annotated[
        int | None, option("Number of processes that share each batch, one for each GPU.", "1")
    ] = None,
    check_data: Annotated[
        bool,
        option(
            "Look for broken images, and for equal images in several splits, before training.",
            name="--check-data",
        ),
    ] = False,
    max_broken_share: MaxBrokenShare = None,
    tensorboard: Annotated[
        bool, option("Write TensorBoard files beside the log.", panel=OUTPUT, name="--tensorboard")
    ] = False,
    seed: Annotated[int | None, option("Random seed of the whole training.", "0")] = None,
    json: Json = False,
) -> None:
    """Train or fine-tune a network, and export it as a results folder.

    You can stop the training at any moment: the same command, or --out alone, continues from the
    last checkpoint. Other settings in the same folder are refused. OUT gets checkpoints, log.jsonl,
    learning curves, and results/, which every command takes as a NETWORK.

    \b
    genets train genet_large --pretrained --data photos/
    genets train master_small --data digits --recipe quick --out runs/small
    genets train timm:resnet18 --data photos/ --recipe paper --teacher runs/big/results
    genets train genet_light --data photos/ --recipe paper --set mixup=0.1 --set epochs=90
    genets train genet_large --data imagenet/ --recipe paper --processes 8
    """
    from genets.training.recipe import parse_changes

    options = given(
        network=network,
        data=data,
        pretrained=pretrained,
        weights=None if weights is None else str(weights),
        teacher=teacher,
        teacher_weights=None if teacher_weights is None else str(teacher_weights),
        resolution=resolution,
        seed=seed,
        metric=metric,
        max_broken_share=max_broken_share,
    )
    fields = given(epochs=epochs, batch_size=batch_size)
    if learning_rate is not None:
        fields |= parse_changes([f"learning_rate={learning_rate}"])
    folder = out or _default_folder(options)
    settings = _merge_settings(options, recipe, recipe_file, changes or [], fields, folder)
    machine = {"device": device, "workers": workers, "processes": processes,
               "check_data": check_data, "tensorboard": tensorboard}  # fmt: skip
    result = run_training(settings, folder, machine, plain=json)
    if result is not None:
        print_training(result, json)


def _merge_settings(
    options: dict[str, Any],
    recipe: str | None,
    file: Path | None,
    changes: list[str],
    fields: dict[str, Any],
    out: Path,
) -> RunSettings:
    """Merge the settings of the run at `out` or of a recipe, of `file`, and of the options."""
    from genets.core.errors import SettingsError
    from genets.training import RunSettings, make_recipe, named_recipe
    from genets.training.recipe import apply_changes, parse_changes, read_recipe_file
    from genets.training.run.folder import is_run, load_settings

    for name in ("weights", "teacher_weights"):
        if name in options and not Path(options[name]).is_file():
            raise SettingsError(f"no weights file {options[name]!r}")
    values = load_settings(out).to_json() if is_run(out) else {}
    stored_recipe = values.pop("recipe", {})
    if _is_folder(options.get("network")):
        values.pop("weights", None)  # the folder has weights of its own
    name = recipe or values.get("recipe_name") or _default_recipe(options)
    base = named_recipe(name) if recipe or not stored_recipe else stored_recipe
    from_file = read_recipe_file(file) if file else {}
    base = apply_changes(base, from_file | parse_changes(changes) | fields)
    values |= options | {"recipe_name": name}
    for needed in ("network", "data"):
        if needed not in values:
            raise SettingsError(f"{needed} must be given, because {out} has no run to continue")
    return RunSettings(**values, recipe=make_recipe(base))


def _default_recipe(options: dict[str, Any]) -> str:
    has_weights = bool(options.get("pretrained")) or "weights" in options
    return "finetune" if has_weights or _is_folder(options.get("network")) else "quick"


def _is_folder(network: str | None) -> bool:
    from genets.networks.folder_name import find_results_folder

    return find_results_folder((network or "").strip()) is not None


def _default_folder(options: dict[str, Any]) -> Path:
    """Return a folder such as `runs/genet_large-photos`."""
    from genets.core.data_name import LOADERS
    from genets.core.errors import SettingsError

    for needed in ("network", "data"):
        if needed not in options:
            raise SettingsError(f"{needed} must be given, or --out with a run to continue")
    network = _folder_word(options["network"], complete_networks())
    return Path("runs") / f"{network}-{_folder_word(options['data'], LOADERS)}"


def _folder_word(text: str, names: Collection[str]) -> str:
    """A network or data set as a part of a folder's name.

    Where another text would give the same word, the word ends in a digest. Such texts are a folder
    that has one of `names`, a folder above the working directory or in the home folder, and a long
    notation.
    """
    path = os.path.normpath(text)
    word = re.sub(r"[^\w.-]+", "_", path).strip("._")
    is_clear = len(word) <= MAX_WORD and not path.startswith(("..", "~"))
    if is_clear and (text == word or word not in names):
        return word
    digest = hashlib.blake2b(path.encode(errors="surrogateescape"), digest_size=3).hexdigest()
    return f"{word[:MAX_WORD]}-{digest}"


def run_training(
    settings: RunSettings, out: Path, machine: dict[str, Any], *, plain: bool
) -> RunResult | None:
    """Train in a folder, and show the progress.

    Args:
        settings: The settings of the run.
        out: The folder.
        machine: Options of `train_network` that do not change the weights.
        plain: Whether progress is shown in lines.

    Returns:
        The result; None in a process that is not the first of several.
    """
    from genets.cli.output import error_console, print_remark
    from genets.cli.progress import TrainingWatch, show_progress
    from genets.training import Listener
    from genets.training.run.distributed import is_first_process
    from genets.training.run.folder import is_run
    from genets.training.train_network import train_network

    check_writable_folder(out)
    first = is_first_process()
    title = f"{settings.network[:60]} on {settings.data}, recipe {settings.recipe_name}"
    lines = plain or not error_console().is_terminal or not first
    watch = TrainingWatch(out, title, print_remark if lines else None)
    try:
        with show_progress(plain=lines) as on_progress:
            result = train_network(
                settings,
                out,
                **machine,
                listener=Listener(
                    progress=on_progress,
                    epoch=watch.epoch,
                    note=lambda note: print_remark(f"note: {note}"),
                ),
            )
    except KeyboardInterrupt:
        if first and is_run(out):
            again = f"genets train --out {shlex.quote(str(out))}"
            print_remark(f"The run is kept. To continue: {again}")
        raise
    finally:
        watch.draw()
    # Asked again: a process learns its rank among several machines only during the training.
    return result if is_first_process() else None


def print_training(result: RunResult, json: bool) -> None:
    """Print the result of a training."""
    from genets.cli.output import print_result
    from genets.report.training import training_table

    where = shlex.quote(str(result.results))
    line = f"weights of epoch {result.epoch} of {result.epochs}: {where}"
    if result.epoch == 0:
        line = f"starting weights, because no epoch had a better validation score: {where}"
    print_result(json, result.to_json(), [training_table(result)], [line])
