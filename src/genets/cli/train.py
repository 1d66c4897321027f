"""`genets train`: a network, its data and a recipe."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genets.cli.options import Json

if TYPE_CHECKING:
    from genets.training import RunSettings


def train(
    network: Annotated[
        str | None, typer.Argument(help="NETWORK, or a results folder to begin with.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="digits, a folder of images, or a timm name.")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="quick, finetune, nas or paper.  [default: finetune with weights, else quick]"
        ),
    ] = None,
    recipe_file: Annotated[
        Path | None, typer.Option(help="TOML file of fields; options override it.")
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="A field of the recipe, as mixup=0.2; may be repeated."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images in a step.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Peak for 256 images in a step; grows with the batch.")
    ] = None,
    pretrained: Annotated[
        bool | None, typer.Option("--pretrained", help="Begin with published weights.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Begin with a file of tensors: .safetensors or .pth.")
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(help="Results folder or NETWORK with published weights, to learn from."),
    ] = None,
    teacher_weights: Annotated[
        Path | None, typer.Option(help="File of the teacher's weights, if it is no folder.")
    ] = None,
    resolution: Annotated[
        int | None, typer.Option(help="Input size in pixels.  [default: the network's own]")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the run, new or to go on with.  [default: in runs/]"),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:NUMBER.")] = "auto",
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that read images.  [default: chosen]")
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(help="Processes that share each batch, one for each GPU.  [default: 1]"),
    ] = None,
    check_data: Annotated[
        bool, typer.Option("--check-data", help="Look for broken images before training.")
    ] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write TensorBoard files beside the log.")
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Seed of everything.  [default: 0]")] = None,
    json: Json = False,
) -> None:
    """Train or fine-tune a network, and hand it over as a results folder.

    Kill it at any moment; the same command, or --out alone, goes on from the last checkpoint.
    Other settings in the same folder are refused. OUT gets checkpoints, log.jsonl, learning
    curves, and results/, which every command takes as a NETWORK.

    \b
    genets train genet_large --pretrained --data photos/
    genets train master_small --data digits --recipe quick --out runs/small
    genets train timm:resnet18 --data photos/ --recipe paper --teacher runs/big/results
    genets train genet_light --data photos/ --recipe paper --set mixup=0.1 --set epochs=90
    genets train genet_large --data imagenet/ --recipe paper --processes 8
    """
    from genets.cli.options import given

    options = given(
        network=network,
        data=data,
        pretrained=pretrained,
        weights=None if weights is None else str(weights),
        teacher=teacher,
        teacher_weights=None if teacher_weights is None else str(teacher_weights),
        resolution=resolution,
        seed=seed,
    )
    fields = given(epochs=epochs, batch_size=batch_size, learning_rate=learning_rate)
    folder = out or _usual_folder(options)
    settings = _settings(options, recipe, recipe_file, changes or [], fields, folder)
    how = {"device": device, "workers": workers, "processes": processes,
           "check_data": check_data, "tensorboard": tensorboard}  # fmt: skip
    _run(settings, folder, how, json)


def _settings(
    options: dict[str, Any],
    recipe: str | None,
    file: Path | None,
    changes: list[str],
    fields: dict[str, Any],
    out: Path,
) -> RunSettings:
    """Those of the run at `out`, or a recipe; under those of `file`; under the others."""
    from genets.core.errors import SettingsError
    from genets.training import RunSettings, make_recipe, named_recipe
    from genets.training.recipe import changed, parse_changes, read_recipe_file
    from genets.training.run_folder import is_run, load_settings

    for name in ("weights", "teacher_weights"):
        if name in options and not Path(options[name]).is_file():
            raise SettingsError(f"no weights file {options[name]!r}")
    values = load_settings(out).to_json() if is_run(out) else {}
    stored_recipe = values.pop("recipe", {})
    if _is_folder(options.get("network")):
        values.pop("weights", None)  # the folder has them
    name = recipe or values.get("recipe_name") or _usual_recipe(options)
    base = named_recipe(name) if recipe or not stored_recipe else stored_recipe
    from_file = read_recipe_file(file) if file else {}
    base = changed(base, from_file | parse_changes(changes) | fields)
    values |= options | {"recipe_name": name}
    for needed in ("network", "data"):
        if needed not in values:
            raise SettingsError(f"{needed} must be given: {out} is no run to go on with")
    return RunSettings(**values, recipe=make_recipe(base))


def _usual_recipe(options: dict[str, Any]) -> str:
    begun = bool(options.get("pretrained")) or "weights" in options
    return "finetune" if begun or _is_folder(options.get("network")) else "quick"


def _is_folder(network: str | None) -> bool:
    return bool(network) and Path(str(network)).is_dir()


def _usual_folder(options: dict[str, Any]) -> Path:
    """Such as `runs/genet_large-photos`."""
    from genets.core.errors import SettingsError

    for needed in ("network", "data"):
        if needed not in options:
            raise SettingsError(f"{needed} must be given, or --out with a run to go on with")
    words = [
        re.sub(r"[^A-Za-z0-9.-]+", "_", options[name]).strip("._")[:60]
        for name in ("network", "data")
    ]
    return Path("runs") / "-".join(words)


def _run(settings: RunSettings, out: Path, how: dict[str, Any], json: bool) -> None:
    """how: what `train_network` takes and no weight depends on."""
    from genets.cli.output import error_console, print_json, print_lines, print_tables
    from genets.cli.progress import TrainingWatch, show_progress
    from genets.report.training import training_table
    from genets.training import Listener
    from genets.training.distributed import is_first_process
    from genets.training.train_network import train_network

    console = error_console()
    first = is_first_process()

    def say(text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)

    title = f"{settings.network[:60]} on {settings.data}, recipe {settings.recipe_name}"
    lines = json or not console.is_terminal or not first
    watch = TrainingWatch(out, title, say if lines else None)
    try:
        with show_progress(plain=lines) as on_event:
            result = train_network(
                settings,
                out,
                **how,
                listener=Listener(
                    progress=(lambda progress: None) if lines else on_event,
                    epoch=watch.epoch,
                    note=lambda note: say(f"note: {note}"),
                ),
            )
    except KeyboardInterrupt:
        if first:
            say(f"The run is kept; to go on: genets train --out {shlex.quote(str(out))}")
        raise
    finally:
        watch.draw()
    if not is_first_process():  # only now is it known where machines were met
        return
    if json:
        print_json(result.to_json())
    else:
        print_tables(training_table(result))
        where = shlex.quote(str(result.results))
        print_lines([f"weights of epoch {result.epoch} of {result.epochs}: {where}"])
