"""Screening: many structures are trained for a short time before candidates are selected.

A trial changes one super-block, and the effects of several changes do not simply add up. So
structures that are predicted to meet the budget are assembled as candidates are (see `assembly`),
trained for some tens of steps, and scored. The accuracy model learns from the scores which changes
fit together; `docs/search/candidates.md` shows how well the scores order structures.

The structures are chosen in batches, and the model is fitted again after each batch. A batch ends
before the next one is chosen, so the result does not depend on the order in which trainings end.
The latency table decides which structures may meet the budget. Before the first batch, some
structures near the budget are measured, which corrects the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from genets.nas.accuracy.model import AccuracyModel
from genets.nas.candidates.runner import CandidateJob
from genets.nas.candidates.training import (
    decide_final_fields,
    make_assembled_job,
    train_structures,
)
from genets.nas.context import SearchContext
from genets.nas.selection.proposals import Proposals
from genets.nas.selection.screening_choice import choose_to_screen, measure_near_the_aim
from genets.nas.settings.final_training import screening_recipe
from genets.nas.study import layout
from genets.nas.study.records import Screening, TrainedCandidate
from genets.nas.trials.run import make_trial_job
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
    elsewhere = {s: ended[s] for other in others for s in other.chosen if s in ended}
    screening = _RoundScreening(context, trained, list(stored.chosen), ended, stored.measured)
    if count:
        with context.phase("screening"):
            screening.train_missing()
            while (left := count - len(screening.chosen)) > 0:
                known = _done([*(elsewhere | screening.scores).values()])
                size = min(BATCH, left)
                batch = screening.choose(fit(known), known, size)
                screening.train_missing()
                if len(batch) < size:
                    break
            if chosen := len(screening.chosen):
                context.report("screening")(chosen, chosen)
    # The order is that of the notations, and not the one in which the trainings have ended.
    return sorted(_done([*ended.values()]), key=lambda each: str(each.structure))


def _done(screened: Sequence[TrainedCandidate]) -> list[TrainedCandidate]:
    return [each for each in screened if each.status == "done"]


@dataclass(eq=False)
class _RoundScreening:
    """The screening of a round for a budget; it is stored at each step.

    Attributes:
        context: In the round of the structures.
        trained: Trained candidates that meet the budget.
        chosen: The structures that are chosen so far.
        ended: The scores of structures whose training has ended, also those of other budgets.
        measured: The structures whose latencies correct the table; empty before the first choice.
    """

    context: SearchContext
    trained: Sequence[Structure]
    chosen: list[Structure]
    ended: dict[Structure, TrainedCandidate]
    measured: tuple[Structure, ...]

    @property
    def scores(self) -> dict[Structure, TrainedCandidate]:
        """The chosen structures whose training has ended."""
        return {each: self.ended[each] for each in self.chosen if each in self.ended}

    def choose(
        self, model: AccuracyModel, screened: Sequence[TrainedCandidate], count: int
    ) -> list[Structure]:
        """Choose up to `count` structures that were neither screened nor trained before.

        Before the first choice, structures near the budget are measured.
        """
        context, round_ = self.context, self.context.round
        structures = [each.structure for each in screened]
        if not self._is_corrected:
            measure_near_the_aim(self._proposals(model, structures, context.latency.measured))
            self.measured = tuple(context.latency.measured)
        before = (each.structure for each in context.study.trained_before(round_.number))
        left_out = {*self.chosen, context.master, round_.master, *before}
        proposals = self._proposals(model, structures, self.measured)
        batch = choose_to_screen(proposals, count, left_out)
        self.chosen += batch
        return batch

    @property
    def _is_corrected(self) -> bool:
        """Whether latencies that correct the table are stored; a user may have removed them."""
        stored = self.context.latency.measured
        return any(each in stored for each in self.measured if each != self.context.master)

    def _proposals(
        self, model: AccuracyModel, screened: Sequence[Structure], measured: Iterable[Structure]
    ) -> Proposals:
        resolution = self.context.round.master.resolution
        trained = [each for each in self.trained if each.resolution == resolution]
        return Proposals(self.context, model, resolution, trained, screened, tuple(measured))

    @cached_property
    def _job(self) -> CandidateJob:
        """The job of all batches; it is made after short trainings have decided the recipe."""
        return make_screening_job(self.context)

    def train_missing(self) -> None:
        """Train the chosen structures whose training has not ended; the choice is stored before."""
        context, count = self.context, self.context.settings.screen
        missing = [structure for structure in self.chosen if structure not in self.ended]
        report, done = context.report("screening"), len(self.chosen) - len(missing)
        report(done, count)
        self._save()
        if not missing:
            return
        decide_final_fields(context, missing, lambda words: report(done, count, words))
        for screened in train_structures(context, self._job, missing):
            self.ended[screened.structure] = screened
            self._save()
            done = sum(structure in self.ended for structure in self.chosen)
            report(done, count, str(screened.structure))

    def _save(self) -> None:
        """Store the chosen structures and their scores; scores that were stored before stay."""
        study, number = self.context.study, self.context.round.number
        before = (each.structure for each in study.screening(number).ended)
        in_order = dict.fromkeys([*self.chosen, *before])
        ended = tuple(self.ended[structure] for structure in in_order if structure in self.ended)
        record = Screening(tuple(self.chosen), ended, self.measured)
        name = layout.in_round(number, layout.SCREENED)
        study.save_json(name, record.to_json(study.screening_conditions))


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
    fold = job.each_fold()[0].load_data(context.round.master.resolution)
    return len(fold.train)
