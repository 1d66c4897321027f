"""The trials of a round: planned, run, recorded, and run again where their weights are lost."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace

from genets.core.errors import GenetsError, counted
from genets.core.log import get_logger
from genets.nas.context import SearchContext
from genets.nas.study.records import Trial, TrialResult
from genets.nas.trials.gpus import fitting_group_size, least_free_bytes, step_cost
from genets.nas.trials.inherited import InheritedTrialJob
from genets.nas.trials.plan import GROUP_SIZE, group_trials, plan_trials
from genets.nas.trials.runner import TrialJob

_log = get_logger(__name__)


def run_trials(context: SearchContext) -> None:
    """Run the missing trials of the round, and record each when it ends."""
    study, number = context.study, context.round.number
    planned = plan_round(context)
    missing = study.missing(planned, number, retry_failed=not study.is_selected(number))
    if missing:
        with context.phase("trials"):
            _run_missing(context, missing, len(planned))
    if not study.is_selected(number):
        _note_dropped_weights(context)


def plan_round(context: SearchContext) -> tuple[Trial, ...]:
    """Plan the trials of the round."""
    settings = context.settings
    return plan_trials(
        context.round.space,
        settings.trials_per_super_block,
        settings.controls_per_super_block,
        seed=settings.seed,
        sampling=settings.sampling,
        grown_from=context.study.grown_from,
    )


def group_size(context: SearchContext, job: TrialJob | InheritedTrialJob) -> int:
    """The number of trials of one super-block that are trained together."""
    if context.settings.trials == "separate":
        return 1
    if context.device == "cpu":
        return GROUP_SIZE
    return fitting_group_size(
        step_cost(job.master, context.num_classes, job.recipe),
        context.workers.count,
        context.workers.gpus,
        least_free_bytes(context.device),
        GROUP_SIZE,
    )


def make_trial_job(context: SearchContext) -> TrialJob | InheritedTrialJob:
    """Make the job of the trials of the round."""
    training = context.settings.trial_training
    shared = {
        "master": context.round.master,
        "master_weights": context.round.weights,
        "recipe": training.recipe(),
    }
    if context.settings.from_scratch:
        return TrialJob.in_context(context, **shared, thaw=training.thaw)
    kept = context.trial_weights
    return InheritedTrialJob.in_context(context, **shared, steps=training.feature_steps, kept=kept)


def restore_weights(context: SearchContext, trials: Sequence[Trial], *, in_folds: bool) -> None:
    """Run the trials again whose weights are missing or damaged; they end with the same weights.

    Args:
        context: In the round of the trials.
        trials: The trials whose weights are needed.
        in_folds: Whether the weights in each fold are needed, where there are folds; otherwise
            those around the MasterNet of the whole training split.

    Raises:
        GenetsError: A trial fails, or the weights cannot be written.
    """
    job = make_trial_job(context)
    assert isinstance(job, InheritedTrialJob)
    for each in job.each_fold() if in_folds else [replace(job, folds=1)]:
        _restore(context, each, trials)


def _restore(context: SearchContext, job: InheritedTrialJob, trials: Sequence[Trial]) -> None:
    """Restore the weights that a job without folds keeps; see `restore_weights`."""
    kept = job.kept
    lost = [trial for trial in trials if not kept.has(trial)]
    if not lost:
        return
    _log.info("%d trials are run again, because their weights are missing or damaged", len(lost))
    job = replace(job, kept=replace(kept, limit_bytes=sys.maxsize))
    groups = group_trials(lost, group_size(context, job), context.workers.count)
    results = list(context.lab.run_trials(job, groups, context.workers))  # which store the weights
    failed = [result for result in results if result.status == "failed"]
    if failed:
        raise GenetsError(_describe_failure(context, job, failed[0]))
    if not all(kept.has(trial) for trial in trials):
        free = shutil.disk_usage(context.study.folder).free / 1e6
        raise GenetsError(
            f"the weights of trials, which screened structures and candidates need, cannot be "
            f"written to {kept.folder}; the folder must be writable, and its disk has {free:,.0f} "
            "MB free; all results are kept, so make room, and give the same command again"
        )


def _describe_failure(context: SearchContext, job: InheritedTrialJob, result: TrialResult) -> str:
    """The sentence for a trial that ended well, and failed when it ran again for its weights."""
    trial, place = result.trial, ""
    if context.settings.num_folds > 1:
        images = "all training images" if job.fold is None else f"fold {job.fold.number + 1}"
        place = f" around the MasterNet of {images}"
    return (
        f"trial {trial.super_block} of {job.master.stage_name(trial.index)}, whose weights a "
        f"candidate needs, failed{place}: {result.reason}; all results are kept, so give the same "
        "command again to repeat the trial, or begin another study with other settings of "
        "trial_training"
    )


def _note_dropped_weights(context: SearchContext) -> None:
    """Record once that weights of trials were dropped, unless the settings keep none."""
    job = make_trial_job(context)
    if not isinstance(job, InheritedTrialJob) or context.settings.trial_weights_mb == 0:
        return
    results, kept = context.study.results(context.round.number), [j.kept for j in job.each_fold()]
    done = [each.trial for each in results if each.status == "done"]
    dropped = sum(not all(files.path(trial).is_file() for files in kept) for trial in done)
    is_noted = any(fault.kind == "dropped weights" for fault in context.study.faults())
    if dropped and not is_noted:
        limit = f"trial_weights_mb ({context.settings.trial_weights_mb})"
        context.study.add_fault(
            f"{dropped} of {counted(len(done), 'trial')} left no weights on the disk, because "
            f"{limit} was reached, the disk was full or files were removed; a trial whose weights "
            "a candidate needs is run again, with the same result",
            "dropped weights",
        )


def _run_missing(context: SearchContext, missing: Sequence[Trial], planned: int) -> None:
    job = make_trial_job(context)
    report, done = context.report("trials"), planned - len(missing)
    report(done, planned)
    groups = group_trials(missing, group_size(context, job), context.workers.count)
    for result in context.lab.run_trials(job, groups, context.workers):
        context.study.record(result, context.round.number)
        done += 1
        report(done, planned, str(result.trial.super_block))
