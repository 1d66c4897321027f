"""Training and scoring a network.

What a frozen network makes of a split's images, for networks that go on from there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genets.core.errors import TrainingError
from genets.data import Batch, Split, derive_seed, steps_per_epoch
from genets.training.recipe import Recipe, loss_of, lr_at, optimizer_of
from genets.training.score import Score

Teacher = Callable[[Tensor], Tensor]


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
    """Train `net` in place, on `device`, and leave it there in eval mode, channels last.

    Frozen parameters stay as they are, and so do the statistics of layers whose parameters are
    all frozen. The result is determined by the weights, `seed`, and on a CPU the number of
    threads; the global generators are not touched.
    teacher: from images (N, 3, H, W) to logits (N, classes), called without gradients.
    on_epoch: called with the epoch (from 0) and its mean loss.
    Raises TrainingError when the loss is no longer finite.
    """

    def tell(epoch: int, losses: Sequence[float]) -> None:
        if on_epoch is not None and math.isfinite(losses[0]):
            on_epoch(epoch, losses[0])

    (fault,) = train_together(
        [net], split, recipe, seed=seed, teacher=teacher, on_epoch=tell, device=device
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
    """Train each network as `train` would alone, reading each batch once for all of them.

    The teacher too is asked once per batch. A network whose loss is no longer finite stops at
    the end of that epoch; the others go on. Gives for each network what went wrong, or None.
    on_epoch: called with the epoch and each network's mean loss, NaN for those that stopped.
    """
    students = [_Student(net, recipe, device) for net in nets]
    steps = recipe.epochs * steps_per_epoch(len(split), recipe.batch_size)
    if isinstance(teacher, nn.Module):
        teacher.eval()
    step = 0
    with _seeded(device, seed):
        for epoch in range(recipe.epochs):
            learning = [student for student in students if student.fault is None]
            if not learning:
                break
            for batch in split.batches(recipe.batch_size, epoch=epoch, seed=seed):
                images, labels = (part.to(device, non_blocking=True) for part in batch)
                soft = _soft_labels(teacher, images, recipe)
                for student in learning:
                    student.step(images, labels, soft, lr_at(step, steps, recipe))
                step += 1
            losses = [student.end_epoch(epoch) for student in students]
            if on_epoch is not None:
                on_epoch(epoch, losses)
    for net in nets:
        net.eval()
    return [student.fault for student in students]


def _soft_labels(teacher: Teacher | None, images: Tensor, recipe: Recipe) -> Tensor | None:
    if teacher is None or recipe.soft_label_weight == 0:
        return None
    with torch.no_grad(), autocast(images.device, recipe.precision):
        return teacher(images)


class _Student:
    """A network in training, its optimizer, and the losses of the epoch so far."""

    def __init__(self, net: nn.Module, recipe: Recipe, device: str | torch.device) -> None:
        move(net, device)
        self.net = net
        self.recipe = recipe
        self.optimizer = optimizer_of(net, recipe)
        self.losses: list[Tensor] = []
        self.fault: TrainingError | None = None
        train_mode(net)

    def step(self, images: Tensor, labels: Tensor, soft: Tensor | None, rate: float) -> None:
        """One step of the optimizer, at a learning rate of `rate`."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with autocast(images.device, self.recipe.precision):
            loss = loss_of(self.net(images).float(), labels, self.recipe, soft)
        torch.autograd.backward(loss)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.losses.append(loss.detach())

    def end_epoch(self, epoch: int) -> float:
        """The epoch's mean loss; fetched only here, as that makes the host wait for the device."""
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


def evaluate(
    net: nn.Module,
    split: Split,
    batch_size: int = 256,
    device: str | torch.device = "cpu",
    *,
    channels_last: bool = True,
    total: Callable[[Tensor], Tensor] = lambda sums: sums,
) -> Score:
    """Score `net`, moved to `device` and left in eval mode, on every image of `split`.

    channels_last: how weights lie in memory from then on; else they stay as they are.
    total: adds up sums over processes, where each has its share of the split.
    Raises TrainingError: the network's outputs are not finite, or no image can be read.
    """
    move(net, device, channels_last=channels_last)
    net.eval()
    sums = torch.zeros(3, dtype=torch.float64, device=device)
    for batch, labels in split.batches(batch_size):
        # Only here: what is made in inference mode, such as cached images, cannot be trained on.
        with torch.inference_mode():
            logits = net(batch.to(device, non_blocking=True)).float()
            labels = labels.to(device, non_blocking=True)
            sums[0] += (logits.argmax(dim=1) == labels).sum()
            sums[1] += F.cross_entropy(logits, labels, reduction="sum")
            sums[2] += len(labels)
    correct, entropy, images = total(sums).tolist()
    if not images:
        raise TrainingError("there is no score: none of the images could be read")
    score = Score(correct / images, entropy / images, int(images))
    if not math.isfinite(score.cross_entropy):
        raise TrainingError(f"the network's cross-entropy is {score.cross_entropy}, no score")
    return score


def move(net: nn.Module, device: str | torch.device, *, channels_last: bool = True) -> None:
    """Move `net` to the device, in place."""
    net.to(device)
    if channels_last:
        net.to(memory_format=torch.channels_last)


def train_mode(net: nn.Module) -> None:
    """Train mode, but for layers whose own parameters are all frozen."""
    net.train()
    for module in net.modules():
        own = list(module.parameters(recurse=False))
        if own and not any(parameter.requires_grad for parameter in own):
            module.eval()


def autocast(device: str | torch.device, precision: str) -> torch.autocast:
    """Computes in bf16 where it is safe, if that is the precision."""
    return torch.autocast(
        torch.device(device).type, dtype=torch.bfloat16, enabled=precision == "bf16"
    )


@contextmanager
def _seeded(device: str | torch.device, seed: int) -> Iterator[None]:
    """The generators that dropout and the like draw from, seeded here and restored after."""
    device = torch.device(device)
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(derive_seed("training", seed))
        if devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(derive_seed("training", seed))
        yield


class FeatureSplit:
    """A split whose images are feature maps, made once per batch by a frozen network.

    The passes of evaluation are all alike, so their features are kept.
    """

    def __init__(self, split: Split, frozen: nn.Module, device: str | torch.device = "cpu") -> None:
        self.split = split
        self.frozen = frozen.to(device).eval()
        self.device = device
        self._kept: dict[int, list[Batch]] = {}

    def __len__(self) -> int:
        return len(self.split)

    def batches(
        self, batch_size: int, *, epoch: int | None = None, seed: int = 0
    ) -> Iterator[Batch]:
        """See `Split.batches`; features (N, C, H, W) instead of images, on the device."""
        if epoch is not None:
            yield from map(self._features, self.split.batches(batch_size, epoch=epoch, seed=seed))
            return
        if batch_size not in self._kept:
            self._kept[batch_size] = [*map(self._features, self.split.batches(batch_size))]
        yield from self._kept[batch_size]

    def _features(self, batch: Batch) -> Batch:
        images, labels = batch
        with torch.no_grad():
            return self.frozen(images.to(self.device, non_blocking=True)), labels
