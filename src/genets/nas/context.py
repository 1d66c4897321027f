"""The context of a search: the state that its phases share, and the running round."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from genets.core.errors import TargetError, TrainingError, is_out_of_memory
from genets.core.image_facts import Preprocessing
from genets.core.log import get_logger
from genets.core.progress import OnProgress, PhaseTimer, Progress, Report, Reporter
from genets.data import ImageData, Split
from genets.data.seeds import seeded_globals
from genets.latency import Budget, Target
from genets.latency.budget import DEFAULT_WAIT_MINUTES
from genets.nas.laboratory import Laboratory
from genets.nas.latencies.calm import check_wait
from genets.nas.latencies.target import TargetLatencies
from genets.nas.phase_names import phase_name
from genets.nas.selection.measured import (
    MeasuredRivals,
    MeasureInTurn,
    TargetLatency,
)
from genets.nas.study import layout
from genets.nas.study.records import RoundStart
from genets.nas.study.study import Study
from genets.nas.team_training import TeamJob
from genets.nas.trials.gpus import least_free_bytes, processes_per_gpu, step_cost
from genets.nas.trials.weights import TrialWeights
from genets.nas.workers.job import Machines, Workers
from genets.nas.workers.local import LocalMachine
from genets.nas.workers.monitor import Monitor
from genets.nas.workers.monitored import MonitoredWorkers
from genets.networks import build, save_weights
from genets.networks.own_blocks import loaded_block_files
from genets.structure import SearchSpace, Structure
from genets.training import Recipe, Score, fitting_threads
from genets.training.epoch_checkpoints import EpochCheckpoints, training_key
from genets.training.predictions import Predictions
from genets.training.resources import training_device

if TYPE_CHECKING:
    from torch import nn

_log = get_logger(__name__)


@dataclass(frozen=True)
class Round:
    """One round of a search.

    Attributes:
        number: Counted from 1.
        space: The choices from which its trials are taken.
        weights: The file with the weights of its MasterNet.
        start: The record of its MasterNet; None in the first round.
    """

    number: int
    space: SearchSpace
    weights: Path
    start: RoundStart | None = None

    @property
    def master(self) -> Structure:
        return self.space.master


class SearchContext:
    """The state that all phases of a search share.

    Attributes:
        study: The open study.
        settings: Its settings.
        num_classes: The number of classes of its data.
        budget: The budget to meet.
        target: The target of the budget.
        master, space: The MasterNet and search space of the first round. The budget and the latency
            table belong to these.
        device: The device that trains.
        processes: The number of processes that train the MasterNet and the winner together.
        round: The running round.
    """

    def __init__(
        self,
        study: Study,
        num_classes: int,
        *,
        budget: Budget | None = None,
        target: Target | None = None,
        lab: Laboratory | None = None,
        preprocessing: Preprocessing | None = None,
        workers: int | None = None,
        machines: Machines | None = None,
        processes: int | None = None,
        wait_minutes: float = DEFAULT_WAIT_MINUTES,
        on_event: OnProgress | None = None,
        on_workers: Callable[[int, str], None] | None = None,
        monitor: Monitor | None = None,
        timer: PhaseTimer | None = None,
    ) -> None:
        """Make the context of the first round.

        Args:
            study: The open study.
            num_classes: The number of classes of its data.
            budget, target: By default those of the study; of several budgets, one in ms if there is
                one, because such a budget needs the calmest device.
            lab: Times and trains networks; by default the real laboratory.
            preprocessing: How images become inputs; None for the default of the data.
            workers: Processes for trials; by default one for each core, or one to four for each
                GPU.
            machines: Where these processes run; by default on this machine.
            processes: Processes that train the MasterNet and the winner together; by default one.
            wait_minutes: The longest wait for a calm device where a latency decides nothing.
            on_event: Called with the progress of each phase.
            on_workers: Called with the number of the workers and their machines in words, when the
                workers are chosen.
            monitor: Learns of the workers' progress.
            timer: Takes the time of each phase; by default, the times are stored in the study.
        """
        self.study = study
        self.settings = study.settings
        self.num_classes = num_classes
        budgets = map(Budget.parse, self.settings.all_budgets)
        self.budget = budget or min(budgets, key=lambda budget: budget.is_relative)
        self.target = (target or self.settings.target).resolved()
        self.lab = lab or Laboratory()
        self.master = self.settings.structure
        self.space = self.settings.space.design_space().around(self.master)
        self.device = training_device(self.settings.training_device)
        self.preprocessing = preprocessing
        self._num_workers = workers
        self._machines = machines or LocalMachine()
        self.processes = processes or 1
        self.round = Round(1, self.space, study.master_weights)
        self._wait_limit_s = 60 * check_wait(wait_minutes)
        self._on_event, self._on_workers = on_event, on_workers
        self._monitor = monitor or Monitor()
        self._reporter = Reporter(on_event)
        self._timer = timer or PhaseTimer(
            study.seconds(), lambda seconds: study.save_json(layout.SECONDS, seconds)
        )
        # The copies of this context, for rounds and budgets, share these functions and their
        # results; a context at a budget has other measured networks.
        self._shared_workers = cache(self._choose_workers)
        self._shared_latency: Callable[[], TargetLatency] = cache(self._prepare_latency)

    @property
    def workers(self) -> Workers:
        """The workers that run trials and train candidates, the same in all rounds and budgets.

        The first use chooses them, because their number depends on the memory that is free then.
        Raises GenetsError.
        """
        return self._shared_workers()

    def _choose_workers(self) -> Workers:
        folder, count = self.study.folder, self._num_workers
        workers = self._machines.workers(count, self.device, self._processes_per_gpu, folder)
        if self._on_workers is not None:
            self._on_workers(workers.count, str(self._machines))
        return MonitoredWorkers(workers, self._monitor)

    def _processes_per_gpu(self, cores: int, gpus: int) -> int:
        """Choose the number of processes that train on one GPU of a machine.

        The memory of the GPUs of other machines is not known here, and taken as that of this one.
        """
        recipe = self.settings.trial_training.recipe()
        cost = step_cost(self.master, self.num_classes, recipe)
        return processes_per_gpu(cost, cores, gpus, least_free_bytes(self.device))

    @property
    def trial_weights(self) -> TrialWeights:
        """The weights of the trials of the round."""
        folder = layout.in_round(self.round.number, layout.TRIAL_WEIGHTS)
        return TrialWeights(self.study.folder / folder, self.settings.trial_weights_mb * 2**20)

    @property
    def seconds(self) -> dict[str, float]:
        """Wall time of each phase; in a search, over all runs of the study."""
        return self._timer.seconds

    @property
    def latency(self) -> TargetLatency:
        """The latency table and measured networks of the target.

        The first use is the phase `latency table`; see `TargetLatencies.prepare`.
        """
        return self._shared_latency()

    def _prepare_latency(self) -> TargetLatency:
        with self.phase("latency table"):
            return self._latencies.prepare(self.report("latency table"))

    def measured_rivals(self, measure_in_turn: MeasureInTurn[str]) -> MeasuredRivals:
        """Give the measured rivals of the target. measure_in_turn: Measures further rivals."""
        return self._latencies.rivals(measure_in_turn)

    @cached_property
    def _latencies(self) -> TargetLatencies:
        return TargetLatencies(
            self.study,
            self.lab,
            self.target,
            self.budget,
            self.space,
            self.num_classes,
            wait_limit_s=self._wait_limit_s,
            reporter=self._reporter,
            on_event=self._on_event,
        )

    def each_budget(self) -> list[SearchContext]:
        """Give the context of each budget of the study, the largest budget first.

        The contexts share the latency table and the measured networks. A study of one budget has
        this context alone.
        """
        if not self.settings.budgets:
            return [self]
        contexts = [self._at_budget(study) for study in self.study.each_budget()]
        master = self.latency.measure([self.master])[self.master]
        return sorted(contexts, key=lambda each: master.budget_ms(each.budget), reverse=True)

    def _at_budget(self, study: Study) -> SearchContext:
        context = copy.copy(self)
        context.study, context.budget = study, Budget.parse(study.budget)
        networks = self.latency.networks.for_budget(context.budget)
        latency = TargetLatency(self.latency.table, networks)
        context._shared_latency = lambda: latency
        return context

    def in_round(self, other: Round) -> SearchContext:
        """Give the same context in another round."""
        context = copy.copy(self)
        context.round = other
        return context

    def report(self, phase: str) -> Report:
        """Give the function that reports the progress of a phase."""
        name = self._phase_name(phase)

        def report(done: float, total: int, detail: str = "") -> None:
            self._reporter.step(Progress(name, done, total, detail))

        return report

    def phase(self, phase: str) -> AbstractContextManager[None]:
        """Time the block as a part of the phase, also where it is interrupted."""
        return self._timer.phase(self._phase_name(phase))

    def _phase_name(self, phase: str) -> str:
        return phase_name(phase, round_number=self.round.number, budget=self.study.budget)

    def build_network(self, structure: Structure, purpose: str) -> nn.Module:
        """Build a network whose initial weights depend on the seed and the purpose alone."""
        with seeded_globals(purpose, self.settings.seed):
            net = build(structure, self.num_classes)
        return net.to(self.device).eval()

    def train(
        self,
        net: nn.Module,
        data: ImageData,
        recipe: Recipe,
        phase: str,
        teacher: nn.Module | None = None,
        *,
        part: tuple[int, int] = (0, 1),
    ) -> None:
        """Train on the training split, and report each epoch.

        A training that was interrupted continues from its last checkpoint.

        Args:
            net: The network.
            data: The images.
            recipe: How it is trained.
            phase: The phase of the training.
            teacher: Its teacher, if it has one.
            part: The number of this training in the phase, from 0, and the number of all.

        Raises:
            TrainingError: The loss became NaN, or memory ran out.
        """
        report = self.report(phase)
        before, total = part[0] * recipe.epochs, part[1] * recipe.epochs
        seed, device, metric = self.settings.seed, self.device, self.settings.metric
        key = training_key(
            net, data, recipe, seed=seed, device=device, teacher=teacher, metric=metric
        )
        checkpoints = EpochCheckpoints(self.study.folder / layout.CHECKPOINTS, key)
        report(before + checkpoints.count_epochs(), total)

        def on_epoch(epoch: int, loss: float) -> None:
            report(before + epoch + 1, total, f"loss {loss:.3f}")

        with explained_memory(recipe.batch_size):
            if self.processes > 1:
                job = TeamJob.of(
                    net, teacher, data, recipe=recipe, seed=seed, device=device,
                    processes=self.processes, metric=metric,
                    own_blocks=loaded_block_files(self.settings.own_blocks),
                    checkpoints=checkpoints,
                )  # fmt: skip
                self.lab.train_in_team(net, job, on_epoch)
                return
            with fitting_threads(net, data.resolution, recipe.batch_size, reading=data.reading):
                self.lab.train(
                    net, data, recipe, seed=seed, device=device, teacher=teacher,
                    on_epoch=on_epoch, metric=metric, checkpoints=checkpoints,
                )  # fmt: skip

    def save_trained(self, net: nn.Module, path: Path, metadata: Mapping[str, str]) -> None:
        """Store the weights of a trained network, whose checkpoints are then not needed any more.

        Raises GenetsError.
        """
        with self.study.files.explained():
            path.parent.mkdir(parents=True, exist_ok=True)
        save_weights(net, path, metadata)
        shutil.rmtree(self.study.folder / layout.CHECKPOINTS, ignore_errors=True)

    def evaluate(self, net: nn.Module, data: ImageData) -> Score:
        """Score a network on the validation split; with an int8 target also quantised."""
        split = data.validation
        return self._with_quantised(self.lab.evaluate(net, split, self.device), net, data, split)

    def test(self, net: nn.Module, data: ImageData) -> tuple[Score, Predictions]:
        """Score a network on the test split; with an int8 target also quantised.

        The predictions are those before quantisation.
        """
        score, predictions = self.lab.test(net, data.test, self.device)
        return self._with_quantised(score, net, data, data.test), predictions

    @property
    def int8_target(self) -> Target | None:
        """The target, if networks are scored after quantisation for it."""
        return self.target if self.target.precision == "int8" else None

    def score_quantised(self, net: nn.Module, data: ImageData, split: Split) -> Score | None:
        """Score a network after quantisation; None where the target is not int8.

        Raises:
            TargetError: The network cannot be quantised, or does not run after it.
        """
        if self.int8_target is None:
            return None
        return self.lab.score_quantised(net, data, split, self.int8_target)

    def _with_quantised(self, score: Score, net: nn.Module, data: ImageData, split: Split) -> Score:
        """Add the score after quantisation; there is none where quantisation fails."""
        try:
            return replace(score, quantised=self.score_quantised(net, data, split))
        except TargetError as error:
            _log.warning("a network has no score in int8: %s", error)
            return score


@contextmanager
def explained_memory(batch_size: int) -> Iterator[None]:
    """Turn a lack of memory into one sentence."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(
            f"memory ran out while training with {batch_size} images in a batch; "
            "take a smaller batch_size, in another study folder"
        ) from error
