"""Recipes: how a network is trained, as plain values."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from genets.core.errors import GenetsError, shown

if TYPE_CHECKING:  # settings are words, and a wrong one must not wait for PyTorch
    import torch
    from torch import Tensor, nn

REFERENCE_BATCH = 256
PRECISIONS = ("fp32", "bf16")
MOST = 10**9  # epochs of a run, and images in a step
BELOW_1 = math.nextafter(1, 0)


@dataclass(frozen=True, slots=True)
class Recipe:
    """SGD with Nesterov momentum, warm-up and cosine decay (paper, section 5).

    epochs: passes over the training split.
    batch_size: images in a step.
    learning_rate: the peak for 256 images in a step; it grows linearly with the batch.
    momentum: Nesterov momentum; 0 is plain SGD.
    weight_decay: on every parameter, as in the paper, or, without
        `decay_norm_and_bias`, only on those with two or more dimensions.
    warmup_epochs: how long the rate rises linearly; may be a fraction.
    label_smoothing: share of the true label that is spread over all classes.
    soft_label_weight: share of the loss that follows the teacher, where there is one; the
        paper weights soft and true labels 1:1.
    precision: `fp32`, or `bf16` for autocast.
    """

    epochs: int
    batch_size: int = 64
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 4e-5
    decay_norm_and_bias: bool = True
    warmup_epochs: float = 0.0
    label_smoothing: float = 0.1
    soft_label_weight: float = 0.5
    precision: str = "fp32"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            self._check_count(name)
        self._check("learning_rate", math.ulp(0.0), math.inf, "above 0")
        self._check("weight_decay", 0, math.inf, "0 or above")
        for name in ("momentum", "label_smoothing"):
            self._check(name, 0, BELOW_1, "from 0 to below 1")
        self._check("soft_label_weight", 0, 1, "from 0 to 1")
        below_epochs = math.nextafter(self.epochs, 0)
        self._check("warmup_epochs", 0, below_epochs, f"from 0 to below epochs ({self.epochs})")
        self._check_flag("decay_norm_and_bias")
        if self.precision not in PRECISIONS:
            raise GenetsError(
                f"precision of training must be {' or '.join(PRECISIONS)}, "
                f"not {shown(self.precision)}"
            )

    def _check_count(self, name: str) -> None:
        value = getattr(self, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise GenetsError(f"{name} must be a positive integer, not {shown(value)}")
        if value > MOST:
            raise GenetsError(f"{name} must be at most {MOST}, not {shown(value)}")

    def _check(self, name: str, low: float, high: float, rule: str) -> None:
        value = getattr(self, name)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        # No infinity, nor an integer that no float can hold.
        if not (number and low <= value <= min(high, sys.float_info.max)):
            raise GenetsError(f"{name} must be {rule}, not {shown(value)}")

    def _check_flag(self, name: str) -> None:
        if not isinstance(getattr(self, name), bool):
            raise GenetsError(f"{name} must be true or false, not {shown(getattr(self, name))}")

    @property
    def peak_rate(self) -> float:
        """The highest learning rate, for this batch size."""
        return self.learning_rate * self.batch_size / REFERENCE_BATCH


def lr_at(step: int, steps: int, recipe: Recipe) -> float:
    """The learning rate of step `step` (from 0) of `steps`.

    Linear warm-up from the first step's peak/(warm-up steps + 1), then a half cosine from the
    peak towards 0.
    """
    warmup = min(round(steps * recipe.warmup_epochs / recipe.epochs), steps - 1)
    if step < warmup:
        return recipe.peak_rate * (step + 1) / (warmup + 1)
    progress = (step - warmup) / (steps - warmup)
    return recipe.peak_rate * 0.5 * (1 + math.cos(math.pi * progress))


def loss_of(
    logits: Tensor, labels: Tensor, recipe: Recipe, teacher_logits: Tensor | None = None
) -> Tensor:
    """Mean cross-entropy against the true labels, mixed with the teacher's soft labels.

    logits, teacher_logits: (N, classes); labels: (N,), or probabilities (N, classes).
    """
    import torch
    import torch.nn.functional as F

    true = F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
    if teacher_logits is None or recipe.soft_label_weight == 0:
        return true
    soft = F.cross_entropy(logits, teacher_logits.softmax(dim=1))
    return torch.lerp(true, soft, recipe.soft_label_weight)


def optimizer_of(net: nn.Module, recipe: Recipe) -> torch.optim.SGD:
    """SGD over the parameters that require gradients. Raises GenetsError if none does."""
    import torch

    trained = [p for p in net.parameters() if p.requires_grad]
    if not trained:
        raise GenetsError("the network has no parameter to train; all are frozen")
    groups: list[dict[str, Any]] = [{"params": trained}]
    if not recipe.decay_norm_and_bias:
        groups = [
            {"params": [p for p in trained if p.ndim >= 2]},
            {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
        ]
    return torch.optim.SGD(
        groups,
        lr=recipe.peak_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=recipe.momentum > 0,
        fused=True,
    )
