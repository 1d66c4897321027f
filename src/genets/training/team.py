"""A team: the processes that train one network together, each on its share of every batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Team:
    """A team as one of its processes sees it; by default, this process is alone.

    Attributes:
        number: The number of this process, from 0.
        count: The number of processes.
        wrap: Gives the function that computes the outputs of a network.
        backward: Computes the gradients of a loss; they are averaged over the processes.
        sum: Gives the sum of a tensor over the processes.
        gather: Gives the values of all processes, in their order.
        spread_buffers: Copies the buffers of a network from the first process to the others.
    """

    number: int = 0
    count: int = 1
    wrap: Callable[[nn.Module], Any] = lambda net: net
    backward: Callable[[Tensor], object] = torch.autograd.backward
    sum: Callable[[Tensor], Tensor] = lambda tensor: tensor
    gather: Callable[[Any], list[Any]] = lambda value: [value]
    spread_buffers: Callable[[nn.Module], None] = lambda net: None

    @property
    def is_first(self) -> bool:
        return self.number == 0


ALONE = Team()
