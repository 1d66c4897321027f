"""The resources of a device for a training: memory, number formats, useful CPU threads."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import nn

from genets.core.errors import TargetError, first_line, is_out_of_memory
from genets.core.gpu import check_gpu, free_bytes, has_bf16, has_cuda
from genets.networks import count

KEPT_SHARE = 0.25  # of the free memory, for features that are kept between two passes


def failure_reason(error: BaseException) -> str:
    """Describe on one line why a training failed; the line names a lack of memory."""
    line = first_line(error)
    is_named = re.search("out of memory|allocate memory", line, re.IGNORECASE) is not None
    return line if is_named or not is_out_of_memory(error) else f"memory ran out: {line}"


def describe_single_value(error: BaseException) -> str:
    """Explain PyTorch's error about a batch norm that gets one value; empty for other errors."""
    if "Expected more than 1 value per channel" not in str(error):
        return ""
    return (
        "batch norm cannot be trained on a single value for each channel; --batch-size must be "
        "at least 2 for each process"
    )


def largest_that_fits(attempt: Callable[[int], object], below: int, least: int = 1) -> int | None:
    """The largest size for which `attempt` does not run out of memory, and batch norm works.

    Args:
        attempt: Called with a size; sizes are powers of two, in descending order.
        below: All sizes are smaller than this number.
        least: The smallest size.

    Returns:
        The size, or None where no size fits.
    """
    size = 2 ** ((below - 1).bit_length() - 1) if below > 1 else 0
    while size >= least:
        if _fits(attempt, size):
            return size
        size //= 2
    return None


def _fits(attempt: Callable[[int], object], size: int) -> bool:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    try:
        attempt(size)
    except (RuntimeError, MemoryError, ValueError) as error:
        if is_out_of_memory(error) or describe_single_value(error):
            return False
        raise
    return True


def training_device(name: str) -> str:
    """The device that trains; `auto` is CUDA where there is an NVIDIA GPU, otherwise the CPU.

    Args:
        name: auto, cpu, cuda or cuda:NUMBER.

    Raises:
        TargetError: The name is another one, or this machine has no such device.
    """
    if name == "auto":
        return "cuda" if has_cuda(torch) else "cpu"
    if not re.fullmatch(r"cpu|cuda(:(0|[1-9]\d{0,2}))?", name):
        raise TargetError(f"device must be auto, cpu, cuda or cuda:NUMBER, not {name!r}")
    if name != "cpu":
        check_gpu(torch, name)
    return name


def max_kept_bytes(device: str | torch.device) -> float:
    """The memory that may hold features between two passes; infinite where it is unknown."""
    free = free_bytes(torch, str(device))
    return math.inf if free is None else KEPT_SHARE * free


def usual_precision(device: str) -> Literal["fp32", "bf16"]:
    """The number format of a training that names none: bf16 where every GPU computes it.

    Args:
        device: auto, cpu, cuda or cuda:NUMBER. `cuda` stands for all GPUs of this machine.
    """
    if device == "cpu" or not has_cuda(torch):
        return "fp32"
    count = torch.cuda.device_count()
    number = device.partition(":")[2]
    numbers = [int(number)] if number else range(count)
    if any(each >= count for each in numbers):
        return "fp32"  # this device is refused later, with a sentence
    return "bf16" if all(has_bf16(torch, f"cuda:{each}") for each in numbers) else "fp32"


# Below this number of multiply-adds in the forward pass of a step, threads mostly wait for each
# other: at 0.1e9 (`master_small`, 16 pixels, batch 64) two threads were no faster than one, and at
# 0.4e9 they were 1.5 times as fast. Where another program uses the same cores, the waiting takes
# ten times as long as the computation.
MIN_MULTIPLY_ADDS = 0.25e9
# The same limit where other processes read images on the same cores. With two such processes on
# two cores, one thread trained 1.1 to 1.6 times as fast as two threads up to 0.9e9 multiply-adds,
# and two threads trained 1.3 times as fast as one from 1.8e9 on.
MIN_MULTIPLY_ADDS_WITH_READERS = 1e9


@contextmanager
def fitting_threads(
    net: nn.Module, resolution: int, batch_size: int, *, reading: bool = False
) -> Iterator[None]:
    """Set the number of CPU threads for the block: one thread for small steps, otherwise all.

    Args:
        net: The network that is trained.
        resolution: Its input resolution, in pixels.
        batch_size: Images in a step.
        reading: Whether other processes read images at the same time. Steps of medium size then
            use half of the threads.
    """
    before = torch.get_num_threads()
    work = count(net, resolution).multiply_adds * batch_size
    if work < MIN_MULTIPLY_ADDS:
        torch.set_num_threads(1)
    elif reading and work < MIN_MULTIPLY_ADDS_WITH_READERS:
        torch.set_num_threads(max(1, before // 2))
    try:
        yield
    finally:
        torch.set_num_threads(before)
