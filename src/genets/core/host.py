"""The host: its CPU, its free memory, and the behaviour of its allocator."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # glibc, malloc.h


@functools.cache
def keep_freed_memory() -> bool:
    """Make the allocator of this process keep freed memory.

    By default glibc returns large blocks to the system and takes new ones, page by page. On a
    network with 28 MB feature maps this took a third of the run, and the share changed from one
    process to the next. A server that runs one network all day keeps its memory, by this setting
    or by another allocator. The setting holds for the rest of the process, because glibc cannot
    return to its adaptive thresholds.

    Returns:
        False where the allocator is not glibc's.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return bool(mallopt(M_TRIM_THRESHOLD, -1)) and bool(mallopt(M_MMAP_MAX, 0))


def available_bytes() -> int | None:
    """Memory that the system can still give, in bytes; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    values = (int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    return next(values, None)


def cpu_info(key: str) -> str:
    """A line of Linux's description of the first CPU.

    Args:
        key: the name of the line, such as "model name" or "flags".

    Returns:
        The text after the colon; empty where the system gives no such line.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")
