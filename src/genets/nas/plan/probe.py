"""Probe: times a few steps of each kind of training, and the MasterNet on the target.

Images, recipes and networks are those of the search. A training ends early, because its images end
when a time limit has passed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch

from genets.core.errors import TrainingError
from genets.core.progress import OnProgress, Progress
from genets.data import Batch, ImageData, with_augmentation
from genets.data.split import NamedSplit
from genets.latency import ENGINES, Measurement, Target
from genets.nas.context import SearchContext
from genets.nas.master.start import load_start
from genets.nas.study.records import Trial
from genets.nas.trials.inherited import InheritedTrialJob
from genets.nas.trials.run import group_size, make_trial_job
from genets.networks import save_weights
from genets.structure.cost import multiply_adds
from genets.training import Recipe, RunRecipe, with_all_fields
from genets.training.recipe import AUTO

if TYPE_CHECKING:
    from torch import nn

# Shares of the longest probe: the steps of a training, its scoring, the measurement, all trials.
TRAINING_SHARE, SCORING_SHARE, MEASURING_SHARE, TRIALS_SHARE = 0.05, 0.02, 0.1, 0.5
WARM_UP = 2  # first steps, in which caches and allocators fill
# Multiply-adds of the forward pass of a step on a CPU. A larger step is timed with fewer images, of
# which each takes about as long.
STEP_MULTIPLY_ADDS = 4e9
START_MEASURING_S = 0.1  # a measurement whose samples do not count
STARTING_S = 5.0  # the most that an engine takes to start; compilers need longer for a network
RATE = 1e-6  # so small that the loss of a few steps is finite


@dataclass(eq=False)
class TimedSplit:
    """A split whose passes end early, and which times its last pass.

    A step lasts from the request of a batch to the request of the next batch. So it contains the
    reading of the images and everything that the caller does with them. A pass over training images
    continues with further epochs until the time limit.

    Attributes:
        split: The images.
        device: The device that computes; the clock is read when its work is finished.
        limit_s: The time after which a pass ends.
        largest_batch: The most images of a batch.
        begun_s, ended_s: The times at which the last pass began, and its last step ended.
        steps_s: The time of each step, as if its batch had the size that was asked for.
        images: The number of images of all steps.
    """

    split: NamedSplit
    device: str
    limit_s: float
    largest_batch: int
    begun_s: float = 0.0
    ended_s: float = 0.0
    steps_s: list[float] = field(default_factory=list)
    images: int = 0

    def __len__(self) -> int:
        return len(self.split)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.split, name)  # names and numbers of classes

    def batches(
        self, batch_size: int, *, epoch: int | None = None, seed: int = 0
    ) -> Iterator[Batch]:
        """See `Split.batches`."""
        size = min(batch_size, self.largest_batch)
        scale = min(batch_size, len(self)) / min(size, len(self))
        self.steps_s, self.images = [], 0
        self.begun_s = self.ended_s = self._now()
        for number in [None] if epoch is None else count(epoch):
            for images, labels in self.split.batches(size, epoch=number, seed=seed):
                yield images, labels
                before_s, self.ended_s = self.ended_s, self._now()
                self.steps_s.append(scale * (self.ended_s - before_s))
                self.images += len(labels)
                if self.ended_s - self.begun_s >= self.limit_s and len(self.steps_s) > 1:
                    return

    def _now(self) -> float:
        if self.device != "cpu":
            torch.cuda.synchronize(self.device)
        return time.monotonic()


@dataclass(frozen=True)
class TrainingTime:
    """The seconds of one kind of training: of a step, of scoring an image, and of the rest.

    steps: the number of steps that were timed.
    """

    step_s: float
    scoring_s: float
    other_s: float
    steps: int

    def seconds(self, steps: int, scored: int = 0) -> float:
        """The time of a training of so many steps, which then scores so many images."""
        return self.other_s + steps * self.step_s + scored * self.scoring_s

    def shared(self, processes: int, device: str) -> TrainingTime:
        """The times of a training that processes share: each has a GPU, or a part of the CPU."""
        return self if device == "cpu" else replace(self, step_s=self.step_s / processes)

    def taught(self, multiple: float, recipe: Recipe) -> TrainingTime:
        """The times of a network that is `multiple` times as slow, with the timed one as teacher.

        recipe: that of the training.
        """
        teaching_s = recipe.batch_size * self.scoring_s if recipe.soft_label_weight else 0.0
        step_s, scoring_s = multiple * self.step_s + teaching_s, multiple * self.scoring_s
        return replace(self, step_s=step_s, scoring_s=scoring_s)


@dataclass(frozen=True)
class ProbeTimes:
    """The times of a probe.

    Attributes:
        measured: The MasterNet on the target.
        measure_s: For preparing and measuring it.
        master: Of training the MasterNet.
        winner, candidate: Of training it by the recipe of the winner; as a candidate on one thread,
            where there are several workers.
        groups: Of a group of trials by stage, with the number of its trials; the first stages
            alone where the time did not suffice.
        export_s: For exporting the MasterNet.
        seconds: Of the probe itself.
        source: The MasterNet on the target of a faster engine, see `Engine.table_source`; None
            where the target has none.
    """

    measured: Measurement
    measure_s: float
    master: TrainingTime
    winner: TrainingTime
    candidate: TrainingTime
    groups: dict[int, tuple[int, TrainingTime]]
    export_s: float
    seconds: float
    source: Measurement | None = None


@dataclass
class Probe:
    """Times the parts of a search.

    Attributes:
        context: Of a study without results; the files of the probe stay in the study.
        data: The images at the MasterNet's resolution.
        limit_s: The longest probe; a part that has begun is completed.
        on_event: Called with the progress.
    """

    context: SearchContext
    data: ImageData
    limit_s: float
    on_event: OnProgress | None = None

    def __post_init__(self) -> None:
        self._training_s = TRAINING_SHARE * self.limit_s

    def run(self, trials: Sequence[Trial]) -> ProbeTimes:
        """Time everything. trials: those of a round.

        Raises:
            GenetsError: The MasterNet cannot be trained, or cannot run on the target.
        """
        context, settings, data = self.context, self.context.settings, self.data
        start_s = self._report(0, "measuring the MasterNet")
        measured, measure_s = self._measure()
        source = self._measure_source()
        self._report(1, "training the MasterNet")
        net = context.build_network(context.master, "master")
        if settings.has_starting_weights:
            net = load_start(settings, data, lambda note: None)
        save_weights(net, context.study.master_weights, data.weights_metadata())
        recipe = settings.final_training.recipe()
        master = self._train(net, settings.master_training.recipe(), data)
        winner = self._train(net, recipe, data)
        begun_s, folder = self._report(2, "exporting the MasterNet"), context.study.results_folder
        folder.mkdir(exist_ok=True)
        context.lab.export(net, context.master, data, folder)
        export_s = self._report(3, "candidates and trials") - begun_s
        with _as_worker(context.workers.count):
            runner = self._make_runner()
            candidate = self._train(net, recipe, runner.data)
            groups = self._time_groups(runner, trials)
        spent_s = self._report(4, "") - start_s
        return ProbeTimes(
            measured, measure_s, master, winner, candidate, groups, export_s, spent_s, source
        )

    def _report(self, done: int, words: str) -> float:
        """Report the progress, and give the time."""
        if self.on_event is not None:
            self.on_event(Progress("probe", done, 4, words))
        return time.monotonic()

    def _measure(self) -> tuple[Measurement, float]:
        """Measure the MasterNet; with the seconds that a search takes for it."""
        limit_s = self.context.settings.measure_seconds
        # The first network of a process also waits until the libraries have started.
        measured, seconds = self._measure_for(min(limit_s, START_MEASURING_S))
        if sum(measured.seconds.values()) > STARTING_S:
            return measured, seconds
        return self._measure_for(min(limit_s, MEASURING_SHARE * self.limit_s))

    def _measure_source(self) -> Measurement | None:
        """Measure the MasterNet on the target whose table the latency table is made from."""
        target = self.context.target
        source = ENGINES[target.engine].table_source(target)
        return None if source is None else self._measure_on(source, START_MEASURING_S)

    def _measure_for(self, limit_s: float) -> tuple[Measurement, float]:
        context, start_s = self.context, time.monotonic()
        measured = self._measure_on(context.target, limit_s)
        longer_s = context.settings.measure_seconds - limit_s if measured.noisy else 0.0
        return measured, time.monotonic() - start_s + longer_s

    def _measure_on(self, target: Target, limit_s: float) -> Measurement:
        context = self.context
        measured = context.lab.measure([context.master], target, context.num_classes, limit_s)
        return measured[context.master]

    def _train(self, net: nn.Module, recipe: RunRecipe, images: ImageData) -> TrainingTime:
        context = self.context

        def run(data: ImageData) -> None:
            context.train(net, data, _shortened(recipe), "MasterNet training")
            context.lab.evaluate(net, data.validation, context.device)

        return self._time(with_augmentation(images, recipe.augmentation()), run)

    def _make_runner(self) -> Any:
        """The runner of a worker, which reads its images as the search does."""
        job = make_trial_job(self.context)
        job = replace(job, folds=1, recipe=_shortened(job.recipe))
        return (replace(job, steps=1) if isinstance(job, InheritedTrialJob) else job).runner()

    def _time_groups(
        self, runner: Any, trials: Sequence[Trial]
    ) -> dict[int, tuple[int, TrainingTime]]:
        """Time a group of each stage, whose multiply-adds are spread as those of all its trials."""
        size, master = group_size(self.context, runner.job), self.context.master
        groups: list[tuple[Trial, ...]] = []
        for index in dict.fromkeys(trial.index for trial in trials):
            own = [trial for trial in trials if trial.index == index]
            own.sort(key=lambda trial: multiply_adds(trial.structure(master)))
            number = min(size, len(own))
            groups.append(tuple(own[(2 * n + 1) * len(own) // (2 * number)] for n in range(number)))
        images, start_s, limit_s = runner.data, time.monotonic(), TRIALS_SHARE * self.limit_s
        self._training_s = min(self._training_s, limit_s / len(groups))
        times: dict[int, tuple[int, TrainingTime]] = {}
        for group in groups:

            def run(data: ImageData, group: tuple[Trial, ...] = group) -> None:
                runner.data = data
                runner.run(group)

            times[group[0].index] = len(group), self._time(images, run)
            if time.monotonic() - start_s > limit_s:
                break
        return times

    def _time(self, data: ImageData, run: Callable[[ImageData], object]) -> TrainingTime:
        """Time a training that ends with scoring. run: trains and scores with the given images."""
        device, limit_s = self.context.device, self._training_s
        fitting = int(STEP_MULTIPLY_ADDS / multiply_adds(self.context.master))
        largest = max(2, fitting // 2 * 2) if device == "cpu" else sys.maxsize  # even for mix-up
        train = TimedSplit(data.train, device, limit_s, largest)
        scoring_limit_s = limit_s * SCORING_SHARE / TRAINING_SHARE
        validation = TimedSplit(data.validation, device, scoring_limit_s, largest)
        start_s = time.monotonic()
        run(replace(data, train=train, validation=validation))
        end_s = time.monotonic()
        if not train.steps_s:
            raise TrainingError(
                "memory ran out in the first step of a training; take a smaller batch_size"
            )
        scoring_s = end_s - validation.begun_s if validation.images else 0.0
        return TrainingTime(
            step_s=fmean(train.steps_s[min(WARM_UP, len(train.steps_s) - 1) :]),
            scoring_s=scoring_s / max(1, validation.images),
            other_s=max(0.0, end_s - start_s - (train.ended_s - train.begun_s) - scoring_s),
            steps=len(train.steps_s),
        )


@contextmanager
def _as_worker(workers: int) -> Iterator[None]:
    """Compute on one thread, as each of several workers does."""
    before = torch.get_num_threads()
    if workers > 1:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _shortened(recipe: Recipe) -> RunRecipe:
    """The recipe for one pass, which a timed split ends."""
    whole = with_all_fields(recipe)
    if whole.norm_statistics == AUTO:
        whole = replace(whole, norm_statistics="batch")
    return replace(
        whole,
        epochs=1,
        warmup_epochs=0.0,
        learning_rate=RATE,
        linear_start=False,
    )
