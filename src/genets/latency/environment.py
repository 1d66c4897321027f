"""Environment: the conditions under which a latency was measured."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from genets.core.host import cpu_info, keep_freed_memory
from genets.latency.engines import ENGINES
from genets.latency.target import Target

PACKAGES = ("genets", "torch", "timm")


def describe_environment(target: Target) -> dict[str, Any]:
    """Return device, driver, versions, threads and clocks; a value that is unreadable is None."""
    device = _describe_cpu() if target.is_cpu else _describe_cuda(target.device)
    return {
        **device,
        "threads": target.resolved().threads,
        "packages": _installed_versions((*PACKAGES, *ENGINES[target.engine].packages)),
        "python": platform.python_version(),
        "system": platform.platform(),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def _describe_cpu() -> dict[str, Any]:
    frequency = Path("/sys/devices/system/cpu/cpu0/cpufreq")
    return {
        "device_name": _cpu_model(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "cpus": os.cpu_count(),
        "freed_memory_kept": keep_freed_memory(),
        "governor": _read(frequency / "scaling_governor"),
        "clock_khz": _read(frequency / "scaling_cur_freq"),
    }


def _describe_cuda(device: str) -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(device)
    return {
        "device_name": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "driver": _read(Path("/sys/module/nvidia/version")),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "allow_tf32": torch.backends.cudnn.allow_tf32,
        "clock_mhz": _clock_mhz(device),
    }


def _clock_mhz(device: str) -> int | None:
    try:
        return torch.cuda.clock_rate(device)
    except Exception:  # noqa: BLE001 - nvidia-ml-py is missing, or refuses with errors of its own
        return None


def _cpu_model() -> str:
    return cpu_info("model name") or platform.processor() or platform.machine()


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return None


def _installed_versions(packages: Iterable[str]) -> dict[str, str]:
    """Versions by package; packages that are not installed are left out."""
    versions = {}
    for package in packages:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions
