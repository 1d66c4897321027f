"""How many CPU threads a training is worth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from genets.networks import count

# Forward multiply-adds of one step below which threads mostly wait for each other: at 0.1e9
# (`master_small`, 16 pixels, batch 64) two were no faster than one, at 0.4e9 1.5 times as
# fast. Where another program wants the same cores, waiting costs ten times what is computed.
WORTH_THREADS = 0.25e9


@contextmanager
def fitting_threads(net: nn.Module, resolution: int, batch_size: int) -> Iterator[None]:
    """One CPU thread for a network with small steps, all of them for others."""
    before = torch.get_num_threads()
    if count(net, resolution).multiply_adds * batch_size < WORTH_THREADS:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
