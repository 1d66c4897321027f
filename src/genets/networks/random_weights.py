"""Weights for timing: drawn where the network is, so that the host draws none.

A latency does not depend on the weights, with three exceptions. Multiplying zeros takes less power
and, on some devices, less time; so do infinite values. Denormal values take more time on a CPU.
"""

from __future__ import annotations

import math
from itertools import chain

import torch
from torch import nn

# A block adds its branch to its input, so the values grow from block to block. With this weight of
# the norms, values after 40 blocks are below 1000, and fp16 holds values up to 65504.
NORM_WEIGHT = 0.7
SMALL_STD = 0.1  # of biases and running means


def materialise(network: nn.Module, device: str | torch.device, seed: int) -> nn.Module:
    """Give a network on torch's meta device tensors on `device`, with weights for timing.

    Args:
        network: A network that `is_fillable`; it is changed and returned.
        device: A CPU or CUDA device, or the meta device, on which nothing is drawn.
        seed: Seed of the weights.
    """
    if torch.device(device).type == "meta":
        return network
    fill_weights(network.to_empty(device=device), seed)
    return network


@torch.no_grad()
def fill_weights(network: nn.Module, seed: int) -> None:
    """Replace all parameters, and the running statistics of norms, in place.

    Weights are normal with He's standard deviation by inputs, so that each layer keeps the size of
    the values. The same seed gives other values on another kind of device.

    Args:
        network: A network on a CPU or CUDA device.
        seed: Seed of the generator.
    """
    tensors = chain(network.parameters(), network.buffers())
    device = next((tensor.device for tensor in tensors), torch.device("cpu"))
    generator = torch.Generator(device).manual_seed(seed)
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.ndim > 1:
                inputs = max(1, parameter[0].numel())
                parameter.normal_(0, math.sqrt(2 / inputs), generator=generator)
            elif "bias" in name:
                parameter.normal_(0, SMALL_STD, generator=generator)
            else:
                parameter.fill_(NORM_WEIGHT)
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            assert module.running_var is not None
            module.running_mean.normal_(0, SMALL_STD, generator=generator)
            module.running_var.fill_(1)
            if module.num_batches_tracked is not None:
                module.num_batches_tracked.zero_()


def is_fillable(network: nn.Module) -> bool:
    """Whether a network is completely on the meta device and `fill_weights` replaces every tensor.

    Another network has tensors that only its constructor can fill, such as a table of indices.
    """
    for module in network.modules():
        own = [value for value in vars(module).values() if isinstance(value, torch.Tensor)]
        is_norm = isinstance(module, nn.modules.batchnorm._BatchNorm)
        if own or (not is_norm and any(True for _ in module.buffers(recurse=False))):
            return False
    return all(tensor.is_meta for tensor in chain(network.parameters(), network.buffers()))
