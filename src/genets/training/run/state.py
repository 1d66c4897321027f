"""The state of a run: the network, the optimizer, the average of the weights, the position."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from genets.training.recipe import RunRecipe
from genets.training.run.distributed import Processes
from genets.training.run.epoch_log import EpochRecord
from genets.training.step import Teacher, teacher_logits
from genets.training.student import AVERAGE, NETWORK, Student, strip_prefix


class TrainingState(Student):
    """Everything that a training step changes; a checkpoint stores its tensors.

    Args:
        net: The network, which is trained in place. Several processes each train on a share of
            every batch.
        recipe: The recipe.
        processes: The processes that train together.
        class_weights: See `class_weights_of`; of the whole training split.

    Raises:
        GenetsError: All parameters of the network are frozen.
    """

    def __init__(
        self,
        net: nn.Module,
        recipe: RunRecipe,
        processes: Processes,
        class_weights: Tensor | None = None,
    ) -> None:
        team = own = processes.team
        if recipe.compile:
            team = replace(own, wrap=lambda net: own.wrap(cast(Any, torch.compile(net))))
        super().__init__(net, recipe, processes.device, class_weights, team)
        self.processes = processes

    def begin_scoring(self) -> None:
        """Make batch norm statistics equal; while training, each process has its own."""
        for net in dict.fromkeys((self.net, self.scored)):
            self.team.spread_buffers(net)

    def learn(
        self, images: Tensor, labels: Tensor, teacher: Teacher | None, rate: float, number: int
    ) -> Tensor:
        """Do one step; gradients are averaged over the processes.

        Args:
            images: (N, 3, H, W).
            labels: Classes (N,), or probabilities (N, classes).
            teacher: The teacher, or None.
            rate: The learning rate.
            number: The number of this step since the run began, from 1.

        Returns:
            The loss of this process's images, a scalar on the device.
        """
        return self.step(images, labels, teacher_logits(teacher, images, self.recipe), rate, number)

    def on_device(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        layout = torch.channels_last if self.recipe.channels_last else torch.contiguous_format
        images = images.to(self.device, non_blocking=True, memory_format=layout)
        return images, labels.to(self.device, non_blocking=True)

    def is_finite(self) -> bool:
        """Whether all weights and statistics are finite numbers."""
        flags = [
            value.isfinite().all()
            for net in dict.fromkeys((self.net, self.scored))
            for value in net.state_dict().values()
        ]
        return bool(torch.stack(flags).all())  # the host waits for a GPU once


def scored_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of the network that was scored, from the output of `TrainingState.tensors`."""
    return strip_prefix(AVERAGE, tensors) or strip_prefix(NETWORK, tensors)


@dataclass
class Position:
    """The position of a run in its recipe; a checkpoint stores it as its state.

    Attributes:
        epoch: Complete epochs.
        step: Steps of the next epoch.
        losses: The losses of these steps.
        seconds: The duration of these steps.
        records: The records of the complete epochs.
        best: The number of complete epochs after which the validation score was best; None
            before the first score.
    """

    epoch: int = 0
    step: int = 0
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0
    records: list[EpochRecord] = field(default_factory=list)
    best: int | None = None

    def best_record(self) -> EpochRecord | None:
        """The record of the best epoch; None before the first score."""
        return next((record for record in self.records if record.epoch == self.best), None)
