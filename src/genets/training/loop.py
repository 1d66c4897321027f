"""The training loop, for one network or for several at once, and scoring."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from genets.core.class_balance import balanced_accuracy, balanced_images
from genets.core.errors import TrainingError
from genets.data import ImageData, Split, derive_seed, steps_per_epoch, with_augmentation
from genets.training.mixing import mixed_images
from genets.training.predictions import Predictions
from genets.training.recipe import Recipe, RunRecipe, lr_at, with_all_fields
from genets.training.score import Score
from genets.training.step import Teacher, class_weights_of, move, repeatable, teacher_logits
from genets.training.student import Student, rank

NORM_IMAGES = 1024  # the statistics of these images hardly differ from those of more
NORM_PASSES = 4  # further passes over the same images add little


def train_on(
    net: nn.Module,
    data: ImageData,
    recipe: Recipe,
    *,
    seed: int,
    teacher: Teacher | None = None,
    on_epoch: Callable[[int, float], None] | None = None,
    device: str | torch.device = "cpu",
) -> None:
    """Train a network in place on a data set, with the augmentation of the recipe; see `train`."""
    augmented = with_augmentation(data, with_all_fields(recipe).augmentation())
    train(
        net,
        augmented.train,
        recipe,
        seed=seed,
        teacher=teacher,
        on_epoch=on_epoch,
        device=device,
        num_classes=data.num_classes,
        validation=data.validation,
    )


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
    validation: Split | None = None,
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
            With `linear_start`, it ends as the better of start and end on the validation images.
        seed: The seed of everything that is random.
        teacher: A network whose outputs are learned from; it is called without gradients.
        on_epoch: Called with the number of each epoch (from 0) and its mean loss.
        device: The device to train on.
        num_classes: The number of classes, for mix-up, CutMix and a linear start.
        validation: The validation images, for a linear start.

    Raises:
        TrainingError: The loss is not finite, or the recipe needs an argument that is missing.
    """

    def report(epoch: int, losses: Sequence[float]) -> None:
        if on_epoch is not None and math.isfinite(losses[0]):
            on_epoch(epoch, losses[0])

    (fault,) = train_together(
        [net],
        split,
        recipe,
        seed=seed,
        teacher=teacher,
        on_epoch=report,
        device=device,
        num_classes=num_classes,
        validation=validation,
    )
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
    validation: Split | None = None,
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
        validation: See `train`.

    Returns:
        The error of each network, or None.
    """
    recipe = with_all_fields(recipe)
    batches = mixed_images(split, recipe, num_classes, device)
    weights = class_weights_of(split, recipe)
    students = [_Student(net, recipe, device, weights) for net in nets]
    steps = recipe.epochs * steps_per_epoch(len(split), recipe.batch_size)
    if isinstance(teacher, nn.Module):
        teacher.eval()
    step = 0
    with _seeded(device, seed), repeatable():
        if recipe.linear_start:
            _start_linear(students, split, num_classes, validation)
        for epoch in range(recipe.epochs):
            learning = [student for student in students if student.fault is None]
            if not learning:
                break
            for student in learning:
                student.begin_epoch()
            for batch in batches.batches(recipe.batch_size, epoch=epoch, seed=seed):
                images, labels = (part.to(device, non_blocking=True) for part in batch)
                soft_labels = teacher_logits(teacher, images, recipe)
                for student in learning:
                    student.learn(images, labels, soft_labels, lr_at(step, steps, recipe), step + 1)
                step += 1
            losses = [student.end_epoch(epoch) for student in students]
            if on_epoch is not None:
                on_epoch(epoch, losses)
    for student in students:
        student.finish(validation)
    return [student.fault for student in students]


def _start_linear(
    students: Sequence[_Student],
    split: Split,
    num_classes: int | None,
    validation: Split | None,
) -> None:
    """Begin with linear models as classifiers. Raises TrainingError where an argument is None."""
    if num_classes is None or validation is None:
        raise TrainingError(
            "num_classes and validation must be given for a recipe with linear_start"
        )
    for student in students:
        student.begin_linear(split, num_classes, validation)


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
    ) -> None:
        super().__init__(net, recipe, device, class_weights)
        self.fault: TrainingError | None = None
        self._losses: list[Tensor] = []
        self._floor: tuple[Score, dict[str, Tensor]] | None = None

    def begin_linear(self, images: Split, num_classes: int, validation: Split) -> None:
        """Begin with a linear model as classifier; the training never ends below its score."""
        try:
            start = self.start_linear(images, num_classes, lambda: self._score(validation))
        except TrainingError as error:
            self.fault = error
            return
        if start is not None:
            state = {name: value.clone() for name, value in self.net.state_dict().items()}
            self._floor = start.score, state

    def learn(
        self, images: Tensor, labels: Tensor, soft_labels: Tensor | None, rate: float, number: int
    ) -> None:
        self._losses.append(self.step(images, labels, soft_labels, rate, number))

    def end_epoch(self, epoch: int) -> float:
        """The mean loss of the epoch. Only here does the host wait for the device's losses."""
        if self.fault is not None:
            return math.nan
        losses = torch.stack(self._losses).tolist()
        self._losses = []
        for step, loss in enumerate(losses):
            if not math.isfinite(loss):
                self.fault = TrainingError(
                    f"the loss became {loss} in epoch {epoch + 1}, step {step + 1}; "
                    "a lower learning rate may help"
                )
                return math.nan
        return math.fsum(losses) / len(losses)

    def finish(self, validation: Split | None) -> None:
        """Give the network the weights that are scored, in eval mode."""
        if self.average is not None:
            self.net.load_state_dict(self.average.module.state_dict())
        self.net.eval()
        if self.fault is not None or self._floor is None:
            return
        assert validation is not None
        start, state = self._floor
        try:
            is_worse = rank(self._score(validation)) < rank(start)
        except TrainingError:  # the start is better than weights without a score
            is_worse = True
        if is_worse:
            self.net.load_state_dict(state)

    def _score(self, validation: Split) -> Score:
        channels_last = self.recipe.channels_last
        return evaluate(self.net, validation, device=self.device, channels_last=channels_last)


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


