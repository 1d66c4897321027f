"""A training run: from settings to a trained network in a folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from genets.core.class_balance import balance_advice
from genets.core.errors import GenetsError, TrainingError
from genets.core.host import keep_freed_memory
from genets.data import ImageData
from genets.networks import resolve_network
from genets.structure import Structure
from genets.training.checkpoints import Checkpoints, find_checkpoints
from genets.training.evaluation import evaluate
from genets.training.recipe import AUTO, lengthened
from genets.training.resources import fitting_threads, usual_precision
from genets.training.run.decided_recipe import decide_recipe
from genets.training.run.distributed import Processes, find_device
from genets.training.run.epoch_log import EpochRecord, Listener, TensorBoard, write_log
from genets.training.run.folder import (
    BROKEN,
    CHECKPOINTS,
    LOG,
    RESULTS,
    TENSORBOARD,
    RunResult,
    check_images,
    has_checkpoints,
    is_run,
    load_settings,
    open_run,
    write_results,
)
from genets.training.run.inputs import check_all, load_images, log_broken, make_network
from genets.training.run.settings import RunSettings
from genets.training.run.state import TrainingState, scored_tensors
from genets.training.run.trainer import CHECKPOINT_SECONDS, Trainer, check_batch_size
from genets.training.score import Metric
from genets.training.step import class_weights_of
from genets.training.teacher import load_teacher
from genets.training.variants import AUTO_FIELDS


def train_network(
    settings: RunSettings,
    out: str | Path,
    *,
    device: str = "auto",
    processes: int | None = None,
    workers: int | None = None,
    check_data: bool = False,
    tensorboard: bool = False,
    listener: Listener | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> RunResult:
    """Train a network in a folder, from the last checkpoint where there is one.

    On a CPU, with the same numbers of threads and processes, a run that was interrupted and
    continued ends with exactly the weights of an uninterrupted run, bit for bit.

    Args:
        settings: The settings of the run.
        out: The folder of the run.
        device: auto, cpu, cuda or cuda:NUMBER.
        processes: The number of processes that share each batch; see `Processes`. Only the first
            one writes files and calls the listener.
        workers: The number of processes that read images, for each of these processes; None
            chooses it.
        check_data: Read every image once before training, to report broken ones first, and equal
            files in several splits.
        tensorboard: Write event files for TensorBoard beside the log.
        listener: Called with progress, epochs and messages.
        checkpoint_seconds: The time between checkpoints within an epoch.

    Returns:
        The results folder with its scores.

    Raises:
        GenetsError: A setting, the data, the folder or the device is wrong, or the training
            fails.
    """
    find_device(device)  # refuses a wrong device before anything else
    out = Path(os.path.expanduser(out))
    board = TensorBoard(out / TENSORBOARD) if tensorboard else None  # refuses a missing package
    settings = _with_stored_fields(settings, out, device)
    group = Processes(device, processes, settings.recipe.precision)
    if group.device.type == "cpu":
        keep_freed_memory()  # every step allocates the same memory again
    outer = listener if listener and group.is_first else Listener()
    notes: list[str] = []

    def note(text: str) -> None:
        notes.append(text)
        outer.note(text)

    reporting = replace(outer, note=note)
    settings = _with_resolution(settings, out, note)
    try:
        with ExitStack() as stack:
            inputs = _load_inputs(settings, out, group, workers, note, stack)
            data, network = inputs.data, inputs.network
            settings = _with_enough_epochs(settings, len(data.train), out, note)
            stack.enter_context(log_broken(data, out / BROKEN, group, outer.note))
            if check_data:
                check_all(data, group, note, outer.progress)
            share = settings.recipe.batch_size // group.count
            # `data.reading` and not `workers`, which may change before a run is continued.
            threads = fitting_threads(network, data.resolution, share, reading=data.reading)
            stack.enter_context(threads)
            teacher = inputs.teacher.to(group.device) if inputs.teacher else None
            recipe = decide_recipe(settings, out, network, data, teacher, group, reporting)
            settings = replace(settings, recipe=recipe)
            trainer = Trainer(
                TrainingState(network, recipe, group, class_weights_of(data.train, recipe)),
                data,
                settings.seed,
                Checkpoints(out / CHECKPOINTS, note, data.weights_metadata()),
                teacher=teacher,
                metric=settings.deciding_metric,
                listener=reporting,
                checkpoint_seconds=checkpoint_seconds,
            )
            _train(trainer, out, board if group.is_first else None)
            return _finish(trainer, out, inputs.structure, settings, notes)
    except GenetsError as error:
        if group.is_first:
            raise
        raise TrainingError(
            f"process {group.share.number + 1} of {group.count}: {error}"
        ) from error


@dataclass(frozen=True)
class _Inputs:
    """The inputs of a run; `structure` is None for a network of another package."""

    data: ImageData
    network: nn.Module
    structure: Structure | None
    teacher: nn.Module | None


def _load_inputs(
    settings: RunSettings,
    out: Path,
    processes: Processes,
    workers: int | None,
    note: Callable[[str], None],
    stack: ExitStack,
) -> _Inputs:
    """Load the inputs, and lock the folder of the run until the stack is closed.

    A wrong input must leave no folder behind, so a new folder is begun after loading.
    """
    is_new = not is_run(out)
    processes.run_on_first(lambda: is_new or stack.enter_context(open_run(out, settings)))
    checkpoints = find_checkpoints(out / CHECKPOINTS)
    data = load_images(settings, processes, workers, note, checkpoints)
    check_batch_size(settings.recipe, data, processes.count)
    cure = _balance_cure(settings)
    if advice := balance_advice(data.train.class_counts(), data.class_names, cure):
        note(advice)
    network, structure = make_network(settings, data, not has_checkpoints(out), note)
    teacher = None
    if settings.teacher:
        teacher = load_teacher(settings.teacher, data, settings.teacher_weights)
    processes.run_on_first(lambda: is_new and stack.enter_context(open_run(out, settings)))
    processes.run_on_first(lambda: check_images(out, data))
    return _Inputs(data, network, structure, teacher)


def _with_stored_fields(settings: RunSettings, out: Path, device: str) -> RunSettings:
    """Replace fields of the recipe that are `auto` by those that the run was begun with.

    So a run keeps its precision on another device. A new run has the precision of its device, and
    decides the other fields when its images are loaded.
    """
    recipe = settings.recipe
    decided: dict[str, Any] = {"precision": usual_precision(device)}
    if is_run(out):
        stored = load_settings(out).recipe
        names = ("precision", *AUTO_FIELDS) if has_checkpoints(out) else ("precision",)
        decided = {name: getattr(stored, name) for name in names}
    decided = {name: value for name, value in decided.items() if getattr(recipe, name) == AUTO}
    return replace(settings, recipe=replace(recipe, **decided))


def _with_resolution(settings: RunSettings, out: Path, note: Callable[[str], None]) -> RunSettings:
    """Take the resolution of the run, of the starting weights or of the network, if none is given.

    A notation has a resolution of its own, which the user may have changed.
    """
    if settings.resolution is not None:
        return settings
    if is_run(out) and has_checkpoints(out):
        return replace(settings, resolution=load_settings(out).resolution)
    source = resolve_network(settings.network, 2, seed=0)
    pixels = source.resolution
    if settings.weights and "@" not in settings.network:
        facts = source.facts_about(pretrained=False, weights=settings.weights)
        pixels = facts.resolution or pixels
    if pixels != source.resolution:
        note(
            f"images of {pixels} pixels, as in the training of the starting weights, in place of "
            f"{source.resolution}; --resolution sets another number"
        )
    return replace(settings, resolution=pixels)


def _with_enough_epochs(
    settings: RunSettings, images: int, out: Path, note: Callable[[str], None]
) -> RunSettings:
    """Replace the epochs of the recipe by more where the images give too few steps."""
    given, recipe = settings.recipe, lengthened(settings.recipe, images)
    if recipe.epochs > given.epochs:
        cure = "" if has_checkpoints(out) else "; --epochs sets another number"
        reason = "because an epoch has few steps"
        note(f"{recipe.epochs} epochs in place of {given.epochs}, {reason}{cure}")
    return replace(settings, recipe=recipe)


def _balance_cure(settings: RunSettings) -> str:
    """The options that make all classes count the same; empty where a setting does so already."""
    is_weighted = settings.recipe.class_weights == "balanced"
    if is_weighted or settings.deciding_metric is Metric.BALANCED_ACCURACY:
        return ""
    return "--set class_weights=balanced, --metric balanced_accuracy, or both"


def _train(trainer: Trainer, out: Path, board: TensorBoard | None) -> None:
    """Train to the end of the recipe; the first process writes the log."""

    def write() -> None:
        if trainer.processes.is_first:
            write_log(out / LOG, trainer.position.records)

    if trainer.resume():
        write()
    if board is not None:
        board.open(trainer.position.epoch)
    try:
        for record in trainer.train():
            write()
            if board is not None:
                board.write(record)
            trainer.listener.epoch(record, trainer.recipe.epochs)
    finally:
        if board is not None:
            board.close()


def _finish(
    trainer: Trainer,
    out: Path,
    structure: Structure | None,
    settings: RunSettings,
    notes: list[str],
) -> RunResult:
    """Score the best weights on the test split, and write the results folder."""
    data, processes, recipe = trainer.data, trainer.processes, settings.recipe
    best = _load_best(trainer)
    net = trainer.state.net
    test = evaluate(net, data.test, recipe.batch_size, processes.device, total=processes.sum)
    trainer.gather_broken()
    broken = len(data.broken.reasons) if data.broken else 0
    if broken:
        notes = [*notes, f"{broken} images cannot be read and were skipped; see {out / BROKEN}"]
    result = RunResult(
        results=out / RESULTS,
        network=settings.network,
        data=data.name,
        epoch=best.epoch,
        epochs=trainer.position.epoch,
        validation=best.score,
        test=test,
        notes=tuple(notes),
    )
    processes.run_on_first(lambda: write_results(result, net, structure, data, settings))
    return result


def _load_best(trainer: Trainer) -> EpochRecord:
    """Load the best weights into the network; the last ones where those are lost."""
    best, last = trainer.position.best_record(), trainer.position.records[-1]
    assert best is not None, "a finished run has a best epoch"
    checkpoint = trainer.checkpoints.best(best.epoch)
    if checkpoint is None:
        trainer.listener.note("the weights of the last epoch are saved instead of the best")
    tensors = trainer.state.tensors() if checkpoint is None else checkpoint.tensors
    trainer.state.net.load_state_dict(scored_tensors(tensors))
    return last if checkpoint is None else best
