"""One training step: the loss, the optimizer and the gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genets.core.class_balance import balanced_weights
from genets.core.errors import GenetsError
from genets.data import Split
from genets.training.recipe import Recipe, with_all_fields
from genets.training.variants import is_decided

Teacher = Callable[[Tensor], Tensor]
"""Maps images (N, 3, H, W) to logits (N, classes)."""


def train_step(
    forward: Callable[[Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
    soft_labels: Tensor | None,
    recipe: Recipe,
    rate: float,
    *,
    class_weights: Tensor | None = None,
    backward: Callable[[Tensor], object] = torch.autograd.backward,
) -> Tensor:
    """Do one step of the optimizer.

    Args:
        forward: The network.
        optimizer: The optimizer of its parameters, whose gradients are empty before and after.
        images: (N, C, H, W), on the network's device.
        labels: Classes (N,), or probabilities (N, classes).
        soft_labels: The teacher's logits (N, classes), or None.
        recipe: The loss and the precision.
        rate: The learning rate.
        class_weights: See `class_weights_of`, on the device.
        backward: Computes the gradients of a loss.

    Returns:
        The loss, a scalar on the device.
    """
    for group in optimizer.param_groups:
        group["lr"] = rate
    try:
        with autocast(images.device, recipe.precision):
            logits = forward(images).float()
            loss = make_loss(logits, labels, recipe, soft_labels, class_weights)
        backward(loss)
        optimizer.step()
    finally:
        optimizer.zero_grad(set_to_none=True)
    return loss.detach()


def teacher_logits(teacher: Teacher | None, images: Tensor, recipe: Recipe) -> Tensor | None:
    """The teacher's outputs for a batch; None where the recipe does not use them."""
    if teacher is None or recipe.soft_label_weight == 0:
        return None
    with torch.no_grad(), autocast(images.device, recipe.precision):
        return teacher(images).float()


def class_weights_of(split: Split, recipe: Recipe) -> Tensor | None:
    """The weight of an image of each class, (classes,); None where all images count the same.

    The classes are those up to the last one that has an image in the split.
    """
    if recipe.class_weights == "none":
        return None
    counts = split.class_counts()
    return torch.tensor(balanced_weights([counts[label] for label in range(max(counts) + 1)]))


def make_loss(
    logits: Tensor,
    labels: Tensor,
    recipe: Recipe,
    teacher_logits: Tensor | None = None,
    class_weights: Tensor | None = None,
) -> Tensor:
    """Mean cross-entropy with the true labels, mixed with the teacher's soft labels.

    Args:
        logits: The outputs of the network, (N, classes).
        labels: True classes (N,), or probabilities (N, classes).
        recipe: The smoothing of the true labels, and the share of the soft ones.
        teacher_logits: The outputs of the teacher, (N, classes); None for true labels alone.
        class_weights: See `class_weights_of`; an image of a class without a weight counts 0.

    Returns:
        The loss, a scalar.
    """
    if class_weights is None:
        true = F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
    else:
        true = _weighted_loss(logits, labels, class_weights, recipe.label_smoothing)
    if teacher_logits is None or recipe.soft_label_weight == 0:
        return true
    soft = F.cross_entropy(logits, teacher_logits.softmax(dim=1))
    return torch.lerp(true, soft, recipe.soft_label_weight)


def _weighted_loss(logits: Tensor, labels: Tensor, weights: Tensor, smoothing: float) -> Tensor:
    """The mean over the images of weight times cross-entropy.

    A mixed image counts as its parts do: each part with the weight of its class. Smoothing changes
    the label of an image and not its weight. (PyTorch's own weights also weight the smoothed part
    of the label, class by class, which would draw every image to the rare classes.)

    The sum is divided by the number of images, and not, as in PyTorch, by the weights of the batch.
    An image then counts the same in every batch: also in a batch of one class, and in the share of
    a batch that one of several processes has.
    """
    classes = logits.shape[1]
    shares = F.one_hot(labels, classes) if labels.ndim == 1 else labels
    weights = F.pad(weights, (0, classes - len(weights)))
    likelihood = logits.log_softmax(1)
    likelihood = torch.lerp(likelihood, likelihood.mean(1, keepdim=True), smoothing)
    return -(shares * weights * likelihood).sum(1).mean()


def make_optimizer(net: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The optimizer of the recipe, for the parameters that require gradients.

    Args:
        net: The network to train.
        recipe: The optimizer, its learning rate, momentum and weight decay.

    Raises:
        GenetsError: All parameters are frozen, or a field of the recipe is still `auto`.
    """
    if not is_decided(with_all_fields(recipe)):
        raise GenetsError(
            "learning_rate and norm_statistics must not be auto here; `decide_fields` of "
            "genets.training.short_trainings decides them"
        )
    trained = [p for p in net.parameters() if p.requires_grad]
    if not trained:
        raise GenetsError("the network has no parameter to train; all are frozen")
    groups: list[dict[str, Any]] = [{"params": trained}]
    if not recipe.decay_norm_and_bias:
        groups = [
            {"params": [p for p in trained if p.ndim >= 2]},
            {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
        ]
    rate, decay = recipe.peak_rate, recipe.weight_decay
    if recipe.optimizer == "adamw":
        betas = (recipe.momentum, 0.999)
        return torch.optim.AdamW(groups, rate, betas, weight_decay=decay, fused=True)
    return torch.optim.SGD(
        groups, rate, recipe.momentum, weight_decay=decay, nesterov=recipe.momentum > 0, fused=True
    )


def move(net: nn.Module, device: str | torch.device, *, channels_last: bool = True) -> None:
    """Move a network to a device, in place."""
    net.to(device)
    if channels_last:
        net.to(memory_format=torch.channels_last)


def train_mode(net: nn.Module, norm_statistics: str = "batch") -> None:
    """Set train mode, except for layers whose own parameters are all frozen.

    Args:
        net: The network.
        norm_statistics: See `Recipe`.
    """
    net.train()
    for module in net.modules():
        if norm_statistics == "frozen" and isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
        own = list(module.parameters(recurse=False))
        if own and not any(parameter.requires_grad for parameter in own):
            module.eval()


def autocast(device: str | torch.device, precision: str) -> torch.autocast:
    """A context that computes safe operations in bf16 if that is the precision."""
    return torch.autocast(
        torch.device(device).type, dtype=torch.bfloat16, enabled=precision == "bf16"
    )


@contextmanager
def repeatable() -> Iterator[None]:
    """Let cuDNN use only algorithms that give the same numbers in every run, alone or in a group.

    By default, some of its gradients are sums in an order that changes from run to run.
    """
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic = before
