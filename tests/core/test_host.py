"""The CPUs and the memory that this process may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from genets.core import host
from genets.core.host import (
    available_bytes,
    container_memory,
    count_cpus,
    cpu_quota,
    physical_cores,
    usable_cores,
    usable_cpus,
)


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return folder


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({}, None),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "200000 100000\n"}, 2),
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "50000 100000\n"}, 0.5),
        ({"cpu.max": "damaged"}, None),
        ({"cpu.max": "0 0"}, None),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
        ({"cpu/cpu.cfs_quota_us": "400000\n"}, None),
    ],
)
def test_the_quota_of_a_container(tmp_path, files, cpus) -> None:
    """Files of cgroup version 2, and of version 1."""
    assert cpu_quota(write(tmp_path, files)) == cpus


def memory_files(limit: str, use: str = "700", cache: str = "200") -> dict[str, str]:
    """The files of cgroup version 2."""
    statistics = f"anon 500\ninactive_file {cache}\nactive_file 9\nunevictable 3\n"
    return {"memory.max": f"{limit}\n", "memory.current": f"{use}\n", "memory.stat": statistics}


@pytest.mark.parametrize(
    ("files", "left"),
    [
        ({}, None),
        (memory_files("1000"), 509),
        (memory_files("max"), None),
        (memory_files("400", use="900"), 0),
        (memory_files("1000", cache="damaged text"), None),
        ({"memory.max": "1000\n", "memory.current": "700\n"}, None),
        (
            {
                "memory/memory.limit_in_bytes": "1000\n",
                "memory/memory.usage_in_bytes": "700\n",
                "memory/memory.stat": "total_inactive_file 200\ntotal_active_file 9\n",
            },
            509,
        ),
    ],
)
def test_the_memory_that_a_container_may_still_use(tmp_path, files, left) -> None:
    """Files of cgroup version 2, and of version 1."""
    assert container_memory(write(tmp_path, files)) == left


@pytest.mark.parametrize(
    ("limit", "meminfo", "left"),
    [
        ("1000", "MemTotal: 8 kB\nMemAvailable: 4 kB\n", 509),
        ("100000", "MemTotal: 8 kB\nMemAvailable: 4 kB\n", 4096),
        ("max", "MemTotal: 8 kB\nMemAvailable: 4 kB\n", 4096),
        ("1000", "", 509),
        ("max", "", None),
    ],
)
def test_the_available_memory_is_the_smaller_limit(tmp_path, limit, meminfo, left) -> None:
    write(tmp_path, {**memory_files(limit), "meminfo": meminfo})
    assert available_bytes(tmp_path, tmp_path / "meminfo") == left


@pytest.mark.parametrize(
    ("affinity", "quota", "cpus", "cores"),
    [
        ({0, 1, 2, 3}, None, 4, 4),
        ({0, 1, 2, 3}, 2.0, 2, 2),
        ({0, 1, 2, 3}, 2.5, 3, 2),
        ({0, 1, 2, 3}, 0.5, 1, 1),
        ({5}, 3.0, 1, 1),
        ({5, 7}, 64.0, 2, 2),
        ({0, 1, 32, 33}, None, 4, 2),
        ({0, 1, 32, 33}, 3.0, 3, 2),
    ],
)
def test_a_process_counts_the_cpus_that_it_may_use(
    monkeypatch, affinity, quota, cpus, cores
) -> None:
    """The machine has 64 CPUs, and each of its 32 cores has two of them: 0 and 32, and so on."""
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: affinity, raising=False)
    monkeypatch.setattr(host, "cpu_quota", lambda: quota)
    assert usable_cpus() == affinity
    assert count_cpus() == cpus
    monkeypatch.setattr(host, "_read_siblings", lambda cpu: f"{cpu % 32},{cpu % 32 + 32}")
    assert usable_cores() == len({cpu % 32 for cpu in affinity})
    assert physical_cores() == cores


def test_a_system_without_affinity_has_all_its_cpus(monkeypatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert usable_cpus() == set(range(6))


def test_no_file_asks_for_the_cpus_of_the_machine() -> None:
    """`os.cpu_count` ignores affinity and quota; records of the machine may hold it."""
    package = Path(host.__file__).parents[1]
    users = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if "cpu_count(" in path.read_text(encoding="utf-8")
    }
    assert users == {"core/host.py", "latency/diagnosis.py", "latency/environment.py"}
