"""When memory runs out: what then fits.

How many CPU threads a training is worth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from genets.networks import count


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory of a GPU or of the CPU ran out; torch has no type for the latter."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)


def largest_that_fits(attempt: Callable[[int], object], below: int, least: int = 1) -> int | None:
    """The largest power of two below `below` that `attempt` takes; None if none does."""
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
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            return False
        raise
    return True


# Forward multiply-adds of one step below which threads mostly wait for each other: at 0.1e9
# (`master_small`, 16 pixels, batch 64) two were no faster than one, at 0.4e9 1.5 times as
# fast. Where another program wants the same cores, waiting costs ten times what is computed.
WORTH_THREADS = 0.25e9
# The same where processes that read images want them: with two of these on two cores one thread
# trained 1.1 to 1.6 times as fast as two up to 0.9e9, two 1.3 times as fast from 1.8e9 on.
WORTH_THREADS_BESIDE_READERS = 1e9


@contextmanager
def fitting_threads(
    net: nn.Module, resolution: int, batch_size: int, *, reading: bool = False
) -> Iterator[None]:
    """One CPU thread for a network with small steps, all of them for others.

    reading: images are read from files meanwhile, to which steps of middling size leave half
        of the threads.
    """
    before = torch.get_num_threads()
    work = count(net, resolution).multiply_adds * batch_size
    if work < WORTH_THREADS:
        torch.set_num_threads(1)
    elif reading and work < WORTH_THREADS_BESIDE_READERS:
        torch.set_num_threads(max(1, before // 2))
    try:
        yield
    finally:
        torch.set_num_threads(before)
