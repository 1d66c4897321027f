"""A network in training, with its optimizer and the moving average of its weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn

from genets.training.linear_start import set_classifier
from genets.training.recipe import RunRecipe
from genets.training.run.distributed import Processes
from genets.training.step import (
    Teacher,
    make_optimizer,
    move,
    teacher_logits,
    train_mode,
    train_step,
)

NETWORK, AVERAGE, OPTIMIZER = "network.", "average.", "optimizer."


class TrainingState:
    """Everything that a training step changes; a checkpoint stores its tensors.

    Args:
        net: The network, which is trained in place. Several processes each train on a share of
            every batch.
        recipe: The recipe.
        num_classes: The number of classes.
        processes: The processes that train together.
        class_weights: See `class_weights_of`; of the whole training split.

    Raises:
        GenetsError: All parameters of the network are frozen.
    """

    def __init__(
        self,
        net: nn.Module,
        recipe: RunRecipe,
        num_classes: int,
        processes: Processes,
        class_weights: Tensor | None = None,
    ) -> None:
        self.processes = processes
        self.device = processes.device
        move(net, self.device, channels_last=recipe.channels_last)
        self.net = net
        self.recipe = recipe
        self.optimizer = make_optimizer(net, recipe)
        forward: Any = torch.compile(net) if recipe.compile else net
        self._forward = processes.fabric.setup_module(forward)
        self._mixing = recipe.mixing(num_classes)
        self._class_weights = None if class_weights is None else class_weights.to(self.device)
        self._average = (
            ModelEmaV3(net, decay=recipe.ema_decay, use_warmup=True) if recipe.ema_decay else None
        )

    @property
    def scored(self) -> nn.Module:
        """The network that is scored and saved: the moving average, where there is one."""
        average = self._average
        return self.net if average is None else average.module

    def start_classifier(self, weight: Tensor, bias: Tensor) -> None:
        """Begin with this classifier; the average of the weights begins anew.

        Args:
            weight: (classes, features).
            bias: (classes,).
        """
        set_classifier(self.net, weight, bias)
        if self._average is not None:
            self._average.set(self.net)

    def begin_epoch(self) -> None:
        train_mode(self.net, self.recipe.norm_statistics)

    def begin_scoring(self) -> None:
        """Make batch norm statistics equal; while training, each process has its own."""
        for net in dict.fromkeys((self.net, self.scored)):
            self.processes.spread_buffers(net)

    def step(
        self, images: Tensor, labels: Tensor, teacher: Teacher | None, rate: float, number: int
    ) -> Tensor:
        """Do one step; gradients are averaged over the processes.

        Args:
            images: (N, 3, H, W), which mix-up changes in place.
            labels: (N,), int64.
            teacher: The teacher, or None.
            rate: The learning rate.
            number: The number of this step since the run began, from 1.

        Returns:
            The loss of this process's images, a scalar on the device.
        """
        if self._mixing is not None:
            images, labels = self._mixing(images, labels)
        soft_labels = teacher_logits(teacher, images, self.recipe)
        loss = train_step(
            self._forward,
            self.optimizer,
            images,
            labels,
            None if soft_labels is None else soft_labels.float(),
            self.recipe,
            rate,
            class_weights=self._class_weights,
            backward=self.processes.fabric.backward,
        )
        if self._average is not None:
            self._average.update(self.net, step=number)
        return loss

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

    def tensors(self) -> dict[str, Tensor]:
        """All tensors that the next step depends on, by the names that `load` reads."""
        tensors = {NETWORK + name: value for name, value in self.net.state_dict().items()}
        if self._average is not None:
            average = self._average.module.state_dict()
            tensors |= {AVERAGE + name: value for name, value in average.items()}
        for index, entries in self.optimizer.state_dict()["state"].items():
            tensors |= {f"{OPTIMIZER}{index}.{name}": value for name, value in entries.items()
                        if isinstance(value, Tensor)}  # fmt: skip
        return tensors

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the state from what `tensors` returned."""
        self.net.load_state_dict(_under(NETWORK, tensors))
        if self._average is not None:
            self._average.module.load_state_dict(_under(AVERAGE, tensors))
        packed = self.optimizer.state_dict()
        packed["state"] = {}
        for key, value in _under(OPTIMIZER, tensors).items():
            index, _, name = key.partition(".")
            packed["state"].setdefault(int(index), {})[name] = value
        self.optimizer.load_state_dict(packed)
        self._restore_layout()

    def _restore_layout(self) -> None:
        """Fused SGD needs the momentum in the same memory layout as the weights."""
        for parameter, entries in self.optimizer.state.items():
            for name, value in entries.items():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    entries[name] = torch.empty_like(parameter).copy_(value)


def scored_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of the network that was scored, from what `TrainingState.tensors` returned."""
    return _under(AVERAGE, tensors) or _under(NETWORK, tensors)


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
