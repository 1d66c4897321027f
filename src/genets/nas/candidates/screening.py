"""Screening: many structures are trained for a short time before candidates are selected.

A trial changes one super-block, and the effects of several changes do not simply add up. So
structures that are predicted to meet the budget are assembled as candidates are (see `assembly`),
trained for some tens of steps, and scored. The accuracy model learns from the scores, which order
assembled structures nearly as well as their full trainings do; `docs/search/candidates.md` has
figures.

The structures are chosen in batches, and the model is fitted again after each batch. A batch ends
before the next one is chosen, so the result does not depend on the order in which trainings end.
No structure is measured here: the latency table decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache

from genets.nas.accuracy.model import AccuracyModel
from genets.nas.candidates.runner import CandidateJob
from genets.nas.candidates.training import (
    decide_final_fields,
    make_assembled_job,
    train_structures,
)
from genets.nas.context import SearchContext
from genets.nas.selection.proposals import Proposals
from genets.nas.selection.screening_choice import choose_to_screen
from genets.nas.settings.final_training import screening_recipe
from genets.nas.study import layout
from genets.nas.study.records import Screening, TrainedCandidate
from genets.nas.trials.run import make_trial_job
from genets.nas.trials.runner import MasterNetRunner
from genets.structure import Structure

BATCH = 16  # structures between two fits of the model

FitModel = Callable[[Sequence[TrainedCandidate]], AccuracyModel]


def screen(
    context: SearchContext, fit: FitModel, trained: Sequence[Structure]
) -> list[TrainedCandidate]:
    """Screen as many structures as the settings ask for; those that are stored are not repeated.

    Fewer are screened where too few structures are predicted to meet the budget. The choice is
    stored before the trainings, and each score when its training ends. A training that failed is
    repeated when the search continues. With more trials, or for another budget, a study chooses
    structures again, and keeps the stored scores.

    Args:
        context: In the round of the structures.
        fit: Fits the accuracy model of the round to its trials and to some screened structures.
        trained: Trained candidates that meet the budget.

    Returns:
        The structures that the round has screened for all budgets, without failed ones.
    """
    study, number, count = context.study, context.round.number, context.settings.screen
    stored, others = study.screening(number), study.screenings_elsewhere(number)
    stored_scores = [each for screening in (*others, stored) for each in _done(screening.ended)]
    ended = {each.structure: each for each in stored_scores}
    elsewhere = [ended[s] for other in others for s in other.chosen if s in ended]
    chosen, make_job = list(stored.chosen), cache(lambda: make_screening_job(context))
    if count:
        with context.phase("screening"):
            _train_missing(context, make_job, chosen, ended)
            while (left := count - len(chosen)) > 0:
                known = [*elsewhere, *_done([ended[structure] for structure in chosen])]
                size = min(BATCH, left)
                batch = _choose(context, fit(known), known, trained, size, chosen)
                chosen += batch
                _train_missing(context, make_job, chosen, ended)
                if len(batch) < size:
                    break
            if chosen:
                context.report("screening")(len(chosen), len(chosen))
    # The order is that of the notations, and not the one in which the trainings have ended.
    return sorted(_done([*ended.values()]), key=lambda each: str(each.structure))


def _done(screened: Sequence[TrainedCandidate]) -> list[TrainedCandidate]:
    return [each for each in screened if each.status == "done"]


def _choose(
    context: SearchContext,
    model: AccuracyModel,
    screened: Sequence[TrainedCandidate],
    trained: Sequence[Structure],
    count: int,
    chosen: Sequence[Structure],
) -> list[Structure]:
    """Choose up to `count` structures to screen that were neither screened nor trained before."""
    study, round_ = context.study, context.round
    resolution = round_.master.resolution
    of_resolution = [structure for structure in trained if structure.resolution == resolution]
    structures = [each.structure for each in screened]
    proposals = Proposals(context, model, resolution, of_resolution, structures)
    before = (each.structure for each in study.trained_before(round_.number))
    return choose_to_screen(proposals, count, {*chosen, context.master, round_.master, *before})


def _train_missing(
    context: SearchContext,
    make_job: Callable[[], CandidateJob],
    chosen: Sequence[Structure],
    ended: dict[Structure, TrainedCandidate],
) -> None:
    """Train the chosen structures whose training has not ended, and store the choice before."""
    missing, count = [s for s in chosen if s not in ended], context.settings.screen
    report = context.report("screening")
    report(len(chosen) - len(missing), count)
    _save(context, chosen, ended)
    if not missing:
        return
    decide_final_fields(
        context, missing, lambda words: report(len(chosen) - len(missing), count, words)
    )
    for screened in train_structures(context, make_job(), missing):
        ended[screened.structure] = screened
        _save(context, chosen, ended)
        done = sum(structure in ended for structure in chosen)
        report(done, count, str(screened.structure))


def _save(
    context: SearchContext,
    chosen: Sequence[Structure],
    ended: Mapping[Structure, TrainedCandidate],
) -> None:
    """Store the chosen structures and their scores; those that were stored before stay."""
    study, number = context.study, context.round.number
    before = (each.structure for each in study.screening(number).ended)
    in_order = (ended[s] for s in dict.fromkeys([*chosen, *before]) if s in ended)
    screening = Screening(tuple(chosen), tuple(in_order))
    record = screening.to_json(study.screening_conditions)
    study.save_json(layout.in_round(number, layout.SCREENED), record)


def make_screening_job(context: SearchContext) -> CandidateJob:
    """Make the job of assembled structures with a short training.

    They start from the MasterNet and the trials for each budget, so their scores can be compared.
    """
    final, images = context.study.recipe("final_training"), _count_training_images(context)
    return make_assembled_job(context, screening_recipe(context.settings, final, images))


def _count_training_images(context: SearchContext) -> int:
    """Count the images of a training: in a fold, those of the other folds."""
    job = make_trial_job(context)
    if job.images is not None and job.folds == 1:
        return job.images.train
    fold = MasterNetRunner.load_data(job.each_fold()[0], context.round.master.resolution)
    return len(fold.train)
