"""Training on a data set: the recipe is decided first, and gives the augmentation of the images."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import nn

from genets.data import ImageData, with_augmentation
from genets.training.floor import Judge
from genets.training.loop import train
from genets.training.recipe import Recipe
from genets.training.score import Metric
from genets.training.short_trainings import decide_fields
from genets.training.step import Teacher

if TYPE_CHECKING:
    from genets.training.epoch_checkpoints import EpochCheckpoints


def train_on(
    net: nn.Module,
    data: ImageData,
    recipe: Recipe,
    *,
    seed: int,
    teacher: Teacher | None = None,
    on_epoch: Callable[[int, float], None] | None = None,
    device: str | torch.device = "cpu",
    metric: Metric = Metric.TOP1,
    checkpoints: EpochCheckpoints | None = None,
) -> None:
    """Train a network in place on a data set, with the augmentation of the recipe; see `train`.

    Fields of the recipe that are `auto` are decided first; see `decide_fields`.
    """
    whole = decide_fields(net, data, recipe, seed=seed, teacher=teacher, device=device)
    augmented = with_augmentation(data, whole.augmentation())
    train(
        net,
        augmented.train,
        whole,
        seed=seed,
        teacher=teacher,
        on_epoch=on_epoch,
        device=device,
        num_classes=data.num_classes,
        judge=Judge(data.validation, metric),
        checkpoints=checkpoints,
    )
