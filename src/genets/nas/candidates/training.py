"""Candidates are trained as the winner will be, and scored on the validation images.

A linear model of trials holds near the MasterNet only, and the best predicted of many structures
is likely one whose prediction errs upward. So the best few are trained with the final recipe, at
its full length or shorter: from fresh weights, or from inherited ones (see `assembly`). Weights
that are inherited from the MasterNet alone would favour structures that kept their block types;
`docs/search/candidates.md` has figures. For an int8 target, each trained candidate is also scored
after quantisation (see `quantised`), and that score decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import nn

from genets.core.errors import GenetsError, TrainingError
from genets.core.files import write_atomic
from genets.core.log import get_logger
from genets.data import ImageData
from genets.nas.candidates.assembly import needed_trials
from genets.nas.candidates.runner import CandidateJob, CandidateRunner
from genets.nas.context import SearchContext
from genets.nas.settings.final_training import candidate_recipe
from genets.nas.study import layout
from genets.nas.study.records import Candidate, TrainedCandidate, Trial, best_first
from genets.nas.study_recipes import Start, decide_study_recipe
from genets.nas.trials.run import restore_weights
from genets.structure import Structure
from genets.training import RunRecipe
from genets.training.score import Metric

_log = get_logger(__name__)


def make_candidate_job(context: SearchContext) -> CandidateJob:
    """Make the job with the final recipe, or a shortened one."""
    settings = context.settings
    return replace(
        make_assembled_job(
            context, candidate_recipe(settings, context.study.recipe("final_training"))
        ),
        folder=context.study.confirmed_folder,
        larger=None if settings.from_scratch else _larger_winner(context),
        int8_target=context.int8_target,
    )


def make_assembled_job(context: SearchContext, recipe: RunRecipe) -> CandidateJob:
    """Make the job of structures that are assembled from the MasterNet and the trials.

    Their weights are not kept, and no larger winner is another start.
    """
    settings = context.settings
    return CandidateJob.in_context(
        context,
        master=context.master,
        master_weights=context.study.master_weights,
        recipe=recipe,
        folder=None,
        source=context.round.master,
        source_weights=context.round.weights,
        trials=_done_trials(context),
        trial_weights=None if settings.from_scratch else context.trial_weights,
        metric=settings.metric,
    )


def _larger_winner(context: SearchContext) -> tuple[Structure, Path] | None:
    """The fastest trained winner of other budgets that is too slow here, and its weights.

    The MasterNet is left out, because candidates inherit its weights in any case.
    """
    study = context.study
    winners = [
        (winner, other.winner_weights)
        for other in study.each_budget()
        if other.budget != study.budget
        and (winner := other.selected()) is not None
        and winner.structure != context.master
        and other.winner_weights.exists()
    ]
    if not winners:
        return None
    master = context.latency.measure([context.master])[context.master]
    budget, table = context.budget, context.latency.table
    is_own = context.target == context.settings.target.resolved()
    # The machine may have been faster or slower when a winner was measured.
    is_ratio = is_own and budget.is_relative
    limit = budget.amount if is_ratio else master.budget_ms(budget)

    def latency(winner: Candidate) -> float:
        """Measured on the target of the search; on another target, it is predicted."""
        if is_own:
            return winner.measured_ms / (winner.master_ms if is_ratio else 1.0)
        return table.predict_ms_per_image(winner.structure) * master.slowdown(table)

    larger = [each for each in winners if latency(each[0]) > limit]
    if not larger:
        return None
    winner, weights = min(larger, key=lambda each: latency(each[0]))
    return winner.structure, weights


def _done_trials(context: SearchContext) -> tuple[Trial, ...]:
    """The trials of the round whose weights candidates may inherit."""
    if context.settings.from_scratch:
        return ()
    results = context.study.results(context.round.number)
    return tuple(result.trial for result in results if result.status == "done")


def start_candidate(context: SearchContext, structure: Structure, data: ImageData) -> nn.Module:
    """Build a candidate of the round with its inherited weights, before any training."""
    job = make_candidate_job(context)
    restore_weights(context, needed_trials([structure], job.source, job.trials), in_folds=False)
    return CandidateRunner(replace(job, folds=1)).start(structure, data)


def decide_final_fields(
    context: SearchContext, structures: Sequence[Structure], report: Callable[[str], None]
) -> None:
    """Decide the fields of the final recipe that are still `auto`.

    Args:
        context: In the round of the candidates.
        structures: Candidates; the first whose short trainings do not fail decides.
        report: Reports the progress in words.

    Raises:
        TrainingError: The short trainings of all of them failed.
    """
    for structure in structures:
        try:
            decide_study_recipe(context, "final_training", report, _starts(context, structure))
        except TrainingError as error:
            _log.warning("the short trainings of candidate %s failed: %s", structure, error)
            reason = error
        else:
            return
    raise TrainingError(
        f"the short trainings of all {len(structures)} structures failed ({reason}); give the "
        "same command again to retry them, or begin another study with a number as learning_rate "
        "of final_training"
    )


def _starts(context: SearchContext, structure: Structure) -> Iterator[Start]:
    """A candidate before its training, with its images and its teacher, in each fold."""
    job = make_candidate_job(context)
    if job.inherits:
        restore_weights(context, needed_trials([structure], job.source, job.trials), in_folds=True)
    for each in job.each_fold():
        yield CandidateRunner(each).start_training(structure)


def train_candidates(
    context: SearchContext, candidates: Sequence[Candidate]
) -> list[TrainedCandidate]:
    """Train the candidates that no round has trained yet, and give the scores of all.

    Each score is recorded when the training ends. Failed candidates are tried again until one of
    the round is chosen.

    Args:
        context: In the round of the candidates.
        candidates: The selected structures.

    Returns:
        A record of each candidate, in the order of `candidates`.

    Raises:
        GenetsError: All of them failed.
    """
    study, number = context.study, context.round.number
    structures = [candidate.structure for candidate in candidates]
    stored = study.trained(number)
    ended = {each.structure: each for each in (*study.trained_before(number), *stored)}
    retried = not study.is_decided(number)
    others = _take_master(context, structures, ended)
    missing = [s for s in others if s not in ended or (retried and ended[s].status != "done")]
    if missing:
        with context.phase("candidate training"):
            _train_missing(context, structures, missing, ended)
    elif stored != [ended[structure] for structure in structures]:
        # All were trained in earlier rounds, or before the study got more trials.
        _save(context, structures, ended)
    trained = [ended[structure] for structure in structures]
    if all(each.status == "failed" for each in trained):
        raise GenetsError(
            f"the training of all {len(trained)} candidates failed ({trained[0].reason}); "
            "give the same command again to retry it, or begin another study with other "
            "settings of final_training"
        )
    return trained


def _take_master(
    context: SearchContext,
    structures: Sequence[Structure],
    ended: dict[Structure, TrainedCandidate],
) -> list[Structure]:
    """Take a MasterNet that was fine-tuned from trained weights as a candidate, as it is.

    Returns:
        The other candidates.
    """
    study, master = context.study, context.master
    score = study.master_score()
    if context.settings.from_scratch or master not in structures or score is None:
        return list(structures)
    epochs = context.settings.master_training.epochs
    ended[master] = TrainedCandidate.of(master, epochs, score)
    if not make_candidate_job(context).weights_path(master).exists():
        _copy_master_weights(context)
    if context.int8_target is not None and score.quantised is None:
        reason = f"the quantisation of the MasterNet failed; {layout.LOG} has the reason"
        ended[master] = TrainedCandidate(master, "failed", epochs, reason=reason)
    return [structure for structure in structures if structure != master]


def _copy_master_weights(context: SearchContext) -> None:
    """Store the weights of the MasterNet as those of a candidate."""
    study, job = context.study, make_candidate_job(context)
    with study.files.explained():
        study.confirmed_folder.mkdir(exist_ok=True)
        write_atomic(job.weights_path(context.master), study.master_weights.read_bytes())


def _train_missing(
    context: SearchContext,
    structures: Sequence[Structure],
    missing: Sequence[Structure],
    ended: dict[Structure, TrainedCandidate],
) -> None:
    report, done = context.report("candidate training"), len(structures) - len(missing)
    report(done, len(structures))
    decide_final_fields(context, missing, lambda words: report(done, len(structures), words))
    for trained in train_structures(context, make_candidate_job(context), missing):
        ended[trained.structure] = trained
        _save(context, structures, ended)
        done += 1
        report(done, len(structures), str(trained.structure))


def train_structures(
    context: SearchContext, job: CandidateJob, structures: Sequence[Structure]
) -> Iterator[TrainedCandidate]:
    """Train candidates, after the lost trials whose weights they inherit were run again."""
    if job.folder is not None:
        with context.study.files.explained():
            job.folder.mkdir(exist_ok=True)
    if job.inherits:
        restore_weights(context, needed_trials(structures, job.source, job.trials), in_folds=True)
    groups = [(structure,) for structure in structures]
    yield from context.lab.train_candidates(job, groups, context.workers)


def train_again(context: SearchContext, structure: Structure) -> None:
    """Train a candidate of the round again for its weights alone; its recorded scores stay.

    Raises GenetsError where the training fails.
    """
    if not context.settings.from_scratch and structure == context.master:
        _copy_master_weights(context)
        return
    with context.phase("candidate training"):
        report = context.report("candidate training")
        report(0, 1)
        decide_final_fields(context, [structure], lambda words: report(0, 1, words))
        job = replace(make_candidate_job(context), int8_target=None)
        (trained,) = train_structures(context, job, [structure])
    if trained.status == "failed":
        raise GenetsError(
            f"the weights of candidate {structure} are missing or damaged, and its training "
            f"failed: {trained.reason}"
        )


def _save(
    context: SearchContext,
    structures: Sequence[Structure],
    ended: Mapping[Structure, TrainedCandidate],
) -> None:
    rows = [ended[structure].to_json() for structure in structures if structure in ended]
    context.study.save_json(layout.in_round(context.round.number, layout.CONFIRMED), rows)


def best_trained(trained: Sequence[TrainedCandidate], metric: Metric) -> TrainedCandidate:
    """Give the candidate with the best score; of equal ones the first, which is predicted better.

    With an int8 target, the score is that after quantisation. At least one must not have failed.
    """
    return best_first(trained, metric)[0]
