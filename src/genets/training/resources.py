"""When memory runs out: what then fits."""

from __future__ import annotations

from collections.abc import Callable

import torch


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
