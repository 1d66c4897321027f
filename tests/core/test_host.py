"""The CPUs that this process may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from genets.core import host
from genets.core.host import count_cpus, cpu_quota, usable_cpus
from genets.latency import target


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
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "50000 100000\n"}, 1),
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


@pytest.mark.parametrize(
    ("affinity", "quota", "cpus"),
    [({0, 1, 2, 3}, None, 4), ({0, 1, 2, 3}, 2, 2), ({5}, 3, 1), ({5, 7}, 64, 2)],
)
def test_a_process_counts_the_cpus_that_it_may_use(monkeypatch, affinity, quota, cpus) -> None:
    """The machine has 64 CPUs."""
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: affinity, raising=False)
    monkeypatch.setattr(host, "cpu_quota", lambda: quota)
    assert usable_cpus() == affinity
    assert count_cpus() == cpus
    monkeypatch.setattr(target, "cpu_quota", lambda: quota)
    monkeypatch.setattr(target, "_read_siblings", str)  # each core has one CPU
    assert target.physical_cores() == cpus


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
