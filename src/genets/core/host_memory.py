"""Memory of the host, as far as it bears on speed."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # glibc, malloc.h


@functools.cache
def keep_freed_memory() -> bool:
    """Let the allocator of this process keep what is freed; False where it is not glibc's.

    By default glibc hands large blocks back to the system and takes new ones, page by page:
    on a network with 28 MB feature maps that was a third of the run, and more or less of it
    from one process to the next. A server that runs one network all day keeps its memory, by
    this setting or by another allocator. It stays so for the rest of the process: glibc
    cannot return to its adaptive thresholds.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return bool(mallopt(M_TRIM_THRESHOLD, -1)) and bool(mallopt(M_MMAP_MAX, 0))


def available_bytes() -> int | None:
    """What the system could still hand out, or None where it does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = (int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    return next(found, None)
