"""Memory: how much a prepared network needs, and how much the device has free."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

from genets.core.host import available_bytes
from genets.networks.count import input_channels

if TYPE_CHECKING:
    from genets.latency.target import Target

BYTES_PER_VALUE = 4
UNKNOWN_FREE_BYTES = 2**33  # assumed where the system does not report its free memory
SAFE_BYTES_PER_INPUT = 256  # no network of this package needs more at once per input value


def estimate_bytes(parameters: int, input_values: int, largest_values: int, batch_size: int) -> int:
    """Estimate generously how much memory a prepared network holds.

    The estimate is two copies of the weights, the inputs, and twice the values that the largest
    layer reads and writes. Engines with their own memory plans (ONNX Runtime, OpenVINO, CUDA
    graphs) keep the feature maps of every network between its runs.

    Args:
        parameters: The number of weights.
        input_values: Values of one image.
        largest_values: Values that the largest layer reads and writes for one image.
        batch_size: Images per run.
    """
    values = 2 * parameters + batch_size * (input_values + 2 * largest_values)
    return BYTES_PER_VALUE * values


def estimate_network_bytes(network: nn.Module, resolution: int, batch_size: int) -> int:
    """Return `estimate_bytes` for a network on the CPU."""
    parameters = sum(parameter.numel() for parameter in network.parameters())
    inputs = input_channels(network) * resolution**2
    return estimate_bytes(parameters, inputs, largest_values(network, resolution), batch_size)


def largest_values(network: nn.Module, resolution: int, dtype: torch.dtype = torch.float32) -> int:
    """Count the values that the largest layer reads and writes for one image, by running one.

    The network runs on the CPU. That is faster than PyTorch's meta device, whose batch norm is
    written in Python.
    """
    largest = 0

    def note(_: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        nonlocal largest
        tensors = (t for t in (*inputs, output) if isinstance(t, torch.Tensor))
        largest = max(largest, sum(t.numel() for t in tensors))

    leaves = (module for module in network.modules() if not any(module.children()))
    hooks = [module.register_forward_hook(note) for module in leaves]
    was_training = network.training
    image = torch.zeros(1, input_channels(network), resolution, resolution, dtype=dtype)
    with torch.inference_mode():
        network.eval()(image)
    network.train(was_training)
    for hook in hooks:
        hook.remove()
    return largest


def check_memory(network: nn.Module, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Raise MemoryError where a run would exhaust the memory and the system kill the process.

    Args:
        network: A network on the CPU.
        shape: The shape of a batch, (batch, channels, resolution, resolution).
        dtype: The type of the weights and inputs.
    """
    free = available_bytes()
    if free is None or math.prod(shape) * SAFE_BYTES_PER_INPUT < free:
        return
    if largest_values(network, shape[-1], dtype) * dtype.itemsize * shape[0] > free:
        raise MemoryError("not enough memory")


def free_bytes(target: Target) -> int:
    """Return half of the device's free memory; the engine needs the other half while it works."""
    on_gpu = not target.is_cpu
    free = int(torch.cuda.mem_get_info(target.device)[0]) if on_gpu else available_bytes()
    return (UNKNOWN_FREE_BYTES if free is None else free) // 2
