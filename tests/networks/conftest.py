"""Networks in which every weight and statistic changes the outputs."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

Randomise = Callable[[nn.Module], nn.Module]


@pytest.fixture
def randomise() -> Randomise:
    """Give a network random weights and batch norm statistics, which are equal at every call."""
    return _randomise


@torch.no_grad()
def _randomise(net: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(7)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_var is not None
            assert module.running_mean is not None
            for tensor in (module.weight, module.running_var):
                tensor.uniform_(0.5, 1.5, generator=generator)
            for tensor in (module.bias, module.running_mean):
                tensor.normal_(0, 0.2, generator=generator)
        elif isinstance(module, nn.Conv2d | nn.Linear):
            fan_in = module.weight[0].numel()
            module.weight.normal_(0, fan_in**-0.5, generator=generator)
            if module.bias is not None:
                module.bias.normal_(0, 0.1, generator=generator)
    return net.eval()
