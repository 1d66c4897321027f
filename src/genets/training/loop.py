"""The training loop, for one network or for several at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from itertools import chain, islice
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from genets.core.errors import DivergedError, TrainingError
from genets.data import Split, derive_seed, steps_per_epoch
from genets.training.evaluation import evaluate
from genets.training.floor import Floor, Judge
from genets.training.mixing import mixed_images
from genets.training.recipe import Recipe, RunRecipe, lr_at, with_all_fields
from genets.training.score import Metric, Score
from genets.training.step import Teacher, class_weights_of, move, repeatable, teacher_logits
from genets.training.student import Student, strip_prefix
from genets.training.team import ALONE, Team

if TYPE_CHECKING:
    from genets.training.epoch_checkpoints import EpochCheckpoints

FLOOR = "floor."  # see `student.NETWORK`
NORM_IMAGES = 1024  # the statistics of these images hardly differ from those of more
NORM_PASSES = 4  # further passes over the same images add little


def train(
    net: nn.Module,
    split: Split,
    recipe: Recipe,
    *,
    seed: int,
    teacher: Teacher | None = None,
    on_epoch: Callable[[int, float], None] | None = None,
    device: str | torch.device = "cpu",
    num_classes: int | None = None,
    judge: Judge | None = None,
    checkpoints: EpochCheckpoints | None = None,
) -> None:
    """Train a network in place.

    The result depends only on the weights, the seed, the kind of device and, on a CPU, the number
    of threads; the global generators are not used.

    Args:
        net: The network. It is moved to `device`, with its channels last, and left there in eval
            mode. Frozen parameters do not change, nor do the statistics of layers whose
            parameters are all frozen.
        split: The training images, augmented as the data set was loaded.
        recipe: The recipe. With `ema_decay`, the network ends with the average of its weights.
            With `linear_start`, it ends as it started where the end is worse; see `is_worse`.
        seed: The seed of everything that is random.
        teacher: A network whose outputs are learned from; it is called without gradients.
        on_epoch: Called with the number of each epoch (from 0) and its mean loss.
        device: The device to train on.
        num_classes: The number of classes, for mix-up, CutMix and a linear start.
        judge: Decides whether the start or the end is better, for a linear start.
        checkpoints: The training continues from these, and stores further ones.

    Raises:
        TrainingError: The loss is not finite, or the recipe needs an argument that is missing.
    """
    training = Training(
        [net],
        split,
        recipe,
        seed=seed,
        teacher=teacher,
        device=device,
        num_classes=num_classes,
        judge=judge,
    )
    if checkpoints is not None:
        checkpoints.resume(training)
    with closing(training.epochs()) as epochs:  # also where `on_epoch` raises an error
        for (loss,) in epochs:
            if on_epoch is not None and math.isfinite(loss):
                on_epoch(training.epoch - 1, loss)
            if checkpoints is not None:
                checkpoints.save_if_due(training)
    (fault,) = training.faults
    if fault is not None:
        raise fault


def train_together(
    nets: Sequence[nn.Module],
    split: Split,
    recipe: Recipe,
    *,
    seed: int,
    teacher: Teacher | None = None,
    on_epoch: Callable[[int, Sequence[float]], None] | None = None,
    device: str | torch.device = "cpu",
    num_classes: int | None = None,
    judge: Judge | None = None,
) -> list[TrainingError | None]:
    """Train several networks, each as `train` would, and read each batch once for all of them.

    A batch is mixed once, and the teacher is called once for it. A network whose loss is not finite
    stops at the end of that epoch, and the others continue.

    Args:
        nets: The networks, which are changed in place.
        split: The training images, or features of them.
        recipe: The recipe of all networks.
        seed: The seed of all networks.
        teacher: See `train`.
        on_epoch: Called with the number of each epoch (from 0) and the mean loss of each network,
            which is NaN where the network has stopped.
        device: The device to train on.
        num_classes: See `train`.
        judge: See `train`.

    Returns:
        The error of each network, or None.
    """
    training = Training(
        nets,
        split,
        recipe,
        seed=seed,
        teacher=teacher,
        device=device,
        num_classes=num_classes,
        judge=judge,
    )
    with closing(training.epochs()) as epochs:  # see `train`
        for losses in epochs:
            if on_epoch is not None:
                on_epoch(training.epoch - 1, losses)
    return training.faults


class Training:
    """The training of several networks, epoch by epoch; see `train_together`.

    Args:
        variants: A recipe for each network, in place of `recipe`. They may differ in the fields
            that a student alone reads, such as the learning rate.
        steps: The number of steps; by default that of all epochs. The learning rate falls to 0
            within these steps.
        on_step: Called with the number of steps done after each step.
        team: The processes that train together. Each has its share of the images, and the same
            networks.

    Attributes:
        epoch: The number of complete epochs.
    """

    def __init__(
        self,
        nets: Sequence[nn.Module],
        split: Split,
        recipe: Recipe,
        *,
        seed: int,
        teacher: Teacher | None = None,
        device: str | torch.device = "cpu",
        num_classes: int | None = None,
        judge: Judge | None = None,
        variants: Sequence[RunRecipe] | None = None,
        steps: int | None = None,
        on_step: Callable[[int], None] | None = None,
        team: Team = ALONE,
    ) -> None:
        self._recipe = recipe = with_all_fields(recipe)
        self._batches = mixed_images(split, recipe, num_classes, device)
        weights = class_weights_of(split, recipe)
        self._students = [
            _Student(net, variant, device, weights, team)
            for net, variant in zip(nets, variants or [recipe] * len(nets), strict=True)
        ]
        self._epoch_steps = steps_per_epoch(len(split), recipe.batch_size)
        self._steps = recipe.epochs * self._epoch_steps if steps is None else steps
        self._split, self._seed, self._teacher, self._device = split, seed, teacher, device
        self._num_classes, self._judge, self._team = num_classes, judge, team
        self._on_step = on_step
        self.epoch = 0

    @property
    def faults(self) -> list[TrainingError | None]:
        """The error of each network, or None."""
        return [student.fault for student in self._students]

    def epochs(self) -> Generator[list[float]]:
        """Train to the end, and give the mean losses after each epoch.

        In the end, the networks have the weights that are scored. An epoch depends on the state
        before it, on the seed and on its number, so a training that continues ends with the same
        weights as a training that was not interrupted.
        """
        recipe, steps, per_epoch = self._recipe, self._steps, self._epoch_steps
        step = self.epoch * per_epoch
        if isinstance(self._teacher, nn.Module):
            self._teacher.eval()
        with _kept_generators(self._device), repeatable():
            if recipe.linear_start and not self.epoch:
                self._start_linear()
            for epoch in range(self.epoch, -(-steps // per_epoch)):
                learning = [student for student in self._students if student.fault is None]
                if not learning:
                    break
                _seed_generators(self._device, self._seed, self._team.number, epoch)
                for student in learning:
                    student.begin_epoch()
                batches = self._batches.batches(recipe.batch_size, epoch=epoch, seed=self._seed)
                if epoch == steps // per_epoch:  # only a part of the last epoch
                    batches = islice(batches, steps % per_epoch)
                for batch in batches:
                    images, labels = (part.to(self._device, non_blocking=True) for part in batch)
                    soft_labels = teacher_logits(self._teacher, images, recipe)
                    for student in learning:
                        rate = lr_at(step, steps, student.recipe)
                        student.learn(images, labels, soft_labels, rate, step + 1)
                    step += 1
                    if self._on_step is not None:
                        self._on_step(step)
                losses = [student.end_epoch(epoch) for student in self._students]
                self.epoch = epoch + 1
                yield losses
        for student in self._students:
            student.finish(self._judge)

    def state(self) -> tuple[dict[str, Tensor], Score | None]:
        """Give the tensors of the only network after an epoch, and the score of its floor."""
        (student,) = self._students
        return student.tensors(), student.floor_score

    def load(self, epoch: int, tensors: Mapping[str, Tensor], floor_score: Score | None) -> None:
        """Restore the state of the only network after an epoch; see `state`.

        Raises RuntimeError where the tensors are those of another network.
        """
        (student,) = self._students
        student.load(tensors)
        if floor_score is not None:
            assert self._judge is not None, "a floor comes from a judge"
            student.load_floor(tensors, floor_score, self._judge.metric)
        self.epoch = epoch

    def _start_linear(self) -> None:
        """Begin with linear models as classifiers. Raises TrainingError without an argument."""
        if self._num_classes is None or self._judge is None:
            raise TrainingError(
                "num_classes and judge must be given for a recipe with linear_start"
            )
        for student in self._students:
            student.begin_linear(self._split, self._num_classes, self._judge)


class _Student(Student):
    """A network in training, the losses of the epoch so far, and the floor of its result.

    Attributes:
        fault: Why the training of this network has stopped; None where it has not.
    """

    def __init__(
        self,
        net: nn.Module,
        recipe: RunRecipe,
        device: str | torch.device,
        class_weights: Tensor | None,
        team: Team,
    ) -> None:
        super().__init__(net, recipe, device, class_weights, team)
        self.fault: TrainingError | None = None
        self._losses: list[Tensor] = []
        self._floor: Floor | None = None

    def begin_linear(self, images: Split, num_classes: int, judge: Judge) -> None:
        """Begin with a linear model as classifier, and keep this start in case the end is worse."""
        try:
            start = self.start_linear(
                images, num_classes, lambda: self._score(judge.images), metric=judge.metric
            )
        except TrainingError as error:
            self.fault = error
            return
        if start is not None:
            self._floor = Floor.take(self.net, start.score, judge.metric)

    @property
    def floor_score(self) -> Score | None:
        """The score of the start; None where the training has no floor."""
        return None if self._floor is None else self._floor.score

    def tensors(self) -> dict[str, Tensor]:
        """See `Student.tensors`; also the weights of the floor."""
        floor = {} if self._floor is None else self._floor.weights
        return super().tensors() | {FLOOR + name: value for name, value in floor.items()}

    def load_floor(self, tensors: Mapping[str, Tensor], score: Score, metric: Metric) -> None:
        """Restore the floor from the output of `tensors`."""
        self._floor = Floor(self.net, strip_prefix(FLOOR, tensors), score, metric)

    def learn(
        self, images: Tensor, labels: Tensor, soft_labels: Tensor | None, rate: float, number: int
    ) -> None:
        self._losses.append(self.step(images, labels, soft_labels, rate, number))

    def end_epoch(self, epoch: int) -> float:
        """The mean loss of the epoch. Only here does the host wait for the device's losses."""
        if self.fault is not None:
            return math.nan
        losses = (self.team.sum(torch.stack(self._losses)) / self.team.count).tolist()
        self._losses = []
        for step, loss in enumerate(losses):
            if not math.isfinite(loss):
                self.fault = DivergedError(
                    f"the loss became {loss} in epoch {epoch + 1}, step {step + 1}; "
                    "a lower learning rate may help"
                )
                return math.nan
        return math.fsum(losses) / len(losses)

    def finish(self, judge: Judge | None) -> None:
        """Give the network the weights that are scored, in eval mode."""
        if self.average is not None:
            self.net.load_state_dict(self.average.module.state_dict())
        self.team.spread_buffers(self.net)
        self.net.eval()
        if self.fault is not None or self._floor is None:
            return
        assert judge is not None
        end = None
        with suppress(TrainingError):
            end = self._score(judge.images)
        self._floor.restore_if_worse(end)

    def _score(self, images: Split) -> Score:
        return evaluate(
            self.net,
            images,
            device=self.device,
            channels_last=self.recipe.channels_last,
            total=self.team.sum,
        )


