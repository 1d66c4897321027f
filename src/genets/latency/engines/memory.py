"""Memory: how much a prepared network needs, and how much the device has free."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

from genets.core.host import available_bytes
from genets.networks.count import input_channels, note_largest

if TYPE_CHECKING:
    from genets.latency.target import Target

BYTES_PER_VALUE = 4
UNKNOWN_FREE_BYTES = 2**33  # assumed where the system does not report its free memory
SAFE_BYTES_PER_INPUT = 256  # no network of this package needs more at once per input value


def estimate_bytes(parameters: int, input_values: int, largest_values: int, batch_size: int) -> int:
    """Estimate generously how much memory a prepared network holds.

    The estimate is two copies of the weights, the inputs, and twice the values that the largest
    layer reads and writes. Engines with their own memory plans (ONNX Runtime, OpenVINO) keep the
    feature maps of every network between its runs.

    Args:
        parameters: The number of weights.
        input_values: Values of one image.
        largest_values: Values that the largest layer reads and writes for one image.
        batch_size: Images per run.
    """
    values = 2 * parameters + batch_size * (input_values + 2 * largest_values)
    return BYTES_PER_VALUE * values


def largest_values(network: nn.Module, resolution: int, dtype: torch.dtype) -> int:
    """Count the values that the largest layer reads and writes for one image, by running one.

    The network and the run are on the CPU, in the given type.
    """
    was_training = network.training
    image = torch.zeros(1, input_channels(network), resolution, resolution, dtype=dtype)
    with note_largest(network.eval()) as largest, torch.inference_mode():
        network(image)
    network.train(was_training)
    return largest[0]


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
