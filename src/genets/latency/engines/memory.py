"""Resident: how much memory prepared networks hold, and how much there is for them."""

from __future__ import annotations

import torch
from torch import nn

from genets.core.host_memory import available_bytes
from genets.latency.target import Target
from genets.networks.count import input_channels

BYTES_PER_VALUE = 4
UNKNOWN_FREE_BYTES = 2**33  # where the system does not say


def resident_bytes(parameters: int, input_values: int, largest_values: int, batch_size: int) -> int:
    """A generous estimate of what a prepared network keeps: two copies of its weights, its
    inputs, and as much as its largest layer reads and writes, twice.

    Engines with memory plans of their own (ONNX Runtime, OpenVINO, CUDA graphs) keep the
    feature maps of every network between its runs. input_values, largest_values: of one image.
    """
    values = 2 * parameters + batch_size * (input_values + 2 * largest_values)
    return BYTES_PER_VALUE * values


def resident_bytes_of(network: nn.Module, resolution: int, batch_size: int) -> int:
    """`resident_bytes` of a network on the CPU."""
    parameters = sum(parameter.numel() for parameter in network.parameters())
    inputs = input_channels(network) * resolution**2
    return resident_bytes(parameters, inputs, largest_values(network, resolution), batch_size)


def largest_values(network: nn.Module, resolution: int) -> int:
    """Values that the largest layer reads and writes for one image, found by running one.

    Running is quicker than PyTorch's meta device, whose batch norm is written in Python.
    """
    largest = 0

    def note(_: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        nonlocal largest
        tensors = (t for t in (*inputs, output) if isinstance(t, torch.Tensor))
        largest = max(largest, sum(t.numel() for t in tensors))

    leaves = (module for module in network.modules() if not any(module.children()))
    hooks = [module.register_forward_hook(note) for module in leaves]
    was_training = network.training
    with torch.inference_mode():
        network.eval()(torch.zeros(1, input_channels(network), resolution, resolution))
    network.train(was_training)
    for hook in hooks:
        hook.remove()
    return largest


def free_bytes(target: Target) -> int:
    """Half of what the device has free: the rest is for what an engine needs while it works."""
    on_gpu = not target.is_cpu
    free = int(torch.cuda.mem_get_info(target.device)[0]) if on_gpu else available_bytes()
    return (UNKNOWN_FREE_BYTES if free is None else free) // 2