def evaluate(
    net: nn.Module,
    split: Split,
    batch_size: int = 256,
    device: str | torch.device = "cpu",
    *,
    channels_last: bool = True,
    total: Callable[[Tensor], Tensor] = lambda sums: sums,
) -> Score:
    """Score a network on every image of a split.

    Args:
        net: The network; it is moved to `device` and left in eval mode.
        split: The images.
        batch_size: Images that are processed together.
        device: The device to compute on.
        channels_last: Whether to lay the weights out with their channels last; False leaves the
            layout as it is.
        total: Adds up sums over processes, where each process has a share of the split.

    Returns:
        The score.

    Raises:
        TrainingError: The outputs of the network are not finite, or no image can be read.
    """
    score, _ = _evaluate(net, split, batch_size, device, channels_last, total, keep=False)
    return score


def evaluate_images(
    net: nn.Module,
    split: Split,
    batch_size: int = 256,
    device: str | torch.device = "cpu",
) -> tuple[Score, Predictions]:
    """Score a network as `evaluate` does, and give its prediction for every image."""
    return _evaluate(net, split, batch_size, device, True, lambda sums: sums, keep=True)


def _evaluate(
    net: nn.Module,
    split: Split,
    batch_size: int,
    device: str | torch.device,
    channels_last: bool,
    total: Callable[[Tensor], Tensor],
    *,
    keep: bool,
) -> tuple[Score, Predictions]:
    """See `evaluate`. keep: whether the predictions are kept; otherwise they are empty."""
    move(net, device, channels_last=channels_last)
    net.eval()
    sums = torch.zeros(4, dtype=torch.float64, device=device)
    by_class = torch.zeros(2, 0, dtype=torch.float64, device=device)  # images, and right ones
    pairs = [torch.zeros(2, 0, dtype=torch.int64, device=device)]
    for batch, labels in split.batches(batch_size):
        # Not around the loop: tensors made in inference mode, such as images that a split caches,
        # cannot be trained on.
        with torch.inference_mode(), repeatable():
            logits = net(batch.to(device, non_blocking=True)).float()
            labels = labels.to(device, non_blocking=True)
            best = logits.argmax(dim=1)
            right = (best == labels).to(sums)
            sums[0] += F.cross_entropy(logits, labels, reduction="sum")
            sums[1] += len(labels)
            if not by_class.numel():
                by_class = sums.new_zeros(2, logits.shape[1])
                sums[2:] = sums.new_tensor([logits.shape[1], 1])
            by_class[0].index_add_(0, labels, torch.ones_like(right))
            by_class[1].index_add_(0, labels, right)
            if keep:
                pairs.append(torch.stack([labels, best]))
    entropy, images, outputs, parts = total(sums).tolist()
    if not images:
        raise TrainingError("there is no score: none of the images could be read")
    if not by_class.numel():  # other processes have all images
        by_class = sums.new_zeros(2, round(outputs / parts))
    # A copy, because a tensor made in inference mode cannot be changed outside it.
    counts, right_counts = total(by_class.clone()).tolist()
    score = Score(
        sum(right_counts) / images,
        entropy / images,
        int(images),
        balanced_accuracy(right_counts, counts),
        balanced_images(counts),
        tuple(zip(counts, right_counts, strict=True)),
    )
    if not math.isfinite(score.cross_entropy):
        raise TrainingError(
            f"there is no score: the network's cross-entropy is {score.cross_entropy}"
        )
    return score, Predictions(*torch.cat(pairs, dim=1).cpu().numpy())


@contextmanager
def _seeded(device: str | torch.device, seed: int) -> Iterator[None]:
    """Seed torch's global generators, which dropout draws from, and restore them afterwards."""
    device = torch.device(device)
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(derive_seed("training", seed))
        if devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(derive_seed("training", seed))
        yield
