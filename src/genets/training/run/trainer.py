"""The training of a run: it continues from its checkpoints after any interruption."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

import torch
from torch import Tensor

from genets.core.errors import TrainingError, first_line, is_out_of_memory
from genets.core.progress import Progress
from genets.core.validation import from_plain, to_plain
from genets.data import ImageData, derive_seed, seeded_globals, steps_per_epoch
from genets.training.checkpoints import Checkpoints
from genets.training.evaluation import evaluate
from genets.training.mixing import mixed_images
from genets.training.recipe import Recipe, RunRecipe, lr_at, with_all_fields
from genets.training.resources import describe_single_value, largest_that_fits
from genets.training.run.epoch_log import EpochRecord, Listener
from genets.training.run.state import Position, TrainingState
from genets.training.score import Metric, Score, rank
from genets.training.step import Teacher

CHECKPOINT_SECONDS = 600.0
# Modules of the compiler's errors, by name, because importing them takes long.
COMPILER_MODULES = ("torch._dynamo", "torch._inductor")
STEPS_PER_FETCH = 25  # reading a loss makes the host wait for a GPU


def check_batch_size(recipe: RunRecipe, data: ImageData, processes: int) -> None:
    """Raise TrainingError where the batch size does not suit the images or the processes."""
    size = recipe.batch_size
    if size > len(data.train):
        raise TrainingError(
            f"batch_size {size} is larger than the training split of {data.name}, "
            f"{len(data.train)} images; "
            f"--set batch_size={2 ** (len(data.train).bit_length() - 1)} fits"
        )
    check_shares(recipe, processes)


def check_shares(recipe: Recipe, processes: int) -> None:
    """Raise TrainingError where processes cannot share a batch equally."""
    whole = with_all_fields(recipe)
    size, pairs = whole.batch_size, 2 if whole.mixup or whole.cutmix else 1
    if size % (processes * pairs):
        raise TrainingError(
            f"batch_size {size} must be a multiple of {processes * pairs}, because {processes} "
            f"processes share it{' and mix pairs of images' if pairs == 2 else ''}"
        )


class Trainer:
    """Trains to the end of a recipe, from the last checkpoint where there is one.

    Each step seeds its random numbers from the seed and the number of the step, and each epoch
    seeds its images. A continued run therefore does not depend on earlier work of its process.

    Args:
        state: The network in training.
        data: The images.
        seed: The seed of everything that is random.
        checkpoints: The checkpoints of the run.
        teacher: A network whose outputs are learned from; None for no teacher.
        metric: The validation score that decides which epoch is the best one.
        listener: Called with progress and messages; `train` yields the epochs.
        checkpoint_seconds: The time between checkpoints within an epoch; each epoch ends with one.

    Attributes:
        position: How far the training is, with the records of all epochs.

    Raises:
        TrainingError: The batch size does not suit the images or the processes.
    """

    def __init__(
        self,
        state: TrainingState,
        data: ImageData,
        seed: int,
        checkpoints: Checkpoints,
        *,
        teacher: Teacher | None = None,
        metric: Metric = Metric.TOP1,
        listener: Listener | None = None,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
    ) -> None:
        self.state = state
        self.recipe = state.recipe
        self.data = data
        self.images = mixed_images(data.train, self.recipe, data.num_classes, state.device)
        self.seed = seed
        self.checkpoints = checkpoints
        self.teacher = teacher
        self.metric = metric
        self.listener = listener or Listener()
        self.checkpoint_seconds = checkpoint_seconds
        self.steps = steps_per_epoch(len(data.train), self.recipe.batch_size)
        self.position = Position()
        self.processes = state.processes
        self._pending: list[Tensor] = []
        self._saved_at = time.monotonic()
        check_batch_size(self.recipe, data, self.processes.count)

    def resume(self) -> bool:
        """Continue from the newest undamaged checkpoint; False where there is no checkpoint.

        Raises TrainingError where all checkpoints are damaged or of another version or network.
        """
        checkpoint = self.checkpoints.last()
        if checkpoint is None:
            return False
        try:
            self.state.load(checkpoint.tensors)
            self.position = from_plain(Position, checkpoint.state, raises=TrainingError)
        except (RuntimeError, TrainingError) as error:
            raise TrainingError(
                f"checkpoint {checkpoint.path} is of another version or network ({error})"
            ) from error
        return True

    def train(self) -> Iterator[EpochRecord]:
        """Train to the end of the recipe.

        A caller that stops in between can call this method again, which continues.

        Yields:
            The record of each epoch, after the checkpoint that ends the epoch.

        Raises:
            TrainingError: The loss is not finite, memory ran out, or another process has ended.
            OSError: The disk is full.
        """
        try:
            with _cuda_generators(self.state.device):
                if self.recipe.linear_start and not self.position.records:
                    yield from self._start_linear()
                self._report_progress("")
                while self.position.epoch < self.recipe.epochs:
                    self._train_epoch()
                    yield self._end_epoch()
        except RuntimeError as error:
            if not self.processes.is_lost(error):
                raise
            raise self._fault("another process of this run has ended") from error

    def _start_linear(self) -> Iterator[EpochRecord]:
        """Score the start as epoch 0: with a linear model as classifier, unless its own is better.

        Nothing is yielded where the classifier cannot be a linear model; see
        `Student.start_linear`.
        """
        data, began = self.data, time.perf_counter()
        text = f"linear model of {len(data.train)} images"
        self.listener.progress(Progress("training", 0, self.recipe.epochs * self.steps, text))
        start = self.state.start_linear(
            data.train, data.num_classes, lambda: self._score(0), metric=self.metric
        )
        if start is None:
            self.listener.note(
                "the classifier is not one linear layer that reads one vector for an image; it "
                "starts as it is"
            )
            return
        yield self._end(0, start.score, 0.0, start.loss, time.perf_counter() - began, start.images)

    def _train_epoch(self) -> None:
        at, size = self.position, self.recipe.batch_size
        self.state.begin_epoch()
        batches = self.images.batches(size, epoch=at.epoch, seed=self.seed)
        self._fetched_at = time.perf_counter()
        for batch in islice(batches, at.step, None):
            self._pending.append(self._step(*self.state.on_device(*batch)))
            at.step += 1
            full = self.state.device.type == "cpu" or len(self._pending) == STEPS_PER_FETCH
            if full and self._fetch_losses() and at.step < self.steps:
                self._save()
        if self._pending:
            self._fetch_losses()

    def _step(self, images: Tensor, labels: Tensor) -> Tensor:
        at = self.position
        done = at.epoch * self.steps + at.step
        rate = self._rate(done)
        try:
            with seeded_globals("step", self.seed, at.epoch, at.step):
                self._seed_dropout(images)
                return self.state.learn(images, labels, self.teacher, rate, done + 1)
        except (RuntimeError, MemoryError, ValueError) as error:
            if self.recipe.compile and type(error).__module__.startswith(COMPILER_MODULES):
                raise TrainingError(
                    f"torch.compile fails with this network or machine ({first_line(error)}); "
                    f"--set compile=false trains without torch.compile"
                ) from error
            if reason := describe_single_value(error):
                raise TrainingError(reason) from error
            if not is_out_of_memory(error):
                raise
        # Outside the handler, whose traceback keeps the tensors of the failed step in memory.
        raise self._fault(f"memory ran out with {self._memory_advice(images, labels)}")

    def _seed_dropout(self, images: Tensor) -> None:
        """Seed torch's generators by process; mix-up uses numpy's, which is equal in all."""
        at, number = self.position, self.processes.share.number
        seed = derive_seed("step", self.seed, at.epoch, at.step, number)
        if images.is_cuda:
            torch.cuda.manual_seed(seed)
        if number:
            torch.default_generator.manual_seed(seed)

    def _rate(self, step: int) -> float:
        return lr_at(step, self.recipe.epochs * self.steps, self.recipe)

    def _memory_advice(self, images: Tensor, labels: Tensor) -> str:
        """Find the largest batch that fits, by training steps that destroy the current weights."""
        if self.processes.count > 1:  # a single step would wait for the other processes
            share = f"{len(images)} images in this process's share of a batch"
            return f"{share}; --batch-size must be smaller"

        def attempt(size: int) -> None:
            with seeded_globals("attempt", size):
                self.state.learn(images[:size], labels[:size], self.teacher, 0.0, 1)

        least = 2 if self.recipe.mixup or self.recipe.cutmix else 1
        fits = largest_that_fits(attempt, len(images), least)
        advice = "no smaller one fits" if fits is None else f"{fits} fits: --set batch_size={fits}"
        return f"{len(images)} images in a batch; {advice}"

    def _fetch_losses(self) -> bool:
        """Fetch and check the losses of the last steps; the host waits for the device.

        Returns whether a checkpoint is due, which the first process decides for all.
        """
        at, count = self.position, self.processes.count
        due = time.monotonic() - self._saved_at > self.checkpoint_seconds
        due_here = torch.tensor(float(due and self.processes.is_first), device=self.state.device)
        sums = self.processes.sum(torch.stack([*self._pending, due_here]))
        *losses, due_on_first = sums.tolist()
        for loss in (total / count for total in losses):
            at.losses.append(loss)
            if not math.isfinite(loss):
                raise self._fault(
                    f"the loss became {loss} in epoch {at.epoch + 1}, step {len(at.losses)}; a "
                    f"lower learning rate may help"
                )
        now = time.perf_counter()
        rate = len(self._pending) * self.recipe.batch_size / max(now - self._fetched_at, 1e-9)
        at.seconds += now - self._fetched_at
        self._fetched_at = now
        self._report_progress(f"loss {at.losses[-1]:.3f}, {rate:.0f} images/s")
        self._pending = []
        return bool(due_on_first)

    def _fault(self, reason: str) -> TrainingError:
        path = self.checkpoints.last_path()
        last = f"the last good checkpoint is {path}" if path else "no checkpoint was written"
        return TrainingError(f"{reason} ({last})")

    def _end_epoch(self) -> EpochRecord:
        at = self.position
        score = self._score(at.epoch + 1)
        at.epoch += 1
        loss = math.fsum(at.losses) / len(at.losses)
        images = self.steps * self.recipe.batch_size
        rate = self._rate(at.epoch * self.steps - 1)
        return self._end(at.epoch, score, rate, loss, at.seconds, images)

    def _score(self, epoch: int) -> Score:
        """The score on the validation images after an epoch."""
        self.state.begin_scoring()
        try:
            return evaluate(
                self.state.scored,
                self.data.validation,
                self.recipe.batch_size,
                self.state.device,
                channels_last=self.recipe.channels_last,
                total=self.processes.sum,
            )
        except TrainingError as error:
            raise self._fault(f"after epoch {epoch} {error}") from error

    def _end(
        self, epoch: int, score: Score, rate: float, loss: float, seconds: float, images: int
    ) -> EpochRecord:
        """Record an epoch, and store the network."""
        at = self.position
        before = at.best_record()
        best = before is None or rank(score, self.metric) > rank(before.score, self.metric)
        assert score.images is not None
        record = EpochRecord(
            epoch=epoch,
            steps=epoch * self.steps,
            learning_rate=rate,
            loss=loss,
            top1=score.top1,
            cross_entropy=score.cross_entropy,
            seconds=seconds,
            images_per_second=images / max(seconds, 1e-9),
            best=best,
            images=score.images,
            broken=self.gather_broken(),
            balanced_accuracy=score.balanced_accuracy,
            balanced_images=score.balanced_images,
        )
        at.records.append(record)
        at.step, at.losses, at.seconds = 0, [], 0.0
        at.best = epoch if best else at.best
        self._save()
        return record

    def gather_broken(self) -> int:
        """Count the broken images that any process found so far.

        Raises DataError if there are too many.
        """
        broken = self.data.broken
        if broken is None:
            return 0
        for reasons in self.processes.gather(dict(broken.reasons)):
            broken.meet(reasons)
        return len(broken.reasons)

    def _save(self) -> None:
        if not self.state.is_finite():
            at = self.position
            raise self._fault(
                f"the weights are not finite after {at.epoch} epochs and {at.step} steps; a "
                f"lower learning rate may help"
            )
        self.processes.run_on_first(
            lambda: self.checkpoints.save(self.state.tensors(), to_plain(self.position))
        )
        self._saved_at = time.monotonic()
        self._fetched_at = time.perf_counter()

    def _report_progress(self, detail: str) -> None:
        at = self.position
        total = self.recipe.epochs * self.steps
        epoch = min(at.epoch + 1, self.recipe.epochs)
        text = f"epoch {epoch} of {self.recipe.epochs}" + (f", {detail}" if detail else "")
        done = at.epoch * self.steps + at.step
        self.listener.progress(Progress("training", done, total, text))


@contextmanager
def _cuda_generators(device: torch.device) -> Iterator[None]:
    """Restore the generator of a GPU afterwards; those of the CPU are restored at every step."""
    if device.type != "cuda":
        yield
        return
    with torch.random.fork_rng(devices=[device]), torch.cuda.device(device):
        yield
