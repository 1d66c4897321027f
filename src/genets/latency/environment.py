"""Environment: the conditions under which a latency was measured."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping
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

# The conditions that must be equal for latencies to be compared, with their names in messages.
# Two machines with one device name may differ in the kind of their CPU.
CONDITIONS = {
    "device_name": "device",
    "threads": "threads",
    "driver": "driver",
    "cuda": "cuda",
    "cudnn": "cudnn",
    "allow_tf32": "TF32 in cuDNN",
    "capability": "capability",
    "instruction_sets": "instruction sets",
    "onednn_max_isa": "limit of oneDNN's instruction sets",
}
PACKAGE_VERSIONS, NOMINAL_MHZ = "packages", "nominal_mhz"
RECORDED_CONDITIONS = (*CONDITIONS, PACKAGE_VERSIONS, NOMINAL_MHZ)
SAME_CLOCK = 0.05  # relative difference of the nominal clocks of one class


def describe_environment(target: Target) -> dict[str, Any]:
    """Return device, driver, versions, threads and clocks; a value that is unreadable is None.

    The clocks of a GPU are read while it runs; see `GpuWatch.facts`.
    """
    device = _describe_cpu() if target.is_cpu else _describe_cuda(target.device)
    return {
        **device,
        "threads": target.resolved().threads,
        PACKAGE_VERSIONS: installed_versions((*PACKAGES, *ENGINES[target.engine].packages)),
        "python": platform.python_version(),
        "system": platform.platform(),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def differing_conditions(
    stored: Mapping[str, Any], here: Mapping[str, Any], packages: Iterable[str] | None = None
) -> dict[str, tuple[Any, Any]]:
    """Compare the conditions of a stored latency with those of this process.

    Args:
        stored: The environment that was recorded with the latency. A condition that it lacks, as
            in records of older versions, is not compared.
        here: The output of `describe_environment`.
        packages: The packages whose versions are compared; None compares all recorded packages.

    Returns:
        The stored value and the present value of each condition that differs, by its name in
        messages.
    """
    pairs = {word: (stored[key], here.get(key)) for key, word in CONDITIONS.items()
             if key in stored}  # fmt: skip
    then, now = stored.get(PACKAGE_VERSIONS, {}), here.get(PACKAGE_VERSIONS, {})
    for name in dict.fromkeys((*then, *now)) if packages is None else packages:
        pairs[name] = (then.get(name), now.get(name))
    old_mhz, new_mhz = stored.get(NOMINAL_MHZ), here.get(NOMINAL_MHZ)
    if isinstance(old_mhz, int) and new_mhz and abs(old_mhz / new_mhz - 1) > SAME_CLOCK:
        pairs["nominal clock"] = (f"{old_mhz} MHz", f"{new_mhz} MHz")
    return {word: (old, new) for word, (old, new) in pairs.items() if old != new}


def _describe_cpu() -> dict[str, Any]:
    frequency = Path("/sys/devices/system/cpu/cpu0/cpufreq")
    return {
        "device_name": _cpu_model(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "instruction_sets": _instruction_sets(),
        "onednn_max_isa": next((os.environ[n] for n in ONEDNN_LIMITS if n in os.environ), None),
        NOMINAL_MHZ: _nominal_mhz(),
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
