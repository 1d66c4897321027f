"""Diagnosis: the parts of this machine and the targets that it can run, for a bug report."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from genets.core.errors import TargetError, first_line
from genets.core.gpu import device_memory, has_cuda
from genets.core.host import available_bytes, count_cpus, physical_cores
from genets.latency.engines import ENGINES
from genets.latency.engines.activity import Activity, SystemActivity
from genets.latency.environment import PACKAGES, describe_environment, installed_versions
from genets.latency.target import AUTO, DEVICES, ENGINE_PROVIDERS, Target
from genets.latency.timing.calm import watch_other_cpus
from genets.latency.timing.watch import max_other_cpus

FURTHER_PACKAGES = ("torchvision", "numpy", "scipy", "lightning-fabric")
CPU_FACTS = ("device_name", "capability", "instruction_sets", "onednn_max_isa", "nominal_mhz")
CUDA_FACTS = ("device_name", "capability", "driver", "cuda", "cudnn")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY")


def describe_machine(
    *, activity: Activity | None = None, sleep: Callable[[float], None] = time.sleep
) -> dict[str, Any]:
    """Describe versions, devices, engines, threads, load, free memory and free disk.

    It takes some seconds, because engines are imported and the load is watched for a second.

    Args:
        activity: The counters of the CPUs; by default those of this machine.
        sleep: Waits for some seconds.

    Returns:
        A dictionary for JSON. An engine has the precisions that it can run on a device, and for
        each other precision the sentence that says why it cannot run.
    """
    packages = [name for engine in ENGINES.values() for name in engine.packages]
    return {
        "versions": {
            "python": platform.python_version(),
            "system": platform.platform(),
            **installed_versions((*PACKAGES, *FURTHER_PACKAGES, *packages)),
        },
        "devices": list(_devices()),
        "engines": list(_engines()),
        "threads": _threads(),
        "load": _load(activity or SystemActivity(), sleep),
        "memory": {"free_bytes": available_bytes(), "total_bytes": _total_bytes()},
        "disk": [_disk(folder) for folder in (Path.cwd(), Path(tempfile.gettempdir()))],
    }


def _devices() -> Iterator[dict[str, Any]]:
    here = describe_environment(Target(device="cpu"))
    yield {"device": "cpu", **{name: here.get(name) for name in CPU_FACTS}}
    for number in range(torch.cuda.device_count() if has_cuda(torch) else 0):
        device = f"cuda:{number}"
        there = describe_environment(Target(device=device))
        free: int | None
        total: int | None
        try:
            free, total = device_memory(torch, device)
        except RuntimeError:  # another process has taken the device for itself
            free = total = None
        facts = {name: there.get(name) for name in CUDA_FACTS}
        yield {"device": device, **facts, "free_bytes": free, "total_bytes": total}


def _engines() -> Iterator[dict[str, Any]]:
    for name, providers in ENGINE_PROVIDERS.items():
        for provider in providers or (None,):
            for device in DEVICES:
                if device == AUTO:  # a choice between the devices, and no device
                    continue
                # A provider is for one kind of device, and OpenVINO is used on CPUs only.
                only_cpu = name == "openvino" or provider == "cpu"
                if (provider or only_cpu) and only_cpu != (device == "cpu"):
                    continue
                yield _engine(name, provider, device)


def _engine(name: str, provider: str | None, device: str) -> dict[str, Any]:
    can_run, missing = [], {}
    for precision in ENGINES[name].precisions:
        try:
            Target(device, name, precision, provider=provider).check()
            can_run.append(precision)
        except TargetError as error:
            missing[precision] = str(error)
        except Exception as error:  # noqa: BLE001 - a damaged package may raise anything
            missing[precision] = f"{type(error).__name__}: {first_line(error)}"
    return {
        "engine": name,
        "provider": provider,
        "device": device,
        "precisions": can_run,
        "missing": missing,
    }


def _threads() -> dict[str, Any]:
    return {
        "default": physical_cores(),
        "usable_cpus": count_cpus(),
        "cpus": os.cpu_count(),
        "torch": torch.get_num_threads(),
        **{name: os.environ.get(name) for name in THREAD_VARIABLES},
    }


def _load(activity: Activity, sleep: Callable[[float], None]) -> dict[str, Any]:
    others = watch_other_cpus(activity, sleep)
    limit = max_other_cpus(activity.cores, physical_cores())
    return {
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "other_cpus": others,
        "calm": None if others is None else others <= limit,
    }


def _total_bytes() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None


def _disk(folder: Path) -> dict[str, Any]:
    try:
        free: int | None = shutil.disk_usage(folder).free
    except OSError:
        free = None
    return {"folder": str(folder), "free_bytes": free}