def estimate_norm_statistics(net: nn.Module, split: Split, recipe: Recipe, *, seed: int) -> None:
    """Estimate the statistics of all batch norms anew, as means over training batches.

    Args:
        net: The network, which is left in eval mode.
        split: The training images. A small split is passed over up to four times.
        recipe: Its batch size.
        seed: The seed of the batches.
    """
    device = next(net.parameters()).device
    move(net, device)
    images = min(NORM_IMAGES, NORM_PASSES * len(split))
    batches = chain.from_iterable(
        split.batches(recipe.batch_size, epoch=epoch, seed=derive_seed("statistics", seed))
        for epoch in range(-(-images // len(split)))
    )
    read = (batch for batch, _ in islice(batches, -(-images // recipe.batch_size)))
    with torch.no_grad(), repeatable():
        update_bn(read, net, device)
    net.eval()


@contextmanager
def _kept_generators(device: str | torch.device) -> Iterator[None]:
    """Restore torch's global generators afterwards, which dropout draws from."""
    device = torch.device(device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


def _seed_generators(device: str | torch.device, seed: int, process: int, epoch: int) -> None:
    """Seed torch's global generators for an epoch.

    process: the number of this process in its team, as each draws for itself.
    """
    device, own = torch.device(device), derive_seed("training", seed, process, epoch)
    torch.default_generator.manual_seed(own)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(own)
