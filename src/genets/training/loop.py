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
from genets.data import Split, derive_seed, steps_per_epoch
from genets.training.predictions import Predictions
from genets.training.recipe import Recipe, lr_at
from genets.training.score import Score
from genets.training.step import (
    Teacher,
    class_weights_of,
    make_optimizer,
    move,
    repeatable,
    teacher_logits,
    train_mode,
    train_step,
)

NORM_IMAGES = 1024  # the statistics of these images hardly differ from those of more


def train(
    net: nn.Module,
    split: Split,
    recipe: Recipe,
    *,
    seed: int,
    teacher: Teacher | None = None,
    on_epoch: Callable[[int, float], None] | None = None,
    device: str | torch.device = "cpu",
) -> None:
    """Train a network in place.

    The result depends only on the weights, the seed, the kind of device and, on a CPU, the number
    of threads; the global generators are not used.

    Args:
        net: The network. It is moved to `device`, with its channels last, and left there in eval
            mode. Frozen parameters do not change, nor do the statistics of layers whose
            parameters are all frozen.
        split: The training images.
        recipe: The recipe.
        seed: The seed of everything that is random.
        teacher: A network whose outputs are learned from; it is called without gradients.
        on_epoch: Called with the number of each epoch (from 0) and its mean loss.
        device: The device to train on.

    Raises:
        TrainingError: The loss is not finite.
    """

    def report(epoch: int, losses: Sequence[float]) -> None:
        if on_epoch is not None and math.isfinite(losses[0]):
            on_epoch(epoch, losses[0])

    (fault,) = train_together(
        [net], split, recipe, seed=seed, teacher=teacher, on_epoch=report, device=device
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
) -> list[TrainingError | None]:
    """Train several networks, each as `train` would, and read each batch once for all of them.

    The teacher is called once for each batch. A network whose loss is not finite stops at the end
    of that epoch, and the others continue.

    Args:
        nets: The networks, which are changed in place.
        split: The training images.
        recipe: The recipe of all networks.
        seed: The seed of all networks.
        teacher: See `train`.
        on_epoch: Called with the number of each epoch (from 0) and the mean loss of each network,
            which is NaN where the network has stopped.
        device: The device to train on.

    Returns:
        The error of each network, or None.
    """
    class_weights = class_weights_of(split, recipe)
    students = [_Student(net, recipe, device, class_weights) for net in nets]
    steps = recipe.epochs * steps_per_epoch(len(split), recipe.batch_size)
    if isinstance(teacher, nn.Module):
        teacher.eval()
    step = 0
    with _seeded(device, seed), repeatable():
        for epoch in range(recipe.epochs):
            learning = [student for student in students if student.fault is None]
            if not learning:
                break
            for batch in split.batches(recipe.batch_size, epoch=epoch, seed=seed):
                images, labels = (part.to(device, non_blocking=True) for part in batch)
                soft_labels = teacher_logits(teacher, images, recipe)
                for student in learning:
                    student.step(images, labels, soft_labels, lr_at(step, steps, recipe))
                step += 1
            losses = [student.end_epoch(epoch) for student in students]
            if on_epoch is not None:
                on_epoch(epoch, losses)
    for net in nets:
        net.eval()
    return [student.fault for student in students]


class _Student:
    """A network in training, its optimizer, and the losses of the epoch so far."""

    def __init__(
        self,
        net: nn.Module,
        recipe: Recipe,
        device: str | torch.device,
        class_weights: Tensor | None,
    ) -> None:
        move(net, device)
        self.class_weights = None if class_weights is None else class_weights.to(device)
        self.net = net
        self.recipe = recipe
        self.optimizer = make_optimizer(net, recipe)
        self.losses: list[Tensor] = []
        self.fault: TrainingError | None = None
        train_mode(net)

    def step(self, images: Tensor, labels: Tensor, soft_labels: Tensor | None, rate: float) -> None:
        loss = train_step(
            self.net,
            self.optimizer,
            images,
            labels,
            soft_labels,
            self.recipe,
            rate,
            class_weights=self.class_weights,
        )
        self.losses.append(loss)

    def end_epoch(self, epoch: int) -> float:
        """The mean loss of the epoch. Only here does the host wait for the device's losses."""
        if self.fault is not None:
            return math.nan
        losses = torch.stack(self.losses).tolist()
        self.losses = []
        for step, loss in enumerate(losses):
            if not math.isfinite(loss):
                self.fault = TrainingError(
                    f"the loss became {loss} in epoch {epoch + 1}, step {step + 1}; "
                    "a lower learning rate may help"
                )
                return math.nan
        return math.fsum(losses) / len(losses)


def estimate_norm_statistics(
    nets: Sequence[nn.Module],
    split: Split,
    recipe: Recipe,
    *,
    seed: int,
    images: int = NORM_IMAGES,
) -> None:
    """Estimate the statistics of all batch norms anew, as means over training batches.

    Args:
        nets: The networks, which are left in eval mode. The batches are read once for all of them.
        split: The training images. Passes over a small split are repeated.
        recipe: Its batch size.
        seed: The seed of the batches.
        images: The least number of images that the means are taken over.
    """
    for net in nets:
        move(net, next(net.parameters()).device)
    passes = -(-images // len(split))
    batches = chain.from_iterable(
        split.batches(recipe.batch_size, epoch=epoch, seed=derive_seed("statistics", seed))
        for epoch in range(passes)
    )
    read = [batch for batch, _ in islice(batches, -(-images // recipe.batch_size))]
    for net in nets:
        with torch.no_grad(), repeatable():
            update_bn(read, net)
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
