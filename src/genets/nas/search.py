"""The search: its phases in order, each stored in the study when it ends.

A search builds the latency table, trains the MasterNet, runs the rounds (trials, selection and
candidates; see `rounds`), trains the winner, and exports it.
"""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any

import torch

from genets.core.errors import (
    GenetsError,
    InfeasibleBudgetError,
    SettingsError,
    StudyError,
    check_type,
)
from genets.core.files import normal_name, write_atomic
from genets.core.gpu import check_one_kind
from genets.core.log import get_logger, log_to_file
from genets.core.progress import OnProgress
from genets.core.resumable import flatten
from genets.data import ImageData, describe_equal_files, load_data
from genets.latency.budget import DEFAULT_WAIT_MINUTES
from genets.nas.calm import check_wait, leaves_threads_open, with_idle_threads
from genets.nas.candidates.export import EXPORTED, OnnxCheck
from genets.nas.candidates.training import make_candidate_job
from genets.nas.context import SearchContext
from genets.nas.laboratory import Laboratory
from genets.nas.result import SearchResult
from genets.nas.rounds import round_results, search_rounds
from genets.nas.selection.fastest import check_feasible
from genets.nas.settings.presets import settings_at
from genets.nas.settings.settings import SearchSettings
from genets.nas.study import layout
from genets.nas.study.class_counts import ClassCounts
from genets.nas.study.reader import is_study
from genets.nas.study.records import Candidate
from genets.nas.study.snapshot import Snapshot
from genets.nas.study.study import Study
from genets.nas.trials.workers import check_memory, training_device
from genets.nas.warnings import list_warnings
from genets.networks import load_blocks, load_weights, save_weights
from genets.structure import Structure
from genets.training import Score
from genets.training.teacher import TeacherNetwork

if TYPE_CHECKING:
    from torch import nn

_log = get_logger(__name__)


def search(
    *,
    out: str | Path,
    preset: str | None = None,
    workers: int | None = None,
    wait_minutes: float = DEFAULT_WAIT_MINUTES,
    on_event: OnProgress | None = None,
    **settings: Any,
) -> SearchResult:
    """Find, train and export the most accurate network whose measured latency meets the budget.

    Args:
        out: The folder of the study. An interrupted study continues, and needs no settings.
        preset: A name of `presets.PRESETS`; the given settings override those of the preset, and
            these override the settings of the study.
        workers: Processes for trials; by default one for each core, or one to four for each GPU.
        wait_minutes: The longest wait for a calm device. After it, a new search whose target
            leaves the number of threads open uses fewer threads.
        on_event: Called with the progress of each phase. The first one, `reading images`, reads
            every image of a folder once.
        **settings: Fields of `SearchSettings`. A new search needs `data` and `budget`. For a
            table such as `trial_training`, give a dict of the fields that differ.

    Returns:
        The winner, its scores, its files and the warnings.

    Raises:
        GenetsError: A setting is wrong, or a phase failed.
        InfeasibleBudgetError: No structure meets the budget.
        BusyDeviceError: The device stayed busy, so no measurement could decide on the budget.
    """
    check_type("workers", workers, (int, NoneType), "an integer or None")
    chosen = settings_at(Path(out), preset, settings)
    return run_search(
        SearchSettings(**chosen),
        out,
        workers=workers,
        wait_minutes=wait_minutes,
        open_threads=leaves_threads_open(chosen),
        on_event=on_event,
    )


def _signature_with_settings() -> inspect.Signature:
    """The signature of `search` with the settings by name, for `help` and for editors.

    A setting without a plain default, such as a table, stands with the default None.
    """
    own = inspect.signature(search)
    *named, _ = own.parameters.values()
    settings = {name: (field.annotation, field.default)
                for name, field in SearchSettings.model_fields.items()}  # fmt: skip
    settings["resolution"] = (int | None, None)
    parameters = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=default if isinstance(default, str | int | float | tuple) else None,
            annotation=kind,
        )
        for name, (kind, default) in settings.items()
    ]
    return own.replace(parameters=[*named, *parameters])


search.__signature__ = _signature_with_settings()  # type: ignore[attr-defined]


