"""From settings to a trained network in a folder."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch

from genets.core.errors import GenetsError, TrainingError
from genets.core.host_memory import keep_freed_memory
from genets.data import ImageData
from genets.networks import resolve_network
from genets.structure import Structure
from genets.training.checkpoint import Checkpoints
from genets.training.distributed import Processes
from genets.training.epoch_log import EpochRecord, Listener, TensorBoard, write_log
from genets.training.loop import evaluate
from genets.training.resources import fitting_threads
from genets.training.run import CHECKPOINT_SECONDS, Run
from genets.training.run_folder import (
    BROKEN,
    CHECKPOINTS,
    LOG,
    RESULTS,
    TENSORBOARD,
    RunResult,
    check_images,
    hand_over,
    has_checkpoints,
    open_run,
)
from genets.training.run_inputs import check_all, keep_broken, load_images, run_network
from genets.training.run_settings import RunSettings
from genets.training.score import Score
from genets.training.teacher import load_teacher
from genets.training.trainee import Trainee, scored_tensors


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
    """Train in the folder `out`, from its last checkpoint where there is one.

    On a CPU with the same number of threads and processes a run that was killed and gone on with
    ends with the weights, bit for bit, of one that was left alone.
    device, processes: see `Processes`; several share each batch, and only the first one writes
        and calls the listener. workers: processes that read images, for each of these; None
        chooses.
    check_data: read every image once beforehand, to name broken ones at once.
    tensorboard: write event files beside the log.
    Raises GenetsError.
    """
    team = Processes(device, processes, settings.recipe.precision)
    if team.device.type == "cpu":
        keep_freed_memory()  # every step takes the same again
    outer = listener if listener and team.is_first else Listener()
    notes: list[str] = []

    def note(text: str) -> None:
        notes.append(text)
        outer.note(text)

    out = Path(out).expanduser()
    if settings.resolution is None:
        settings = _at_own_resolution(settings)
    try:
        with ExitStack() as stack:
            team.first(lambda: stack.enter_context(open_run(out, settings)))
            data = load_images(settings, team, workers, note)
            team.first(lambda: check_images(out, data))
            stack.enter_context(keep_broken(data, out / BROKEN, team, outer.note))
            if check_data:
                check_all(data, team, note)
            network, structure = run_network(settings, data, not has_checkpoints(out), note)
            share = settings.recipe.batch_size // team.count
            # Whatever `workers` is, as it may change between a kill and going on.
            threads = fitting_threads(network, data.resolution, share, reading=data.reading)
            stack.enter_context(threads)
            trainee = Trainee(network, settings.recipe, data.num_classes, team)
            checkpoints = Checkpoints(out / CHECKPOINTS, note)
            teacher = None
            if settings.teacher:
                teacher = load_teacher(settings.teacher, data, settings.teacher_weights)
            run = Run(
                trainee,
                data,
                settings.seed,
                checkpoints,
                teacher=teacher.to(team.device) if teacher else None,
                listener=replace(outer, note=note),
                checkpoint_seconds=checkpoint_seconds,
            )
            board = TensorBoard(out / TENSORBOARD) if tensorboard and team.is_first else None
            _train(run, out, board)
            return _handed_over(run, out, structure, settings, notes)
    except GenetsError as error:
        if team.is_first:
            raise
        raise TrainingError(f"process {team.share.number + 1} of {team.count}: {error}") from error


def _train(run: Run, out: Path, board: TensorBoard | None) -> None:
    """To the end, from the last checkpoint; the first process keeps the log."""
    outer = run.listener

    def logged(record: EpochRecord, epochs: int) -> None:
        write_log(out / LOG, run.position.records)
        if board is not None:
            board.epoch(record)
        outer.epoch(record, epochs)

    if run.resume() and run.processes.is_first:
        write_log(out / LOG, run.position.records)
    if board is not None:
        board.go_on_after(run.position.epoch)
    run.listener = replace(outer, epoch=logged if run.processes.is_first else outer.epoch)
    try:
        run.train()
    finally:
        run.listener = outer  # or run and images would stay, in a cycle, and those who read them
        if board is not None:
            board.close()


def _handed_over(
    run: Run, out: Path, structure: Structure | None, settings: RunSettings, notes: list[str]
) -> RunResult:
    data, team, recipe = run.data, run.processes, settings.recipe
    best = _best(run)
    net = run.trainee.net
    test = evaluate(net, data.test, recipe.batch_size, team.device, total=team.sum)
    run.gather_broken()
    result = RunResult(
        results=out / RESULTS,
        network=settings.network,
        data=data.name,
        epoch=best.epoch,
        epochs=len(run.position.records),
        validation=Score(best.top1, best.cross_entropy, best.images),
        test=test,
        notes=(*notes, *_broken_note(data, out)),
    )
    team.first(lambda: hand_over(result, net, structure, data, settings))
    return result


def _best(run: Run) -> EpochRecord:
    """Put the best weights into the run's network; the last ones where those are lost."""
    records, epochs = run.position.records, run.position.best
    assert epochs is not None, "a finished run has a best epoch"
    checkpoint = run.checkpoints.best(epochs)
    if checkpoint is None:
        run.listener.note("the last epoch's weights are handed over")
        epochs = len(records)
    tensors = run.trainee.tensors() if checkpoint is None else checkpoint.tensors
    run.trainee.net.load_state_dict(scored_tensors(tensors))
    return records[epochs - 1]


def _broken_note(data: ImageData, out: Path) -> list[str]:
    count = len(data.broken.reasons) if data.broken else 0
    return [f"{count} images cannot be read and were skipped; see {out / BROKEN}"] if count else []


def _at_own_resolution(settings: RunSettings) -> RunSettings:
    with torch.random.fork_rng():
        return replace(settings, resolution=resolve_network(settings.network, 2).resolution)
