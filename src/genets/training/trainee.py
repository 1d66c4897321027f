"""A network in training: with its optimizer, and the moving average of its weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn

from genets.training.distributed import Processes
from genets.training.loop import Teacher, move, train_mode
from genets.training.recipe import RunRecipe, loss_of, optimizer_of

NETWORK, AVERAGE, OPTIMIZER = "network.", "average.", "optimizer."


class Trainee:
    """Trains `net` in place, where several do so each with its share of every batch.

    Raises GenetsError if all its parameters are frozen.
    """

    def __init__(
        self, net: nn.Module, recipe: RunRecipe, num_classes: int, processes: Processes
    ) -> None:
        self.processes = processes
        self.device = processes.device
        move(net, self.device, channels_last=recipe.channels_last)
        self.net = net
        self.recipe = recipe
        self.optimizer = optimizer_of(net, recipe)
        forward: Any = torch.compile(net) if recipe.compile else net
        self._forward = processes.fabric.setup_module(forward)
        self._mixing = recipe.mixing(num_classes)
        self._average = (
            ModelEmaV3(net, decay=recipe.ema_decay, use_warmup=True) if recipe.ema_decay else None
        )

    @property
    def scored(self) -> nn.Module:
        """What is scored and handed over: the moving average, where there is one."""
        average = self._average
        return self.net if average is None else average.module

    def begin_epoch(self) -> None:
        train_mode(self.net)

    def begin_scoring(self) -> None:
        """Statistics of batch normalisation are each process's own while it trains."""
        for net in dict.fromkeys((self.net, self.scored)):
            self.processes.spread_buffers(net)

    def step(
        self, images: Tensor, labels: Tensor, teacher: Teacher | None, rate: float, number: int
    ) -> Tensor:
        """One step at a learning rate of `rate`; gives the loss, a tensor on the device.

        images: (N, 3, H, W), which mix-up changes in place; labels: (N,), int64. The loss is
        that of these; gradients are averaged over the processes.
        number: of the steps since the run began, from 1.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        if self._mixing is not None:
            images, labels = self._mixing(images, labels)
        with self.processes.fabric.autocast():
            soft = None
            if teacher is not None and self.recipe.soft_label_weight > 0:
                with torch.no_grad():
                    soft = teacher(images).float()
            loss = loss_of(self._forward(images).float(), labels, self.recipe, soft)
        self.processes.fabric.backward(loss)
        self.optimizer.step()
        if self._average is not None:
            self._average.update(self.net, step=number)
        return loss.detach()

    def on_device(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        layout = torch.channels_last if self.recipe.channels_last else torch.contiguous_format
        images = images.to(self.device, non_blocking=True, memory_format=layout)
        return images, labels.to(self.device, non_blocking=True)

    def is_finite(self) -> bool:
        """Whether every weight and every statistic still is a number."""
        return all(
            bool(value.isfinite().all())
            for net in dict.fromkeys((self.net, self.scored))
            for value in net.state_dict().values()
        )

    def tensors(self) -> dict[str, Tensor]:
        """All that the next step depends on, by names for `load`."""
        tensors = {NETWORK + name: value for name, value in self.net.state_dict().items()}
        if self._average is not None:
            average = self._average.module.state_dict()
            tensors |= {AVERAGE + name: value for name, value in average.items()}
        for index, entries in self.optimizer.state_dict()["state"].items():
            tensors |= {f"{OPTIMIZER}{index}.{name}": value for name, value in entries.items()
                        if isinstance(value, Tensor)}  # fmt: skip
        return tensors

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `tensors` gave."""
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
        """Fused SGD walks weights and momentum side by side: they must lie alike in memory."""
        for parameter, entries in self.optimizer.state.items():
            for name, value in entries.items():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    entries[name] = torch.empty_like(parameter).copy_(value)


def scored_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of the network that was scored, out of what `Trainee.tensors` gave."""
    return _under(AVERAGE, tensors) or _under(NETWORK, tensors)


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
