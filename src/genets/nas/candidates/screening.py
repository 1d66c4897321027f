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

from genets.nas.accuracy.model import AccuracyModel
from genets.nas.candidates.runner import CandidateJob
from genets.nas.candidates.training import (
    decide_final_fields,
    make_assembled_job,
    train_structures,
)
from genets.nas.context import SearchContext
from genets.nas.selection.budget_search import BudgetSearch
from genets.nas.settings.final_training import screening_recipe
from genets.nas.study import layout
from genets.nas.study.images import StudyImages
from genets.nas.study.records import TrainedCandidate
from genets.structure import Structure

BATCH = 16  # structures between two fits of the model

FitModel = Callable[[Sequence[TrainedCandidate]], AccuracyModel]


def screen(context: SearchContext, fit: FitModel) -> list[TrainedCandidate]:
    """Screen as many structures as the settings ask for; those that are stored are not repeated.

    Fewer are screened where no further structure is predicted to meet the budget. A structure that
    was screened for another budget takes its score from there. Each score is recorded when its
    training ends. A training that failed is not repeated. After more trials, or for another budget,
    a study chooses structures again, and keeps the stored scores.

    Args:
        context: In the round of the structures.
        fit: Fits the accuracy model of the round to its trials and to some screened structures.

    Returns:
        The structures that the round has screened for all budgets, without failed ones.
    """
    study, number = context.study, context.round.number
    others, count = _done(study.screened_elsewhere(number)), context.settings.screen
    ended = {each.structure: each for each in (*others, *study.screened(number))}
    chosen: list[Structure] = []
    if count:
        with context.phase("screening"):
            while len(chosen) < count:
                known = _done([ended[structure] for structure in chosen])
                batch = _choose(context, fit(known), known, min(BATCH, count - len(chosen)), chosen)
                chosen += batch
                _train_missing(context, chosen, ended)
                if len(batch) < BATCH:
                    break
            context.report("screening")(count, count)
    # The order is that of the notations, and not the one in which the trainings have ended.
    return sorted(_done([*ended.values()]), key=lambda each: str(each.structure))


def _done(screened: Sequence[TrainedCandidate]) -> list[TrainedCandidate]:
    return [each for each in screened if each.status == "done"]


def _choose(
    context: SearchContext,
    model: AccuracyModel,
    known: Sequence[TrainedCandidate],
    count: int,
    tried: Sequence[Structure],
) -> list[Structure]:
    """Choose up to `count` structures to screen, whatever other budgets have screened.

    MasterNets and the candidates of earlier rounds are left out, because they are trained already.
    """
    study, master = context.study, context.round.master
    trained = [each for number in range(1, context.round.number) for each in study.trained(number)]
    search = BudgetSearch(
        context, model, master.resolution, screened=[each.structure for each in known]
    )
    left_out = {*tried, context.master, master, *(each.structure for each in trained)}
    return search.propose_to_screen(count, left_out)


def _train_missing(
    context: SearchContext, chosen: Sequence[Structure], ended: dict[Structure, TrainedCandidate]
) -> None:
    missing, count = [s for s in chosen if s not in ended], context.settings.screen
    report = context.report("screening")
    report(len(chosen) - len(missing), count)
    if not missing:
        _save(context, chosen, ended)
        return
    decide_final_fields(
        context, missing, lambda words: report(len(chosen) - len(missing), count, words)
    )
    for trained in train_structures(context, make_screening_job(context), missing):
        ended[trained.structure] = trained
        _save(context, chosen, ended)
        done = sum(structure in ended for structure in chosen)
        report(done, count, str(trained.structure))


def _save(
    context: SearchContext,
    chosen: Sequence[Structure],
    ended: Mapping[Structure, TrainedCandidate],
) -> None:
    """Store the chosen structures that have ended, and those that were stored before."""
    study, number = context.study, context.round.number
    stored = (each.structure for each in study.screened(number))
    rows = [ended[s].to_json() for s in dict.fromkeys([*chosen, *stored]) if s in ended]
    study.save_json(layout.in_round(number, layout.SCREENED), rows)


def make_screening_job(context: SearchContext) -> CandidateJob:
    """Make the job of assembled structures with a short training."""
    images = context.study.load_json(layout.DATA, StudyImages.from_record)
    assert images is not None
    final = context.study.recipe("final_training")
    recipe = screening_recipe(context.settings, final, images.train)
    return make_assembled_job(context, recipe)