def run_search(
    settings: SearchSettings,
    out: str | Path,
    *,
    workers: int | None = None,
    wait_minutes: float = DEFAULT_WAIT_MINUTES,
    open_threads: bool = False,
    on_event: OnProgress | None = None,
    lab: Laboratory | None = None,
) -> SearchResult:
    """Run a search with complete settings; see `search`.

    Args:
        settings: All settings.
        out: The folder of the study. An interrupted study continues where it stopped.
        workers: Processes for trials; by default one for each core, or one to four for each GPU.
        wait_minutes: The longest wait for a calm device.
        open_threads: Whether a new study may use fewer threads than its target has.
        on_event: Called with the progress of each phase.
        lab: Times and trains networks; by default the real laboratory.
    """
    # Checked before the folder is created, so that a wrong name leaves no study behind.
    if workers is not None and workers < 1:
        raise SettingsError(f"workers must be at least 1, not {workers}")
    check_wait(wait_minutes)
    _check_space(settings)
    settings.target.check()
    check_one_kind(torch, settings.target.device)
    device = training_device(settings.training_device)
    check_memory(device)
    data = _load_images(settings, settings.resolution, device, on_event=on_event)
    _check_resolutions(settings)
    if open_threads and not is_study(Path(out)):
        settings = with_idle_threads(settings, lab or Laboratory(), wait_minutes, on_event)
    with Study.create_or_resume(out, settings) as study, log_to_file(study.folder / layout.LOG):
        _log_settings(study)
        with _failure_stored(study):
            _check_same_data(study, data)
            for file in settings.own_blocks:
                load_blocks(file).copy_to(study.folder)
            context = SearchContext(
                study, data.num_classes, lab=lab, workers=workers,
                wait_minutes=wait_minutes, on_event=on_event,
            )  # fmt: skip
            return _search(context, data)


def _load_images(
    settings: SearchSettings,
    resolution: int,
    device: str = "cpu",
    *,
    check: bool = True,
    on_event: OnProgress | None = None,
) -> ImageData:
    """Load the images at a resolution. Raises DataError.

    `check` reads every image once, and warns of equal files in several splits.
    """
    data = load_data(
        settings.data,
        resolution,
        seed=settings.seed,
        device=device,
        check=check,
        on_progress=on_event,
        max_broken_share=settings.max_broken_share,
    )
    equal_files = describe_equal_files(data) if check else ""
    if equal_files:
        warnings.warn(equal_files, stacklevel=3)
    return data


def _log_settings(study: Study) -> None:
    """Log the settings that may change, and in the first run all settings."""
    changeable = ("budget", "trials_per_super_block")
    is_first = study.load_json(layout.DATA, dict) is None
    for name, value in flatten(study.settings.to_dict()).items():
        if is_first or name in changeable:
            _log.info("setting %s = %s", name, value)


def _search(context: SearchContext, data: ImageData) -> SearchResult:
    check_feasible(context)  # builds the latency table
    master_net, master_score = _train_master(context, data)
    selected = search_rounds(context, master_score)
    _log.info("winner: %s, %.4g ms per image", selected.structure, selected.measured_ms)
    winner_data = _load_winner_data(context, selected.structure, data)
    teacher = TeacherNetwork(master_net, data.resolution, data.mean, data.std, winner_data)
    winner_net = _train_winner(context, winner_data, selected.structure, teacher.to(context.device))
    with context.phase("export"):
        report = context.report("export")
        report(0, 1)
        # Here, and only here, on the test split.
        master_test, of_master = context.test(master_net, data.test)
        winner_test, of_winner = context.test(winner_net, winner_data.test)
        counts = ClassCounts.count(data.class_names, of_master, of_winner)
        folder = context.study.folder / layout.RESULTS
        text = json.dumps(counts.to_json())  # on one line, as there may be many thousand numbers
        write_atomic(context.study.folder / f"{layout.TEST}.json", text + "\n")
        onnx = context.lab.export(winner_net, selected.structure, winner_data, folder)
        result = replace(
            _make_result(context, selected, master_score, master_test, winner_test, onnx),
            difference=counts.difference,
        )
        record = result.to_record()
        record["input"] = winner_data.input_contract(selected.structure.resolution)
        record["onnx_largest_difference"] = onnx.largest_difference
        write_atomic(result.files["result"], json.dumps(record, indent=2) + "\n")
        report(1, 1)
    return result


def _train_master(context: SearchContext, data: ImageData) -> tuple[nn.Module, Score]:
    """Train the MasterNet, or load it; give its score on the validation split, too."""
    study = context.study
    net = context.build_network(context.master, "master")
    score = study.master_score()
    if score is not None:
        load_weights(net, study.master_weights)
        return net, score
    with context.phase("MasterNet training"):
        recipe = context.settings.master_training.recipe()
        context.train(net, data, recipe, "MasterNet training")
        score = context.evaluate(net, data.validation)
        _check_learned(score, data.num_classes)
        save_weights(net, study.master_weights, {"structure": str(context.master)})
        study.save_json(layout.MASTER, score.to_json())
    return net, score


def _check_learned(score: Score, num_classes: int) -> None:
    """A MasterNet at chance level has nothing to teach, and trials would mean nothing."""
    chance = 1 / num_classes
    if score.top1 < chance + 0.1 * (1 - chance):
        raise GenetsError(
            f"the MasterNet did not learn: {score.top1:.1%} of the validation images are right, "
            f"where guessing gives {chance:.1%}; check the data, or give it more "
            "epochs, in another study folder"
        )


