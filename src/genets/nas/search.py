"""The search: its phases in order, each stored in the study when it ends.

A search builds the latency table, trains the MasterNet, runs the rounds (trials, selection and
candidates; see `rounds`), trains the winner, and exports it. With several budgets, everything from
selection to export is done for each budget, the largest first.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar

from genets.core.errors import (
    GenetsError,
    InfeasibleBudgetError,
    StudyError,
    check_type,
)
from genets.core.log import get_logger, log_to_file
from genets.core.progress import OnProgress
from genets.core.resumable import flatten
from genets.data import ImageData
from genets.latency.budget import DEFAULT_WAIT_MINUTES
from genets.nas.checks import check_search
from genets.nas.context import SearchContext
from genets.nas.image_loading import load_images
from genets.nas.laboratory import Laboratory
from genets.nas.latencies.calm import leaves_threads_open, with_idle_threads
from genets.nas.master.start import describe_start
from genets.nas.master.training import train_master
from genets.nas.new_study import complete_settings, settings_at
from genets.nas.result import SearchResult
from genets.nas.rivals.comparison import compare_rivals
from genets.nas.rounds import search_rounds
from genets.nas.selection.fastest import check_feasible
from genets.nas.settings.settings import SearchSettings
from genets.nas.snapshot import Snapshot
from genets.nas.study import layout
from genets.nas.study.images import StudyImages
from genets.nas.study.reader import is_study
from genets.nas.study.study import Study
from genets.nas.warnings import join_warnings, study_warnings
from genets.nas.watch.heartbeat import Heartbeat, check_no_other
from genets.nas.winner import TrainedMaster, finish_winner, load_result
from genets.nas.workers.job import Machines
from genets.nas.workers.local import LocalMachine
from genets.nas.workers.machines import find_machines
from genets.nas.workers.monitor import Monitor
from genets.networks import load_blocks
from genets.structure import Structure

_log = get_logger(__name__)
Output = TypeVar("Output")


def search(
    *,
    out: str | Path,
    preset: str | None = None,
    workers: int | None = None,
    workers_on: str | Machines = "local",
    processes: int | None = None,
    wait_minutes: float = DEFAULT_WAIT_MINUTES,
    on_event: OnProgress | None = None,
    **settings: Any,
) -> SearchResult:
    """Find, train and export the most accurate network whose measured latency meets the budget.

    Args:
        out: The folder of the study. An interrupted study continues, and needs no settings.
        preset: A name of `presets.PRESETS`; the given settings override those of the preset, and
            these override the settings of the study. Without a preset, MasterNet, resolution and
            recipes of a new study follow from its images; see `complete_settings`.
        workers: Processes for trials; by default one for each core, or one to four for each GPU.
        workers_on: Where these processes run: `local` is this machine, `ray` is a Ray cluster that
            is started on this machine, `genets.RayCluster(address=...)` is a running one, and
            `slurm` or `genets.SlurmCluster(partition=...)` are tasks on SLURM. The results are the
            same.
        processes: Processes that train the MasterNet and the winner together, one for each GPU; by
            default one. A continued search may have another number.
        wait_minutes: The longest wait for a calm device. After it, a new search whose target
            leaves the number of threads open uses fewer threads.
        on_event: Called with the progress of each phase. The first one, `reading images`, reads
            every image of a folder once.
        **settings: Fields of `SearchSettings`. A new search needs `data`, and `budget` or
            `budgets`. For a table such as `trial_training`, give a dict of the fields that differ.

    Returns:
        The winner, its scores, its files and the warnings. With several budgets, `budgets` of the
        result has the winner of each, and `refused` names the budgets that no structure meets.

    Raises:
        GenetsError: A setting is wrong, or a phase failed.
        InfeasibleBudgetError: No structure meets the budget, or any of several budgets.
        BusyDeviceError: The device stayed busy, so no measurement could decide on the budget.
    """
    check_type("workers", workers, (int, NoneType), "an integer or None")
    check_type("processes", processes, (int, NoneType), "an integer or None")
    chosen = settings_at(Path(out), preset, settings)
    complete = complete_settings(chosen, out, preset)
    return run_search(
        SearchSettings(**complete.values),
        out,
        reasons=complete.reasons,
        workers=workers,
        workers_on=workers_on,
        processes=processes,
        wait_minutes=wait_minutes,
        open_threads=leaves_threads_open(chosen),
        on_event=on_event,
    )


def signature_with_settings(function: Callable[..., object]) -> inspect.Signature:
    """The signature of a function with the settings by name, for `help` and for editors.

    A setting without a plain default, such as a table, stands with the default None.

    Args:
        function: Takes the settings as its last argument, `**settings`.
    """
    own = inspect.signature(function)
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


search.__signature__ = signature_with_settings(search)  # type: ignore[attr-defined]


def run_search(
    settings: SearchSettings,
    out: str | Path,
    *,
    workers: int | None = None,
    workers_on: str | Machines = "local",
    processes: int | None = None,
    wait_minutes: float = DEFAULT_WAIT_MINUTES,
    open_threads: bool = False,
    reasons: Sequence[str] = (),
    on_reason: Callable[[str], None] | None = None,
    on_stop: Callable[[str], None] | None = None,
    on_event: OnProgress | None = None,
    lab: Laboratory | None = None,
) -> SearchResult:
    """Run a search with complete settings; see `search`.

    Args:
        settings: All settings.
        out: The folder of the study. An interrupted study continues where it stopped.
        workers: Processes for trials; by default one for each core, or one to four for each GPU.
        workers_on: Where these processes run; see `search`. It is no setting of the study, which
            may continue on other machines.
        processes: Processes that train the MasterNet and the winner together; see `search`.
        wait_minutes: The longest wait for a calm device.
        open_threads: Whether a new study may use fewer threads than its target has.
        reasons: Why settings were chosen, line by line, for the log of a new study.
        on_reason: Called with the reason of each setting that is chosen here, after the images are
            read.
        on_stop: Called with a sentence at the first Ctrl-C, which lets the running trials and
            candidates end; a second one stops them. With None, the first Ctrl-C stops the search.
        on_event: Called with the progress of each phase.
        lab: Times and trains networks; by default the real laboratory.
    """
    machines = find_machines(workers_on)
    checked = check_search(
        settings,
        out,
        workers=workers,
        machines=machines,
        processes=processes,
        wait_minutes=wait_minutes,
        on_event=on_event,
    )
    settings, data = checked.settings, checked.data
    for reason in checked.reasons:
        if on_reason is not None:
            on_reason(reason)
    if open_threads and not is_study(Path(out)):
        settings = with_idle_threads(settings, lab or Laboratory(), wait_minutes, on_event)
    with (
        Study.create_or_resume(out, settings, check=check_no_other) as study,
        log_to_file(study.folder / layout.LOG),
        Heartbeat(study, on_event, monitor := Monitor(on_stop, study.add_fault)) as heartbeat,
    ):
        _log_settings(study, [*reasons, *checked.reasons])
        with _failure_stored(study):
            _check_same_data(study, data)
            if settings.has_starting_weights:
                study.save_json(layout.START, describe_start(checked.preprocessing))
            for file in settings.own_blocks:
                with study.files.explained():
                    load_blocks(file).copy_to(study.folder)
            context = SearchContext(
                study, data.num_classes, lab=lab, preprocessing=checked.preprocessing,
                workers=workers, machines=machines, processes=processes, wait_minutes=wait_minutes,
                on_event=heartbeat.step, on_workers=heartbeat.use_workers, monitor=monitor,
            )  # fmt: skip
            if not isinstance(machines, LocalMachine):
                _ = context.workers  # a cluster without room is noticed before any training
            return _search(context, data)


def _log_settings(study: Study, reasons: Sequence[str]) -> None:
    """Log the settings that may change, and in the first run all settings, and the reasons."""
    changeable = ("budget", "budgets", "trials_per_super_block")
    is_first = study.load_json(layout.DATA, dict) is None
    for name, value in flatten(study.settings.to_dict()).items():
        if is_first or name in changeable:
            _log.info("setting %s = %s", name, value)
    for reason in reasons:
        _log.info("%s", reason)


def _search(context: SearchContext, data: ImageData) -> SearchResult:
    refused: dict[str, InfeasibleBudgetError] = {}
    contexts = context.each_budget()
    contexts = [each for each, _ in _each_met(contexts, _check_budget, refused)]
    master = cache(lambda: train_master(context, data))

    def finish(here: SearchContext) -> SearchResult:
        return load_result(here) or _find_winner(here, data, master())

    results = {each.study.budget: result for each, result in _each_met(contexts, finish, refused)}
    if context.settings.budgets:
        _join_results(context, results, refused)  # complete also where the rivals are interrupted
    met = {each.study.budget: each for each in contexts if each.study.budget in results}
    results = compare_rivals(met, results, lambda winner: _load_winner_data(context, winner, data))
    result = next(iter(results.values()))
    if context.settings.budgets:
        result = _join_results(context, results, refused)
    for warning in result.warnings:
        _log.warning("%s", warning)
    return result


def _check_budget(context: SearchContext) -> None:
    """Check that a structure meets the budget, unless the study has a winner for it.

    Raises InfeasibleBudgetError, and StudyError where the latency table is of another machine.
    """
    _ = context.latency
    if context.study.selected() is None:
        check_feasible(context)


def _join_results(
    context: SearchContext,
    results: dict[str, SearchResult],
    refused: dict[str, InfeasibleBudgetError],
) -> SearchResult:
    """Join the results of several budgets, the largest first, and store the joint record."""
    of_budgets = join_warnings({budget: each.warnings for budget, each in results.items()})
    of_study = study_warnings(Snapshot.read(context.study.folder))
    result = replace(
        next(iter(results.values())),
        seconds=context.seconds,
        warnings=(*of_budgets, *of_study),
        screened=context.study.num_screened,
        budgets=results,
        refused={budget: str(error) for budget, error in refused.items()},
    )
    context.study.save_json(layout.RESULT, result.to_record())
    return result


def _each_met(
    contexts: Sequence[SearchContext],
    work: Callable[[SearchContext], Output],
    refused: dict[str, InfeasibleBudgetError],
) -> Iterator[tuple[SearchContext, Output]]:
    """Do some work for each budget; a budget that no structure meets is refused.

    Args:
        contexts: Each at its budget, the largest first.
        work: Raises InfeasibleBudgetError where no structure meets the budget.
        refused: Gets the error of each refused budget.

    Yields:
        The context of each other budget, and the result of the work.

    Raises:
        InfeasibleBudgetError: Every budget is refused.
    """
    for context in contexts:
        study = context.study
        try:
            study.forget_refusal()
            yield context, work(context)
        except InfeasibleBudgetError as error:
            refused[study.budget] = error
            if study.budget:
                _log.warning("budget %s is refused: %s", study.budget, error)
                study.save_refusal(str(error))
    if {context.study.budget for context in contexts} <= set(refused):
        raise refused[contexts[0].study.budget]


def _find_winner(context: SearchContext, data: ImageData, master: TrainedMaster) -> SearchResult:
    selected = search_rounds(context, master.score)
    _log.info("winner: %s, %.4g ms per image", selected.structure, selected.measured_ms)
    return finish_winner(
        context, selected, master, _load_winner_data(context, selected.structure, data)
    )


def _load_winner_data(context: SearchContext, winner: Structure, data: ImageData) -> ImageData:
    """Load the images at the winner's resolution. data: those at the MasterNet's."""
    if winner.resolution == data.resolution:
        return data
    return load_images(
        context.settings, winner.resolution, context.device,
        preprocessing=context.preprocessing, known=data,
    )  # fmt: skip


@contextmanager
def _failure_stored(study: Study) -> Iterator[None]:
    """Store the sentence that a search stops with in the study, for its report."""
    study.forget_failure()
    try:
        yield
    except GenetsError as error:
        if isinstance(error, InfeasibleBudgetError):
            error.args = (
                f"{error}; give a larger budget, which continues this study, or search in another "
                "folder with a smaller MasterNet or a wider width range",
            )
        _log.error("%s", error)
        with suppress(StudyError):  # a full disk must not hide the error
            study.save_failure(str(error))
        raise


def _check_same_data(study: Study, data: ImageData) -> None:
    """Raise StudyError where the images are not those that the study began with.

    Other images would be split differently: the search could score on images that it trained on.
    """
    now = StudyImages.of(data)
    before = study.load_json(layout.DATA, StudyImages.from_record)
    if before is None:
        study.save_json(layout.DATA, now.to_record())
    elif changes := before.changes(now):
        raise StudyError(
            f"the images in {data.name} have changed since study {study.folder} began "
            f"({'; '.join(changes)}); begin another study"
        )
