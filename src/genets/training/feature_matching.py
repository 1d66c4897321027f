"""Training of parts of a network to give the feature maps of another one.

A new super-block learns from the feature maps of the super-block that it replaces: each position
of a map is a target, so few images teach much (FitNets, Romero et al. 2015; block-wise
distillation, Li et al. 2020).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from genets.core.errors import TrainingError
from genets.data import Split, steps_per_epoch
from genets.training.step import autocast, move, repeatable, train_mode
from genets.training.strided_pointwise import find_strided_pointwise, subsampling_before

LEARNING_RATE = 0.01  # of AdamW; in a trial, the best of 0.003 and 0.01 for 20 epochs of 320 images
WEIGHT_DECAY = 0.01
LEAST_VARIANCE = 1e-3  # of a channel, so that a channel without values counts little


@dataclass(frozen=True)
class Learner:
    """A part of a network that learns feature maps.

    Attributes:
        part: Maps features (N, C, H, W) to feature maps (N, width, H', W').
        learned: The channels of the target that the part learns.
        places: The channels of the part that learn them, in the same order. The other channels
            are free.
    """

    part: nn.Module
    learned: Tensor
    places: Tensor


def match_features(
    learners: Sequence[Learner],
    target: nn.Module,
    split: Split,
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    precision: str = "fp32",
    device: str | torch.device = "cpu",
) -> list[TrainingError | None]:
    """Train several parts, each alone, to give the feature maps of a target.

    The loss is the mean squared error of each channel, divided by the channel's variance. The
    rate falls along half a cosine.

    Args:
        learners: The parts, which are changed in place and left in eval mode.
        target: Gives the feature maps; it is called in eval mode, without gradients.
        split: The inputs of target and parts.
        epochs: Passes over the split; 0 changes nothing.
        batch_size: Inputs in a step.
        seed: The seed of the order of the inputs.
        precision: See `Recipe`.
        device: The device to train on.

    Returns:
        For each part its error, where the loss was not finite, or None.
    """
    move(target, device)
    target.eval()
    for learner in learners:
        move(learner.part, device)
        train_mode(learner.part)
    optimizers = [
        torch.optim.AdamW(
            learner.part.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True
        )
        for learner in learners
    ]
    losses = torch.zeros(len(learners), device=device)
    steps, step = epochs * steps_per_epoch(len(split), batch_size), 0
    convolutions = [each for learner in learners for each in find_strided_pointwise(learner.part)]
    with repeatable(), subsampling_before(convolutions):
        for epoch in range(epochs):
            for inputs, _ in split.batches(batch_size, epoch=epoch, seed=seed):
                inputs = inputs.to(device, non_blocking=True)
                with torch.no_grad(), autocast(device, precision):
                    wanted = target(inputs).float()
                rate = LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * step / steps))
                for number, (learner, optimizer) in enumerate(
                    zip(learners, optimizers, strict=True)
                ):
                    optimizer.param_groups[0]["lr"] = rate
                    with autocast(device, precision):
                        loss = _loss(learner, learner.part(inputs).float(), wanted)
                    loss.backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
                    optimizer.zero_grad(set_to_none=True)
                    losses[number] += loss.detach()
                step += 1
    for learner in learners:
        learner.part.eval()
    return [
        None if math.isfinite(loss)
        else TrainingError(f"the loss of the feature maps became {loss}")
        for loss in losses.tolist()
    ]  # fmt: skip


def _loss(learner: Learner, given: Tensor, wanted: Tensor) -> Tensor:
    aim = wanted[:, learner.learned.to(wanted.device)]
    variance = aim.var((0, 2, 3), keepdim=True, correction=0) + LEAST_VARIANCE
    error = given[:, learner.places.to(given.device)] - aim
    return (error.square() / variance).mean()
