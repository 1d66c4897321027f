"""Estimate: the work of a search, counted from its settings, times the seconds of a probe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean

from genets.analysis.comparison.networks import NetworkSize
from genets.core.errors import GenetsError, counted
from genets.data import ImageData, steps_per_epoch
from genets.data.folds import in_fold
from genets.latency import Budget, Measurement
from genets.latency.predictor.builder import CALIBRATION_NETWORKS
from genets.latency.predictor.items import choose_items, choose_probe_batch_size
from genets.latency.predictor.preparation import preparing_weights
from genets.latency.predictor.table import HELD_OUT_NETWORKS
from genets.latency.predictor.transfer import MAX_NETWORKS
from genets.latency.timing.drift import MAX_ROUNDS, MIN_ROUNDS
from genets.nas.candidates.screening import BATCH
from genets.nas.candidates.training import make_candidate_job
from genets.nas.context import SearchContext
from genets.nas.phase_names import RIVALS, phase_name, phase_of
from genets.nas.plan.probe import ProbeTimes, TrainingTime
from genets.nas.rivals.contender import Rival
from genets.nas.selection.proposals import max_networks
from genets.nas.settings.final_training import (
    candidates_at_each,
    keeps_candidates,
    num_trained_candidates,
    screening_recipe,
)
from genets.nas.settings.rival_names import expand_rivals
from genets.nas.trials.plan import group_trials
from genets.nas.trials.run import group_size, make_trial_job, plan_round
from genets.nas.workers.local_process import IS_FORKED
from genets.structure import Structure
from genets.structure.cost import multiply_adds
from genets.training import Recipe, RunRecipe, with_all_fields
from genets.training.short_trainings import folds_to_decide, steps_of_variants
from genets.training.variants import is_decided, variants_of

USUAL_ATTEMPTS = 2  # of a selection, as in searches of the digits demo
VISIT_S = 0.03  # of a small network, while a latency table is timed
CHOICE_S = 2.0  # of a batch to screen, by a fit of the accuracy model
START_S = 5.0  # until the processes of the workers have imported PyTorch
NUM_NEAR = 8  # networks that are measured before structures are screened, in two attempts
RESTART_S = 1.0 if IS_FORKED else START_S  # until they have loaded small images again
MAX_MULTIPLE = 4.0  # of the MasterNet's latency; a larger budget leaves the space its largest
RIVAL_COPIES = 11  # two exports, and three checkpoints of weights and two moments
# Weights, their average and two moments, of a checkpoint and of the one that replaces it.
CHECKPOINT_COPIES = 8
OTHER_BYTES = 2_000_000  # tables, database and log; the digits demo writes 0.2 MB of them

# The phases that train by the recipe of candidates and winner, in their order.
OF_FINAL_RECIPE = ("screening", "candidate training", "final training")

NameOf = Callable[[str], str]  # the name of a phase in a round, or for a budget


@dataclass(frozen=True, kw_only=True)
class PlannedPhase:
    """A phase of a search that has not begun.

    Attributes:
        phase: The name, as in `SearchResult.seconds`.
        work: The work in a few words.
        seconds: The estimated time.
        basis: The source of the estimate.
        count: The number of MasterNets, trials, screened structures, candidates, winners or rivals
            to train.
        folds: The number of folds in which each trial, screened structure or candidate is trained;
            1 is none.
        epochs, steps: Of each training; None where nothing is trained.
    """

    phase: str
    work: str
    seconds: float
    basis: str
    count: int = 0
    folds: int = 1
    epochs: int | None = None
    steps: int | None = None


class Estimate:
    """The phases and the disk space of a new search.

    Args:
        context: Of a study that has the files of the probe and no results.
        data: The images at the MasterNet's resolution.
        times: The times of the probe.
        processes: The number of processes that train the MasterNet and the winner together.
    """

    def __init__(
        self, context: SearchContext, data: ImageData, times: ProbeTimes, processes: int = 1
    ) -> None:
        self._context, self._data, self._times = context, data, times
        self._settings = settings = context.settings
        self._folds, self._trials = settings.num_folds, plan_round(context)
        has_workers = context.workers.count > 1
        self._start_s, self._restart_s = has_workers * START_S, has_workers * RESTART_S
        self._processes, self._team_start_s = processes, START_S if processes > 1 else 0.0
        self._in_folds = f" in each of {self._folds} folds" if self._folds > 1 else ""
        self._top = candidates_at_each(settings.confirm, len(context.space.resolutions))
        self._candidates = num_trained_candidates(settings)
        # Images to train on and to score: of the usual splits, and of trials and candidates.
        self._usual = self._scored = len(data.train), len(data.validation)
        if self._folds > 1:
            fold = make_trial_job(context).each_fold()[0].load_data(data.resolution)
            self._scored = len(fold.train), len(fold.validation)

        self._rivals = list(self._find_rivals())

    def phases(self) -> list[PlannedPhase]:
        """The phases in the order in which a search runs them."""
        settings, master_ms = self._settings, self._times.measured.ms_per_image
        multiples = {budget: Budget.parse(budget).ms_per_image(master_ms) / master_ms
                     for budget in settings.all_budgets}  # fmt: skip
        largest_first = sorted(multiples, key=multiples.__getitem__, reverse=True)
        phases = [self._table(), self._master(), self._trial_phase()]
        for budget in largest_first:
            multiple = min(MAX_MULTIPLE, multiples[budget])
            of_budget = partial(phase_name, budget=budget if settings.budgets else "")
            phases += self._candidate_phases(of_budget, multiple)
            for later in range(2, settings.rounds + 1):
                phases.append(self._trial_phase(later))
                phases += self._candidate_phases(partial(phase_name, round_number=later), multiple)
            phases += self._winner_phases(of_budget, multiple)
        phases = self._with_deciding(phases, min(MAX_MULTIPLE, multiples[largest_first[0]]))
        return [*phases, self._rival_phase()] if self._rivals else phases

    def _with_deciding(self, phases: list[PlannedPhase], multiple: float) -> list[PlannedPhase]:
        """Add the short trainings of candidates and winner, which the first such phase runs.

        multiple: Of the largest budget.
        """
        final = [each for each in phases if phase_of(each.phase) in OF_FINAL_RECIPE]
        is_winner = phase_of(final[0].phase) == "final training"
        times, recipe = self._times, self._settings.final_training.recipe()
        taught = (times.winner if is_winner else times.candidate).taught(multiple, recipe)
        seconds = self._folds * _deciding_s(recipe, taught, *self._scored)
        first = replace(final[0], seconds=final[0].seconds + seconds)
        return [first if each is final[0] else each for each in phases]

    def disk_bytes(self) -> dict[str, int]:
        """The largest size of the files of the study, by kind, from the files of the probe.

        Candidates are taken to be as large as the MasterNet. Those of folds are not kept.
        """
        study, settings, kept = self._context.study, self._settings, self._context.trial_weights
        sizes = [path.stat().st_size for path in kept.folder.glob("*.safetensors")]
        trials = len(self._trials) * self._folds * round(fmean(sizes or [0]))
        budgets, master = len(settings.all_budgets), study.master_weights.stat().st_size
        exported = sum(path.stat().st_size for path in study.results_folder.iterdir())
        candidates = self._candidates * settings.rounds * budgets if self._folds == 1 else 0
        return {
            "MasterNet": master * (1 if self._folds == 1 else 1 + self._folds),
            # Screened structures need the weights of nearly all trials, whatever the limit.
            "trials": settings.rounds
            * (trials if settings.screen else min(kept.limit_bytes, trials)),
            "candidates": master * candidates,
            "checkpoints": master
            * CHECKPOINT_COPIES
            * max(1, min(self._context.workers.count, candidates)),
            "winner": budgets * (master + exported),
            "rivals": sum(4 * RIVAL_COPIES * size.parameters for _, size in self._rivals),
            "other": OTHER_BYTES,
        }

    def _table(self) -> PlannedPhase:
        """Networks and pieces are prepared, and timed in several rounds.

        Where a table is made from that of a faster engine, the pieces run on that engine alone.
        """
        times, engine = self._times, self._context.target.engine
        work, prepare_s, timing_s, basis = self._timed_space(times.source or times.measured)
        if times.source is not None:
            networks = min(MAX_NETWORKS, self._context.space.size)
            work += f" on {times.source.target.engine}, and {networks} networks on {engine}"
            own_s = networks * sum(times.measured.seconds.values())
            basis += f", and {own_s:.0f} s on {engine}"
            prepare_s += own_s
            timing_s += self._rounds_s(networks, 0, times.measured)
        return PlannedPhase(
            phase="latency table",
            work=work,
            seconds=prepare_s + timing_s + times.measure_s,
            basis=f"{basis}; timing {timing_s:.0f} s",
        )

    def _timed_space(self, measured: Measurement) -> tuple[str, float, float, str]:
        """The work of timing all pieces, the seconds of preparing and timing, and their basis.

        measured: The MasterNet on the target of the table.
        """
        context, batch_size = self._context, self._context.target.batch_size
        size = choose_probe_batch_size(measured.ms_per_batch / 1000, batch_size)
        number, is_smaller = CALIBRATION_NETWORKS + HELD_OUT_NETWORKS, size < batch_size
        items = choose_items(context.space, number, self._settings.seed, lightest=is_smaller)
        sized = [(item, batch_size if isinstance(item, Structure) else size) for item in items]
        weights = preparing_weights(sized, measured.target)
        share = sum(weights.values()) / weights[context.master]
        networks = sum(isinstance(item, Structure) for item in items)
        pieces = len(items) - networks
        timing_s = self._rounds_s(networks, pieces, measured)
        prepare_s = share * sum(measured.seconds.values())
        work = f"{networks} networks and {pieces} pieces"
        return work, prepare_s, timing_s, f"preparing {prepare_s:.0f} s, as {share:.0f} MasterNets"

    def _rounds_s(self, networks: int, pieces: int, measured: Measurement) -> float:
        """The seconds of timing networks as slow as the MasterNet, and pieces."""
        round_s = networks * max(VISIT_S, measured.ms_per_batch / 1000) + pieces * VISIT_S
        limit_s = self._settings.table_seconds
        return min(max(limit_s, MIN_ROUNDS * round_s), MAX_ROUNDS * round_s)

    def _master(self) -> PlannedPhase:
        recipe, times = self._settings.master_training.recipe(), self._times.master
        # A linear start computes all features, and scores three times.
        features, scorings = (1, 4) if recipe.linear_start else (0, 1)
        shared = times.shared(self._processes, self._context.device)
        each_s = [
            self._team_start_s
            + shared.seconds(_steps(images, recipe), features * images + scorings * scored)
            for images, scored in (self._usual, self._scored)
        ]
        in_folds = self._folds if self._folds > 1 else 0
        each_s[in_folds > 0] += _deciding_s(recipe, times, *self._scored)
        work = counted(1 + in_folds, "training") + f", {in_folds} of them in folds" * bool(in_folds)
        return PlannedPhase(
            phase="MasterNet training",
            work=work,
            seconds=each_s[0] + in_folds * each_s[1],
            basis=_basis(times),
            count=1 + in_folds,
            epochs=recipe.epochs,
            steps=_steps(self._usual[0], recipe),
        )

    def _trial_phase(self, number: int = 1) -> PlannedPhase:
        """The trials of a round, by its number from 1; a search may end before a later round."""
        settings, context, times = self._settings, self._context, self._times.groups
        recipe, (images, scored) = settings.trial_training.recipe(), self._scored
        per_epoch, epochs = steps_per_epoch(images, recipe.batch_size), recipe.epochs
        if not settings.from_scratch:
            epochs = -(-settings.trial_training.feature_steps // per_epoch)
        slowest = max(times.values(), key=lambda each: each[1].step_s / each[0])
        size = group_size(context, make_trial_job(context))
        groups = group_trials(self._trials, size, context.workers.count)
        groups_s = []
        for group in groups:
            size, of_group = times.get(group[0].index, slowest)
            group_s = len(group) / size * of_group.seconds(epochs * per_epoch, scored)
            groups_s.append(self._folds * group_s)
        return PlannedPhase(
            phase=phase_name("trials", round_number=number),
            work="up to " * (number > 1) + counted(len(self._trials), "trial") + self._in_folds,
            seconds=self._start_s + max(sum(groups_s) / context.workers.count, *groups_s),
            basis="a group of each super-block, with steps of up to "
            f"{1000 * slowest[1].step_s:.3g} ms",
            count=len(self._trials),
            folds=self._folds,
            epochs=epochs,
            steps=epochs * per_epoch,
        )

    def _candidate_phases(self, name: NameOf, multiple: float) -> Iterator[PlannedPhase]:
        """Screening, selection of candidates, and their training."""
        networks = max_networks(self._top) * len(self._context.space.resolutions)
        times = self._times.candidate
        yield from self._screening_phase(name, multiple)
        # Networks that are measured in turn often need all the time that they may take.
        measure_s = max(self._times.measure_s, self._settings.measure_seconds)
        yield PlannedPhase(
            phase=name("selection"),
            work=f"{USUAL_ATTEMPTS} times {networks} networks are measured",
            seconds=USUAL_ATTEMPTS * networks * measure_s,
            basis=f"measuring a network takes {measure_s:.2g} s",
        )
        if self._candidates:
            recipe, (images, scored) = make_candidate_job(self._context).recipe, self._scored
            steps, in_turn = (
                _steps(images, recipe),
                -(-self._candidates // self._context.workers.count),
            )
            taught = times.taught(multiple, recipe)
            one_s = self._folds * taught.seconds(steps, scored)
            yield PlannedPhase(
                phase=name("candidate training"),
                work=f"up to {counted(self._candidates, 'candidate')}{self._in_folds}",
                seconds=self._restart_s + in_turn * one_s,
                basis=_taught_basis(times, multiple),
                count=self._candidates,
                folds=self._folds,
                epochs=recipe.epochs,
                steps=steps,
            )

    def _screening_phase(self, name: NameOf, multiple: float) -> Iterator[PlannedPhase]:
        """The short trainings of screened structures, in batches."""
        count, times = self._settings.screen, self._times.candidate
        if not count:
            return
        final, (images, scored) = self._settings.final_training.recipe(), self._scored
        recipe = screening_recipe(self._settings, final, images)
        taught, workers = times.taught(multiple, recipe), self._context.workers.count
        # The statistics of batch norm take a pass without gradients before the training.
        one_s = self._folds * taught.seconds(_steps(images, recipe), images + scored)
        batches = [min(BATCH, count - begin) for begin in range(0, count, BATCH)]
        in_turn = sum(-(-batch // workers) for batch in batches)
        yield PlannedPhase(
            phase=name("screening"),
            work=f"up to {counted(count, 'structure')}{self._in_folds}",
            seconds=NUM_NEAR * max(self._settings.measure_seconds, self._times.measure_s)
            + len(batches) * (self._restart_s + CHOICE_S)
            + in_turn * one_s,
            basis=_taught_basis(times, multiple),
            count=count,
            folds=self._folds,
            epochs=recipe.epochs,
            steps=_steps(images, recipe),
        )

    def _winner_phases(self, name: NameOf, multiple: float) -> Iterator[PlannedPhase]:
        """The final training, unless the winner is a candidate that was trained as long; export."""
        times, recipe = self._times.winner, self._settings.final_training.recipe()
        steps, export_s = _steps(self._usual[0], recipe), self._times.export_s
        is_equal = make_candidate_job(self._context).recipe == recipe
        if not (is_equal and keeps_candidates(self._settings)):
            taught = times.taught(multiple, recipe)
            shared = taught.shared(self._processes, self._context.device)
            yield PlannedPhase(
                phase=name("final training"),
                work="1 training",
                seconds=self._team_start_s + shared.seconds(steps),
                basis=_taught_basis(times, multiple),
                count=1,
                epochs=recipe.epochs,
                steps=steps,
            )
        tests_s = (1 + multiple) * len(self._data.test) * times.scoring_s
        basis = f"exporting the MasterNet took {export_s:.2g} s"
        yield PlannedPhase(
            phase=name("export"),
            work="test scores and files",
            seconds=export_s + tests_s,
            basis=basis,
        )

    def _find_rivals(self) -> Iterator[tuple[RunRecipe, NetworkSize]]:
        """The recipe and the size of each rival; a default one without weights is left out."""
        for name in expand_rivals(self._settings.rivals):
            with suppress(GenetsError):
                rival = Rival.make(name, self._settings, self._context.master.resolution)
                if name.is_default:
                    rival.check()
                yield rival.run.recipe, rival.for_timing(self._context.num_classes).size

    def _rival_phase(self) -> PlannedPhase:
        """Each rival is measured beside the MasterNet; a trained one is scored in each epoch."""
        times, seconds, (images, scored) = self._times.winner, 0.0, self._usual
        final = self._settings.final_training
        for recipe, size in self._rivals:
            share = size.multiply_adds / multiply_adds(self._context.master)
            step_s = share * times.step_s * recipe.batch_size / final.batch_size
            scores_s = recipe.epochs * scored * share * times.scoring_s
            of_rival = replace(times, step_s=step_s, scoring_s=share * times.scoring_s)
            seconds += 2 * self._times.measure_s + _steps(images, recipe) * step_s + scores_s
            seconds += sum(
                _deciding_s(recipe, of_rival, len(data.train), len(data.validation))
                for fold in folds_to_decide(self._data, recipe)
                for data in [in_fold(self._data, fold)]
            )
        return PlannedPhase(
            phase=RIVALS,
            work=f"up to {counted(len(self._rivals), 'rival')}, each trained if it meets a budget",
            seconds=seconds,
            basis="a step of the MasterNet, by multiply-adds",
            count=len(self._rivals),
            epochs=max((recipe.epochs for recipe, _ in self._rivals), default=0),
        )


def _deciding_s(recipe: Recipe, times: TrainingTime, images: int, scored: int) -> float:
    """The time of the short trainings that decide a recipe, in one fold."""
    whole = with_all_fields(recipe)
    if is_decided(whole):
        return 0.0
    scorings = len(variants_of(whole)) * scored
    return steps_of_variants(whole, images) * times.step_s + scorings * times.scoring_s


def _steps(images: int, recipe: Recipe) -> int:
    return recipe.epochs * steps_per_epoch(images, recipe.batch_size)


def _basis(times: TrainingTime) -> str:
    return f"{counted(times.steps, 'step')} of {1000 * times.step_s:.3g} ms"


def _taught_basis(times: TrainingTime, multiple: float) -> str:
    return f"{_basis(times)} for the MasterNet, times {multiple:.2g}, and the teacher"
