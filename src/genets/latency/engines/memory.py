"""Memory: how much a prepared network needs, and how much the device has free."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from genets.core.gpu import free_bytes
from genets.core.host import available_bytes
from genets.networks.count import input_channels, note_feature_maps

if TYPE_CHECKING:
    from genets.latency.target import Target

VALUE_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2, "int8": 4}
"""Bytes of a value. Int8 counts as fp32, because layers that are not quantised stay in fp32."""

# A run holds the input and output of a layer and, in a residual block, the input of the block. It
# is at most as large as the largest layer, so their memory is at most twice that of this layer.
MAP_COPIES = 2
# Where the images do not have their channels last, a convolution on tensor cores also copies its
# input and output into this layout.
LAYOUT_COPIES = 1
UNKNOWN_FREE_BYTES = 2**33  # assumed where the system does not report its free memory
SAFE_BYTES_PER_INPUT = 256  # no network of this package needs more at once per input value


@dataclass(frozen=True, slots=True)
class Footprint:
    """The memory of a network that an engine has prepared for a target, estimated generously.

    Attributes:
        weight_bytes: Bytes for each weight, in all copies on the device.
        value_bytes: Bytes for each value of an input or a feature map.
        map_copies: The memory of a run, as a multiple of the largest layer's input and output.
        shares_maps: Whether the feature maps of all prepared networks share their memory. Engines
            with their own memory plans (ONNX Runtime, OpenVINO) keep those of every network.
        shares_inputs: Whether the items of a latency table share inputs of the same shape.
    """

    weight_bytes: int
    value_bytes: int
    map_copies: int = MAP_COPIES
    shares_maps: bool = False
    shares_inputs: bool = False

    def map_bytes(self, largest_values: int, batch_size: int) -> int:
        """Estimate the memory of the feature maps of a run.

        Args:
            largest_values: Values that the largest layer reads and writes for one image.
            batch_size: Images per run.
        """
        return self.map_copies * self.value_bytes * largest_values * batch_size


def largest_values(network: nn.Module, resolution: int, dtype: torch.dtype) -> int:
    """Count the values that the largest layer reads and writes for one image, by running one.

    The network and the run are on the CPU, in the given type.
    """
    was_training = network.training
    image = torch.zeros(1, input_channels(network), resolution, resolution, dtype=dtype)
    with note_feature_maps(network.eval()) as maps, torch.inference_mode():
        network(image)
    network.train(was_training)
    return maps.largest


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


def max_prepared_bytes(target: Target) -> int:
    """Return the memory for prepared networks: half of the free memory of the target's device.

    The engine needs the other half while it works.
    """
    free = free_bytes(torch, target.device)
    return (UNKNOWN_FREE_BYTES if free is None else free) // 2
