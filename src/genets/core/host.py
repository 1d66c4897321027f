"""The host: its CPUs, its free memory, and the behaviour of its allocator."""

from __future__ import annotations

import ctypes
import functools
import math
import os
from pathlib import Path

# The files of a container's quota of CPU time, in microseconds: cgroup version 2 and version 1.
CGROUP = Path("/sys/fs/cgroup")
QUOTA_FILES = (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"))
# The files of a container's memory, in bytes, of both versions: the limit, the use, and the
# statistics with the names of the caches of files, which the kernel frees before memory runs out.
MEMORY_FILES = (
    ("memory.max", "memory.current", "memory.stat", ("active_file", "inactive_file")),
    (
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
        ("total_active_file", "total_inactive_file"),
    ),
)
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


def available_bytes(folder: Path = CGROUP, meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """Memory that this process can still get, in bytes: that of the system or of its container.

    Returns:
        The smaller of both; None where neither the system nor a container says it.
    """
    limits = (_system_memory(meminfo), container_memory(folder))
    return min((limit for limit in limits if limit is not None), default=None)


def _system_memory(meminfo: Path) -> int | None:
    try:
        lines = meminfo.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    values = (int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    return next(values, None)


def container_memory(folder: Path = CGROUP) -> int | None:
    """The bytes that the container may still use; None without a limit."""
    for limit, use, statistics, caches in MEMORY_FILES:
        try:
            total, used = (
                int((folder / name).read_text(encoding="ascii")) for name in (limit, use)
            )
            lines = (folder / statistics).read_text(encoding="ascii").splitlines()
            amounts = dict(line.split() for line in lines)
            cached = sum(int(amounts[name]) for name in caches)
        except (OSError, ValueError, KeyError):  # ValueError: "max" in version 2
            continue
        return max(0, total - (used - cached))
    return None


def usable_cpus() -> set[int]:
    """The numbers of the logical CPUs on which this process may run."""
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))


def usable_cores() -> int:
    """Count the physical cores on which this process may run."""
    return len({_read_siblings(cpu) for cpu in usable_cpus()})


def _read_siblings(cpu: int) -> str:
    """The list of logical CPUs that share a physical core, equal for all of them."""
    siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    try:
        return siblings.read_text(encoding="ascii").strip()
    except OSError:
        return str(cpu)


def cpu_quota(folder: Path = CGROUP) -> float | None:
    """The CPUs whose time the container may use, such as 1.5; None without a limit."""
    for names in QUOTA_FILES:
        try:
            texts = [(folder / name).read_text(encoding="ascii") for name in names]
            quota, period = map(int, " ".join(texts).split())
        except (OSError, ValueError):  # ValueError: "max" in version 2
            continue
        if quota > 0 and period > 0:  # -1 in version 1: no limit
            return quota / period
    return None


def count_cpus() -> int:
    """Count the logical CPUs that this process may use, by its affinity and container quota."""
    count = len(usable_cpus())
    return min(count, math.ceil(cpu_quota() or count))


def physical_cores() -> int:
    """Count the physical cores whose time a run may use up, by affinity and container quota.

    With a quota of 1.5 CPUs, two threads would be stopped for a part of each period.
    """
    cores = usable_cores()
    return max(1, min(cores, math.floor(cpu_quota() or cores)))


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
