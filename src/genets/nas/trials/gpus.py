"""GPUs: how many processes train on one GPU, and how many trials are trained together there.

A small network leaves a GPU idle while the host launches the next kernels, so several processes
share the GPU. For a large network, trials that are trained together save more: they share the
features of the frozen part. The constants are estimates from the training speeds of one H200 at
commit b7a3fea, and no search has been run on a GPU with them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from genets.core.gpu import device_memory
from genets.nas.workers.devices import list_devices
from genets.networks import build
from genets.networks.count import count_on_meta
from genets.structure import Structure
from genets.training import Recipe, with_all_fields

# Multiply-adds of the forward pass of a step, below which the host is slower than the GPU. An
# H200 trained GENet-normal at 24e12 of them in a second, so this number takes it 1 ms; launching
# the several hundred kernels of a step takes the host several milliseconds.
LAUNCH_BOUND_MULTIPLY_ADDS = 2e10
MAX_PROCESSES = 4  # for each GPU
CORES_PER_PROCESS = 2  # one launches the forward pass, and another one the backward pass
BYTES_PER_PROCESS = 4 * 2**30  # the context of CUDA, its libraries and a small training

MAX_GROUP_SIZE = 16  # a kill loses at most one group
MEMORY_SHARE = 0.5  # of the free memory, for the trials of a group
# Weights, gradients, momentum and the optimizer's temporary values, in fp32.
BYTES_PER_WEIGHT = 16
BYTES_OF_COPY = 4  # the second moment of AdamW, or the average of the weights
LARGER_THAN_MASTER = 2  # a trial's super-block may be deeper and wider


@dataclass(frozen=True, slots=True)
class StepCost:
    """The cost of one training step of a network.

    Attributes:
        multiply_adds: Of the forward pass of a whole batch.
        weight_bytes: Memory that the network and its optimizer hold between steps.
        step_bytes: Memory of the feature maps that the backward pass needs.
    """

    multiply_adds: int
    weight_bytes: int
    step_bytes: int


def step_cost(structure: Structure, num_classes: int, recipe: Recipe) -> StepCost:
    """Estimate the cost of a step on torch's meta device, where nothing is computed."""
    with torch.device("meta"):
        net = build(structure, num_classes)
    size, maps = count_on_meta(net, structure.resolution)
    bytes_per_value = 2 if recipe.precision == "bf16" else 4
    copies = (recipe.optimizer == "adamw") + (with_all_fields(recipe).ema_decay > 0)
    return StepCost(
        multiply_adds=size.multiply_adds * recipe.batch_size,
        weight_bytes=size.parameters * (BYTES_PER_WEIGHT + copies * BYTES_OF_COPY),
        step_bytes=maps.written * bytes_per_value * recipe.batch_size,
    )


def least_free_bytes(device: str) -> int:
    """The smallest memory that the processes that train can allocate on a GPU of the search.

    They cannot use the cache of this process, so the cache is emptied first. Cached memory
    that cannot be freed does not count.
    """
    torch.cuda.empty_cache()
    return min(device_memory(torch, gpu)[0] for gpu in list_devices(device))


def processes_per_gpu(cost: StepCost, cores: int, gpus: int, free: int) -> int:
    """Give the number of processes that train on one GPU.

    Args:
        cost: Of a training step.
        cores: CPU cores of this machine.
        gpus: The number of GPUs that share them.
        free: The free memory of a GPU, in bytes.
    """
    if cost.multiply_adds > LAUNCH_BOUND_MULTIPLY_ADDS:
        return 1
    limits = (MAX_PROCESSES, cores // (gpus * CORES_PER_PROCESS), free // BYTES_PER_PROCESS)
    return max(1, min(limits))


def fitting_group_size(cost: StepCost, workers: int, gpus: int, free: int, usual: int) -> int:
    """Give the number of trials that are trained together.

    Only one trial of a group has a step at a time, so a group needs the memory of one step, and of
    the weights of all its trials.

    Args:
        cost: Of a training step of the MasterNet.
        workers: The number of processes of the search; more of them need more groups.
        gpus: The number of GPUs of the search.
        free: The free memory of a GPU, in bytes.
        usual: The size where groups are many.
    """
    share = MEMORY_SHARE * free / max(1, -(-workers // gpus))
    room = share - LARGER_THAN_MASTER * cost.step_bytes
    fits = int(room // (LARGER_THAN_MASTER * cost.weight_bytes))
    return max(1, min(fits, max(usual, MAX_GROUP_SIZE // workers)))