def _load_winner_data(context: SearchContext, winner: Structure, data: ImageData) -> ImageData:
    """Load the images at the winner's resolution. data: those at the MasterNet's."""
    if winner.resolution == data.resolution:
        return data
    settings = context.settings
    winner_data = _load_images(settings, winner.resolution, context.device, check=False)
    if winner_data.broken and data.broken:
        winner_data.broken.reasons |= data.broken.reasons  # the user has been warned of these
    return winner_data


def _train_winner(
    context: SearchContext, data: ImageData, structure: Structure, teacher: nn.Module
) -> nn.Module:
    """Train the winner from scratch with the MasterNet as its teacher, or load it.

    Where the candidates were trained as long as the winner, its weights exist already.
    """
    path = context.study.winner_weights
    net = context.build_network(structure, "final")
    if path.exists():
        load_weights(net, path)
        return net
    recipe = context.settings.final_training.recipe()
    job = make_candidate_job(context)
    candidate_weights = job.weights_path(structure)
    if job.recipe == recipe and candidate_weights.exists():
        load_weights(net, candidate_weights)
    else:
        with context.phase("final training"):
            context.train(net, data, recipe, "final training", teacher)
    save_weights(net, path, {"structure": str(structure)})
    return net


def _make_result(
    context: SearchContext,
    selected: Candidate,
    master_score: Score,
    master_test: Score,
    winner_test: Score,
    onnx: OnnxCheck,
) -> SearchResult:
    folder = context.study.folder
    rounds = round_results(context, master_score)
    trained = {each.structure: each for result in rounds for each in result.confirmed}
    warnings = list_warnings(Snapshot.read(folder))
    if onnx.failure:
        warnings.append(f"no ONNX file was written: {onnx.failure}")
    for warning in warnings:
        _log.warning("%s", warning)
    files = {name: folder / layout.RESULTS / file for name, file in EXPORTED.items()}
    files = {name: path for name, path in files.items() if name not in onnx.unwritten}
    return SearchResult(
        selected=selected,
        master=master_test,
        winner=winner_test,
        trials_done=sum(result.trials_done for result in rounds),
        trials_failed=sum(result.trials_failed for result in rounds),
        folder=folder,
        files={**files, "result": folder / f"{layout.RESULT}.json"},
        seconds=context.seconds,
        warnings=tuple(warnings),
        confirmed=tuple(trained.values()),
        metric=context.settings.metric,
        rounds=rounds if context.settings.rounds > 1 else (),
    )


def _check_space(settings: SearchSettings) -> None:
    """Raise SettingsError where the space holds no structure besides the MasterNet."""
    space = settings.space.design_space().around(settings.structure)
    if space.size == len(space.resolutions):
        raise SettingsError(
            "the design space holds one structure, the MasterNet's own; give space.blocks more "
            "blocks, or a wider space.width_range, stem_width_range, head_width_range or "
            "depth_change"
        )


def _check_resolutions(settings: SearchSettings) -> None:
    """Raise DataError where the images cannot be loaded at the extreme resolutions."""
    for resolution in {*settings.space.resolutions[:1], *settings.space.resolutions[-1:]}:
        _load_images(settings, resolution, check=False)


def _stored_images(record: Any) -> dict[str, Any]:
    """The stored facts about the images; an older genets stored names as the file system did."""
    return {**record, "class_names": [normal_name(name) for name in record["class_names"]]}


@contextmanager
def _failure_stored(study: Study) -> Iterator[None]:
    """Store the sentence that a search stops with in the study, for its report."""
    study.forget_failure()
    try:
        yield
    except GenetsError as error:
        infeasible = isinstance(error, InfeasibleBudgetError)
        if infeasible:
            error.args = (f"{error}; a larger budget may be given for the same study",)
        _log.error("%s", error)
        with suppress(StudyError):  # a full disk must not hide the error
            study.save_failure(str(error), infeasible=infeasible)
        raise


def _check_same_data(study: Study, data: ImageData) -> None:
    """Raise StudyError where the images are not those that the study began with.

    Other images would be split differently: the search could score on images that it trained on.
    """
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    now = {
        "class_names": list(data.class_names),
        **{name: len(split) for name, split in splits.items()},
        "files": data.fingerprint,
    }
    before = study.load_json(layout.DATA, _stored_images)
    if before is None:
        study.save_json(layout.DATA, now)
        return
    changed = [
        f"{name}: {before.get(name)} then, {value} now"
        for name, value in now.items()
        if before.get(name) != value
    ]
    if changed:
        raise StudyError(
            f"the images in {data.name} have changed since study {study.folder} began "
            f"({'; '.join(changed)}); begin another study"
        )
