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
# Instruction sets that decide which kernels an engine uses, as Linux names them (x86, then ARM).
INSTRUCTION_SETS = {
    "avx2", "avx_vnni", "avx512f", "avx512_bf16", "avx512_fp16", "avx512_vnni",
    "amx_bf16", "amx_fp16", "amx_int8",
    "asimd", "asimddp", "bf16", "i8mm", "sve", "sve2", "sme",
}  # fmt: skip
ONEDNN_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")


def describe_environment(target: Target) -> dict[str, Any]:
    """Return device, driver, versions, threads and clocks; a value that is unreadable is None.

    The clocks of a GPU are read while it runs; see `GpuWatch.facts`.
    """
    device = _describe_cpu() if target.is_cpu else _describe_cuda(target.device)
    return {
        **device,
        "threads": target.resolved().threads,
        "packages": installed_versions((*PACKAGES, *ENGINES[target.engine].packages)),
        "python": platform.python_version(),
        "system": platform.platform(),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def _describe_cpu() -> dict[str, Any]:
    frequency = Path("/sys/devices/system/cpu/cpu0/cpufreq")
    return {
        "device_name": _cpu_model(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "instruction_sets": _instruction_sets(),
        "onednn_max_isa": next((os.environ[n] for n in ONEDNN_LIMITS if n in os.environ), None),
        "nominal_mhz": _nominal_mhz(),
        "cpus": os.cpu_count(),
        "freed_memory_kept": keep_freed_memory(),
        "governor": _read(frequency / "scaling_governor"),
        "clock_khz": _read(frequency / "scaling_cur_freq"),
    }


def _instruction_sets() -> list[str]:
    flags = f"{cpu_info('flags')} {cpu_info('Features')}".split()
    return sorted(INSTRUCTION_SETS.intersection(flags))


def _nominal_mhz() -> int | None:
    """The clock that the maker states, which does not change with the load."""
    frequency = Path("/sys/devices/system/cpu/cpu0/cpufreq")
    for name in ("base_frequency", "cpuinfo_max_freq"):
        khz = _read(frequency / name)
        if khz and khz.isdecimal():
            return round(int(khz) / 1000)
    try:
        return round(float(cpu_info("bogomips")) / 2)  # on x86 twice the clock of its time stamps
    except ValueError:
        return None


def _describe_cuda(device: str) -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(device)
    return {
        "device_name": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "driver": _read(Path("/sys/module/nvidia/version")),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "allow_tf32": torch.backends.cudnn.allow_tf32,
    }


def _cpu_model() -> str:
    return cpu_info("model name") or platform.processor() or platform.machine()


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return None


def installed_versions(packages: Iterable[str]) -> dict[str, str]:
    """Versions by package; packages that are not installed are left out."""
    versions = {}
    for package in packages:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions
