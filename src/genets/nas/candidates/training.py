"""Candidates are trained as the winner will be, and scored on the validation images.

A linear model of trials holds near the MasterNet only, and the best predicted of many structures
is likely one whose prediction errs upward. So the best few are trained with the final recipe, at
its full length or shorter: from fresh weights, or from inherited ones (see `assembly`). Weights
that are inherited from the MasterNet alone would favour structures that kept their block types;
`docs/search.md` has figures. For an int8 target, each trained candidate is also scored after
quantisation (see `quantised`), and that score decides.
"""

from __future__ import annotations

import copy
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Self

import torch
from torch import nn

from genets.core.errors import GenetsError, TargetError, TrainingError, first_line
from genets.data import ImageData
from genets.data.seeds import derive_seed, seeded_globals
from genets.data.split import Fold
from genets.latency import Target
from genets.nas.candidates.assembly import assemble, needed_trials
from genets.nas.candidates.quantised import score_quantised
from genets.nas.context import SearchContext
from genets.nas.study import layout
from genets.nas.study.records import Candidate, TrainedCandidate, Trial, best_first
from genets.nas.trials.folds import run_in_folds
from genets.nas.trials.run import restore_weights
from genets.nas.trials.runner import MasterNetJob, MasterNetRunner
from genets.nas.trials.weights import TrialWeights
from genets.nas.trials.workers import Runner
from genets.networks import build, load_weights, save_weights
from genets.networks.channels import MasterChannels
from genets.networks.inheritance import inherit
from genets.structure import Structure
from genets.training import Score, evaluate, fitting_threads, train_on
from genets.training.loop import estimate_norm_statistics
from genets.training.score import Metric
from genets.training.teacher import TeacherNetwork


@dataclass(frozen=True, kw_only=True)
class CandidateJob(MasterNetJob):
    """What the training of all candidates shares.

    A candidate that is trained as long as the winner gets the same weights as the winner. The
    weights of a fold are not kept, because the winner is trained on the whole training split.

    Attributes:
        folder: Where the trained weights are written; see `weights_path`.
        source: The MasterNet whose weights are inherited: that of the round. The teacher is that of
            the first round, which is `master`.
        source_weights: The file of its weights.
        trials: The trials of the round that ended well.
        trial_weights: The weights of these trials, which candidates inherit; None where candidates
            are trained from scratch.
        larger: The winner of a larger budget and the file of its weights, from which a candidate
            starts where that is better; None where there is no such winner. Folds have none,
            because it was trained on their images.
        int8_target: The target, if candidates are also scored after quantisation for it.
    """

    folder: Path
    source: Structure
    source_weights: Path
    trials: tuple[Trial, ...] = ()
    trial_weights: TrialWeights | None = None
    larger: tuple[Structure, Path] | None = None
    int8_target: Target | None = None

    @property
    def inherits(self) -> bool:
        return self.trial_weights is not None

    def in_fold(self, fold: Fold) -> Self:
        """See `MasterNetJob.in_fold`."""
        return replace(
            super().in_fold(fold),
            source_weights=layout.in_fold(self.source_weights, fold.number),
            trial_weights=self.trial_weights and self.trial_weights.in_fold(fold),
            larger=None,
        )

    def runner(self, worker: int = 0) -> Runner[Structure, TrainedCandidate]:
        return run_in_folds(self.at_worker(worker), CandidateRunner)

    def weights_path(self, structure: Structure) -> Path:
        return self.folder / f"{derive_seed(str(structure)):016x}.safetensors"


class CandidateRunner(MasterNetRunner):
    """Trains candidates of one study."""

    def __init__(self, job: CandidateJob) -> None:
        super().__init__(job)
        self.job = job
        self._other_data: ImageData | None = None  # at the resolution of the last candidate

    def run(self, group: Sequence[Structure]) -> list[TrainedCandidate]:
        """Train and score each structure.

        A candidate fails whose loss becomes NaN, whose quantisation fails, or for which memory
        runs out. Raises DataError, and GenetsError where weights cannot be written.
        """
        return [self._run(structure) for structure in group]

    def _run(self, structure: Structure) -> TrainedCandidate:
        start = time.perf_counter()
        epochs = self.job.recipe.epochs
        try:
            score = self._trained_score(structure)
        except (TrainingError, TargetError, torch.OutOfMemoryError, MemoryError) as error:
            seconds = time.perf_counter() - start
            reason = first_line(error)
            return TrainedCandidate(structure, "failed", epochs, seconds=seconds, reason=reason)
        seconds = time.perf_counter() - start
        return TrainedCandidate.of(structure, epochs, score, seconds)

    def _trained_score(self, structure: Structure) -> Score:
        job, data = self.job, self._data_at(structure.resolution)
        own = self.data
        teacher = TeacherNetwork(self.master_net, own.resolution, own.mean, own.std, data)
        net = self.start(structure, data)
        with fitting_threads(net, structure.resolution, job.recipe.batch_size):
            train_on(
                net,
                data,
                job.recipe,
                seed=job.seed,
                teacher=teacher.to(job.device),
                device=job.device,
            )
        score = evaluate(net, data.validation, device=job.device)
        if job.int8_target is not None:
            quantised = score_quantised(net, data, data.validation, job.int8_target)
            score = replace(score, quantised=quantised)
        if job.fold is None:
            save_weights(net, job.weights_path(structure), {"structure": str(structure)})
        return score

    def start(self, structure: Structure, data: ImageData) -> nn.Module:
        """Build a candidate with fresh or inherited weights."""
        job = self.job
        with seeded_globals("final", job.seed):
            net = build(structure, data.num_classes)
        if job.trial_weights is None:
            return net
        starts = [net]
        if self.larger_channels is not None:
            starts.append(copy.deepcopy(net))
            inherit(starts[1], structure, self.larger_channels)
        assemble(net, structure, self.source_channels, job.trials, job.trial_weights)
        for start in starts:
            start.to(job.device)
            estimate_norm_statistics(start, data.train, job.recipe, seed=job.seed)
        if len(starts) == 1:
            return net
        return min(
            starts,
            key=lambda start: evaluate(start, data.validation, device=job.device).cross_entropy,
        )

    @cached_property
    def source_channels(self) -> MasterChannels:
        """The channels of the MasterNet of the round."""
        job = self.job
        if job.source == job.master:
            return self.channels
        return self._load_channels(job.source, job.source_weights)

    @cached_property
    def larger_channels(self) -> MasterChannels | None:
        """The channels of the winner of a larger budget, if there is one."""
        return None if self.job.larger is None else self._load_channels(*self.job.larger)

    def _load_channels(self, structure: Structure, weights: Path) -> MasterChannels:
        net = build(structure, self.data.num_classes)
        load_weights(net, weights)
        return MasterChannels(net.eval(), structure)

    def _data_at(self, resolution: int) -> ImageData:
        if resolution == self.data.resolution:
            return self.data
        if self._other_data is None or self._other_data.resolution != resolution:
            self._other_data = None  # its images and its reading processes are released first
            self._other_data = self.load_data(self.job, resolution)
        return self._other_data


def make_candidate_job(context: SearchContext) -> CandidateJob:
    """Make the job with the final recipe, or a shortened one."""
    settings = context.settings
    recipe, epochs = settings.final_training.recipe(), settings.confirm_epochs
    if epochs < recipe.epochs:
        warmup = min(recipe.warmup_epochs, epochs / 2)
        recipe = replace(recipe, epochs=epochs, warmup_epochs=warmup)
    return CandidateJob.in_context(
        context,
        master=context.master,
        master_weights=context.study.master_weights,
        recipe=recipe,
        folder=context.study.confirmed_folder,
        source=context.round.master,
        source_weights=context.round.weights,
        trials=_done_trials(context),
        trial_weights=None if settings.from_scratch else context.trial_weights,
        larger=None if settings.from_scratch else _larger_winner(context),
        int8_target=context.int8_target,
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
    budget_ms = master.budget_ms(context.budget)
    larger = [each for each in winners if each[0].measured_ms > budget_ms]
    if not larger:
        return None
    winner, weights = min(larger, key=lambda each: each[0].measured_ms)
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


def train_candidates(
    context: SearchContext, candidates: Sequence[Candidate]
) -> list[TrainedCandidate]:
    """Train the candidates that no round has trained yet, and give the scores of all.

    Each score is recorded when the training ends. Failed candidates are tried again until one of
    the round is chosen.

    Args:
        context: In the round of the candidates.
        candidates: What was selected.

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
    _copy_master_weights(context)
    if context.int8_target is not None and score.quantised is None:
        reason = f"the quantisation of the MasterNet failed; {layout.LOG} has the reason"
        ended[master] = TrainedCandidate(master, "failed", epochs, reason=reason)
    return [structure for structure in structures if structure != master]


def _copy_master_weights(context: SearchContext) -> None:
    """Store the weights of the MasterNet as those of a candidate."""
    study, job = context.study, make_candidate_job(context)
    with study.files.explained():
        job.folder.mkdir(exist_ok=True)
        shutil.copyfile(study.master_weights, job.weights_path(context.master))


def _train_missing(
    context: SearchContext,
    structures: Sequence[Structure],
    missing: Sequence[Structure],
    ended: dict[Structure, TrainedCandidate],
) -> None:
    report, done = context.report("candidate training"), len(structures) - len(missing)
    report(done, len(structures))
    for trained in _train(context, make_candidate_job(context), missing):
        ended[trained.structure] = trained
        _save(context, structures, ended)
        done += 1
        report(done, len(structures), str(trained.structure))


def _train(
    context: SearchContext, job: CandidateJob, structures: Sequence[Structure]
) -> Iterator[TrainedCandidate]:
    """Train candidates, after the lost trials whose weights they inherit were run again."""
    job.folder.mkdir(exist_ok=True)
    if job.inherits:
        restore_weights(context, needed_trials(structures, job.source, job.trials), in_folds=True)
    groups = [(structure,) for structure in structures]
    yield from context.lab.train_candidates(job, groups, context.workers)


def train_again(context: SearchContext, structure: Structure) -> None:
    """Train a candidate of the round again for its weights alone; its recorded scores stay.

    Raises GenetsError where the training fails.
    """
    job = replace(make_candidate_job(context), int8_target=None)
    if job.inherits and structure == context.master:
        _copy_master_weights(context)
        return
    with context.phase("candidate training"):
        context.report("candidate training")(0, 1)
        (trained,) = _train(context, job, [structure])
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
