"""From settings to a trained network in a folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from genets.data import LOADERS, ImageData, load_data, seeded_globals
from genets.errors import GenetsError, TrainingError
from genets.networks import NamedNetwork, resolve_network
from genets.networks.faults import what_failed
from genets.structure import Structure
from genets.training.checkpoint import Checkpoints
from genets.training.hand_over import RunResult, hand_over
from genets.training.loop import Score, evaluate
from genets.training.run import CHECKPOINT_SECONDS, Run
from genets.training.run_folder import (
    CHECKPOINTS,
    LOG,
    RESULTS,
    check_images,
    has_checkpoints,
    open_run,
)
from genets.training.run_log import EpochRecord, Listener, write_log
from genets.training.run_recipe import RunRecipe
from genets.training.settings import RunSettings
from genets.training.starting_weights import head_of, start_from
from genets.training.teacher import load_teacher
from genets.training.threads import fitting_threads
from genets.training.trainee import Trainee, scored_tensors


def train_network(
    settings: RunSettings,
    out: str | Path,
    *,
    device: str = "auto",
    workers: int | None = None,
    listener: Listener | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> RunResult:
    """Train in the folder `out`, from its last checkpoint where there is one.

    On a CPU with the same number of threads a run that was killed and gone on with ends with
    the weights, bit for bit, of one that was left alone.
    device: auto, cpu, cuda or cuda:NUMBER. workers: processes that read images, None chooses.
    Raises GenetsError.
    """
    notes: list[str] = []
    outer = listener or Listener()

    def note(text: str) -> None:
        notes.append(text)
        outer.note(text)

    listener = replace(outer, note=note)
    where = training_device(device)
    out = Path(out).expanduser()
    if settings.resolution is None:
        settings = _at_own_resolution(settings)
    with open_run(out, settings):
        data = _images(settings, workers, listener)
        check_images(out, data)
        network, structure = _network(settings, data, not has_checkpoints(out), listener)
        with fitting_threads(network, data.resolution, settings.recipe.batch_size):
            return _trained(
                settings, out, data, network, structure, where, listener, notes, checkpoint_seconds
            )


def _trained(
    settings: RunSettings,
    out: Path,
    data: ImageData,
    network: nn.Module,
    structure: Structure | None,
    device: torch.device,
    listener: Listener,
    notes: list[str],
    checkpoint_seconds: float,
) -> RunResult:
    checkpoints = Checkpoints(out / CHECKPOINTS, listener.note)
    teacher = load_teacher(settings.teacher, data).to(device) if settings.teacher else None

    def logged(record: EpochRecord, epochs: int) -> None:
        write_log(out / LOG, run.position.records)
        listener.epoch(record, epochs)

    run = Run(
        Trainee(network, settings.recipe, data.num_classes, device),
        data,
        settings.seed,
        checkpoints,
        teacher=teacher,
        listener=replace(listener, epoch=logged),
        checkpoint_seconds=checkpoint_seconds,
    )
    if run.resume():
        write_log(out / LOG, run.position.records)
    records = run.train()
    best = _best(run, checkpoints, listener)
    network = run.trainee.net
    test = evaluate(network, data.test, settings.recipe.batch_size, device)
    validation = Score(best.top1, best.cross_entropy, len(data.validation))
    result = RunResult(
        out / RESULTS, settings.network, data.name, best.epoch, len(records), validation, test,
        tuple(notes),
    )  # fmt: skip
    hand_over(result, network, structure, data, settings)
    return result


def _best(run: Run, checkpoints: Checkpoints, listener: Listener) -> EpochRecord:
    """Put the best weights into the run's network; the last ones where those are lost."""
    records, epochs = run.position.records, run.position.best
    assert epochs is not None, "a finished run has a best epoch"
    checkpoint = checkpoints.best(epochs)
    if checkpoint is None:
        listener.note("the last epoch's weights are handed over")
        epochs = len(records)
    tensors = run.trainee.tensors() if checkpoint is None else checkpoint.tensors
    run.trainee.net.load_state_dict(scored_tensors(tensors))
    return records[epochs - 1]


def training_device(name: str) -> torch.device:
    """`auto` is CUDA if there is. Raises TrainingError if this machine has no such device."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise TrainingError(f"device must be auto, cpu, cuda or cuda:NUMBER, not {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise TrainingError(f"this machine has no device {name}")
    return device


def _at_own_resolution(settings: RunSettings) -> RunSettings:
    with torch.random.fork_rng():
        return replace(settings, resolution=resolve_network(settings.network, 2).resolution)


def _images(settings: RunSettings, workers: int | None, listener: Listener) -> ImageData:
    assert settings.resolution is not None
    options: dict[str, Any] = {"augmentation": settings.recipe.augmentation(), "workers": workers}
    if settings.data in LOADERS:  # they draw their images, and augment them while they do
        options = {}
        _tell_what_is_not_used(settings.recipe, settings.data, listener)
    data = load_data(settings.data, settings.resolution, seed=settings.seed, **options)
    if data.skipped:
        listener.note(f"{len(data.skipped)} broken images are left out, {data.skipped[0]} first")
    return data


def _tell_what_is_not_used(recipe: RunRecipe, data: str, listener: Listener) -> None:
    unused = [name for name in ("auto_augment", "erase") if getattr(recipe, name)]
    if unused:
        listener.note(f"{data} has nuisance of its own: {' and '.join(unused)} are not used")


def _network(
    settings: RunSettings, data: ImageData, fresh: bool, listener: Listener
) -> tuple[nn.Module, Structure | None]:
    """The network at the images' resolution. fresh: with its weights to begin with."""
    with seeded_globals("network", settings.seed):
        named = resolve_network(
            settings.network, data.num_classes, pretrained=settings.pretrained and fresh
        )
    structure = named.structure
    if structure is not None:
        structure = structure.with_resolution(data.resolution)
    else:
        _check_resolution(named, data)
    if fresh and settings.weights:
        start_from(named.network, settings.weights, data.num_classes, listener.note)
    if fresh and settings.pretrained:
        _tell_pretrained(named, data, listener)
    return named.network, structure


def _tell_pretrained(named: NamedNetwork, data: ImageData, listener: Listener) -> None:
    config = getattr(named.network, "pretrained_cfg", None) or {}
    classes = config.get("num_classes", data.num_classes)
    if classes != data.num_classes:
        listener.note(
            f"the published weights of {named.name} are of {classes} classes: the head "
            f"({head_of(named.network)}) is made anew for {data.num_classes}"
        )
    for name, own in (("mean", data.mean), ("std", data.std)):
        theirs = tuple(config.get(name, own))
        if theirs != own:
            listener.note(f"{named.name} was trained with {name} {theirs}, {data.name} has {own}")


def _check_resolution(named: NamedNetwork, data: ImageData) -> None:
    """Structures check themselves; other networks are tried. Raises TrainingError."""
    size = data.resolution
    named.network.eval()
    try:
        with torch.no_grad():
            logits = named.network(torch.zeros(1, 3, size, size))
    except (RuntimeError, AssertionError, ValueError) as error:
        if isinstance(error, GenetsError):
            raise
        raise TrainingError(
            f"{named.name} cannot take images of {size} pixels: {what_failed(error)}"
        ) from error
    assert logits.shape == (1, data.num_classes), logits.shape
