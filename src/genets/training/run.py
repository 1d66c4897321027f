"""A training run that survives whatever stops it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

import torch
from torch import Tensor

from genets.core.errors import TrainingError
from genets.data import ImageData, derive_seed, seeded_globals, steps_per_epoch
from genets.training.checkpoint import Checkpoints, Position
from genets.training.epoch_log import EpochRecord, Listener, Progress
from genets.training.loop import Teacher, evaluate
from genets.training.recipe import lr_at
from genets.training.resources import is_out_of_memory, largest_that_fits
from genets.training.score import Score
from genets.training.trainee import Trainee

CHECKPOINT_SECONDS = 600.0
COMPILERS = ("torch._dynamo", "torch._inductor")  # whose errors are not worth their import
LOOK_EVERY = 25  # steps: reading a loss makes the host wait for a GPU


class Run:
    """Trains to the end of the recipe, from the last checkpoint where there is one.

    Every step seeds what it draws from the seed and its number, and every epoch its images: what
    comes after a checkpoint does not depend on what came before it in the same process.
    checkpoint_seconds: how often a checkpoint is written besides at the end of each epoch.
    """

    def __init__(
        self,
        trainee: Trainee,
        data: ImageData,
        seed: int,
        checkpoints: Checkpoints,
        *,
        teacher: Teacher | None = None,
        listener: Listener | None = None,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
    ) -> None:
        self.trainee = trainee
        self.recipe = trainee.recipe
        self.data = data
        self.seed = seed
        self.checkpoints = checkpoints
        self.teacher = teacher
        self.listener = listener or Listener()
        self.checkpoint_seconds = checkpoint_seconds
        self.steps = steps_per_epoch(len(data.train), self.recipe.batch_size)
        self.position = Position()
        self.processes = trainee.processes
        self._pending: list[Tensor] = []
        self._saved_at = time.monotonic()
        self._check_batch_size()

    def _check_batch_size(self) -> None:
        size, data, count = self.recipe.batch_size, self.data, self.processes.count
        if size > len(data.train):
            raise TrainingError(
                f"batch_size {size} is larger than the training split of {data.name}, "
                f"{len(data.train)} images; "
                f"--set batch_size={2 ** (len(data.train).bit_length() - 1)} fits"
            )
        pairs = 2 if self.recipe.mixup or self.recipe.cutmix else 1
        if size % (count * pairs):
            raise TrainingError(
                f"batch_size {size} must be a multiple of {count * pairs}, as {count} processes "
                f"share it{' and mix pairs of images' if pairs == 2 else ''}"
            )

    def resume(self) -> bool:
        """Go on from the last good checkpoint; False where there is none. Raises TrainingError."""
        checkpoint = self.checkpoints.last()
        if checkpoint is None:
            return False
        try:
            self.trainee.load(checkpoint.tensors)
            self.position = Position.from_json(checkpoint.state)
        except (RuntimeError, KeyError, TypeError) as error:
            raise TrainingError(
                f"checkpoint {checkpoint.path} is of another version or network ({error})"
            ) from error
        return True

    def train(self) -> list[EpochRecord]:
        """Train what is left, and give the record of every epoch.

        Raises TrainingError: the loss is not finite, memory ran out, or another process has
        ended. OSError: the disk is full.
        """
        try:
            with _cuda_generators(self.trainee.device):
                self._tell("")
                while self.position.epoch < self.recipe.epochs:
                    self._train_epoch()
                    self._end_epoch()
        except RuntimeError as error:
            if not self.processes.is_lost(error):
                raise
            raise TrainingError(f"another process of this run has ended{self._kept()}") from error
        return self.position.records

    def _train_epoch(self) -> None:
        at, size = self.position, self.recipe.batch_size
        self.trainee.begin_epoch()
        batches = self.data.train.batches(size, epoch=at.epoch, seed=self.seed)
        self._look_at = time.perf_counter()
        for batch in islice(batches, at.step, None):
            self._pending.append(self._step(*self.trainee.on_device(*batch)))
            at.step += 1
            looks = self.trainee.device.type == "cpu" or len(self._pending) == LOOK_EVERY
            if looks and self._look() and at.step < self.steps:
                self._save()
        if self._pending:
            self._look()

    def _step(self, images: Tensor, labels: Tensor) -> Tensor:
        at = self.position
        done = at.epoch * self.steps + at.step
        rate = self._rate(done)
        try:
            with seeded_globals("step", self.seed, at.epoch, at.step):
                self._seed_dropout(images)
                return self.trainee.step(images, labels, self.teacher, rate, done + 1)
        except (RuntimeError, MemoryError) as error:
            if self.recipe.compile and type(error).__module__.startswith(COMPILERS):
                raise TrainingError(
                    f"torch.compile fails with this network or machine "
                    f"({str(error).strip().splitlines()[0]}); --set compile=false does without it"
                ) from error
            if not is_out_of_memory(error):
                raise
        # Here, as the handler's traceback would hold the tensors of the step that failed.
        raise TrainingError(self._what_fits(images, labels))

    def _seed_dropout(self, images: Tensor) -> None:
        """torch's generators; mix-up draws from numpy's, which is alike in all processes."""
        at, number = self.position, self.processes.share.number
        if images.is_cuda:
            torch.cuda.manual_seed(derive_seed("step", self.seed, at.epoch, at.step, number))
        if number:
            torch.default_generator.manual_seed(
                derive_seed("step", self.seed, at.epoch, at.step, number)
            )

    def _rate(self, step: int) -> float:
        return lr_at(step, self.recipe.epochs * self.steps, self.recipe)

    def _what_fits(self, images: Tensor, labels: Tensor) -> str:
        """Whole steps are tried, which is the end of this network's weights."""
        least = 2 if self.recipe.mixup or self.recipe.cutmix else 1

        if self.processes.count > 1:  # a step on its own would wait for the others'
            here = f"{len(images)} images in this process's share of a batch"
            return f"memory ran out with {here}; --batch-size must be smaller{self._kept()}"

        def attempt(size: int) -> None:
            with seeded_globals("attempt", size):
                self.trainee.step(images[:size], labels[:size], self.teacher, 0.0, 1)

        fits = largest_that_fits(attempt, len(images), least)
        advice = "no smaller one fits" if fits is None else f"{fits} fits: --set batch_size={fits}"
        return f"memory ran out with {len(images)} images in a batch; {advice}{self._kept()}"

    def _look(self) -> bool:
        """Fetch losses, which makes the host wait for the device, check them, and tell.

        Gives whether a checkpoint is due, which the first process decides for all.
        """
        at, count = self.position, self.processes.count
        due = time.monotonic() - self._saved_at > self.checkpoint_seconds
        due_here = torch.tensor(float(due and self.processes.is_first), device=self.trainee.device)
        sums = self.processes.sum(torch.stack([*self._pending, due_here]))
        *losses, due_there = sums.tolist()
        for loss in (total / count for total in losses):
            at.losses.append(loss)
            if not math.isfinite(loss):
                raise TrainingError(
                    f"the loss became {loss} in epoch {at.epoch + 1}, step {len(at.losses)}; a "
                    f"lower learning rate may help{self._kept()}"
                )
        now = time.perf_counter()
        rate = len(self._pending) * self.recipe.batch_size / max(now - self._look_at, 1e-9)
        at.seconds += now - self._look_at
        self._look_at = now
        self._tell(f"loss {at.losses[-1]:.3f}, {rate:.0f} images/s")
        self._pending = []
        return bool(due_there)

    def _kept(self) -> str:
        path = self.checkpoints.last_path()
        return f" (the last good checkpoint is {path})" if path else " (no checkpoint was written)"

    def _end_epoch(self) -> None:
        at = self.position
        self.trainee.begin_scoring()
        try:
            score = evaluate(
                self.trainee.scored,
                self.data.validation,
                self.recipe.batch_size,
                self.trainee.device,
                channels_last=self.recipe.channels_last,
                total=self.processes.sum,
            )
        except TrainingError as error:
            raise TrainingError(f"after epoch {at.epoch + 1} {error}{self._kept()}") from error
        before = at.records[(at.best or 1) - 1] if at.records else None
        best = before is None or _rank(score) > _rank(before)
        at.epoch += 1
        record = EpochRecord(
            epoch=at.epoch,
            steps=at.epoch * self.steps,
            learning_rate=self._rate(at.epoch * self.steps - 1),
            loss=math.fsum(at.losses) / len(at.losses),
            top1=score.top1,
            cross_entropy=score.cross_entropy,
            seconds=at.seconds,
            images_per_second=self.steps * self.recipe.batch_size / max(at.seconds, 1e-9),
            best=best,
            images=score.images,
            broken=self.gather_broken(),
        )
        at.records.append(record)
        at.step, at.losses, at.seconds = 0, [], 0.0
        at.best = at.epoch if best else at.best
        self._save()
        self.listener.epoch(record, self.recipe.epochs)

    def gather_broken(self) -> int:
        """Broken images that any process met so far. Raises DataError if they are too many."""
        broken = self.data.broken
        if broken is None:
            return 0
        for found in self.processes.gather(dict(broken.reasons)):
            broken.meet(found)
        return len(broken.reasons)

    def _save(self) -> None:
        if not self.trainee.is_finite():
            at = self.position
            raise TrainingError(
                f"weights are no longer finite after {at.epoch} epochs and {at.step} steps; a "
                f"lower learning rate may help{self._kept()}"
            )
        self.processes.first(
            lambda: self.checkpoints.save(self.trainee.tensors(), self.position.to_json())
        )
        self._saved_at = time.monotonic()
        self._look_at = time.perf_counter()

    def _tell(self, detail: str) -> None:
        at = self.position
        total = self.recipe.epochs * self.steps
        epoch = min(at.epoch + 1, self.recipe.epochs)
        words = f"epoch {epoch} of {self.recipe.epochs}" + (f", {detail}" if detail else "")
        done = at.epoch * self.steps + at.step
        self.listener.progress(Progress("training", done, total, words))


def _rank(score: Score | EpochRecord) -> tuple[float, float]:
    """By top-1; on few images many epochs share it, and cross-entropy tells them apart."""
    return score.top1, -score.cross_entropy


@contextmanager
def _cuda_generators(device: torch.device) -> Iterator[None]:
    """Restores that of the device afterwards; those of the CPU are restored at every step."""
    if device.type != "cuda":
        yield
        return
    with torch.random.fork_rng(devices=[device]), torch.cuda.device(device):
        yield
