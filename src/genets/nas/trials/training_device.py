"""Where a search trains: its device, and which GPU is whose where several processes train."""

from __future__ import annotations

import os

from genets.latency import Target
from genets.latency.target import physical_cores


def training_device(name: str) -> str:
    """`auto` resolved; TargetError if this machine has no such device."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    Target(device=name).check()
    return name


def fitting_workers(device: str) -> int:
    """How many processes train side by side: one for each core, or for each GPU if any may be used.

    Small networks train faster in two processes of one thread than in one of two.
    device: of `training_device`. "cuda" means any, and "cuda:1" that one alone.
    """
    import torch

    if device == "cpu":
        return physical_cores()
    return torch.cuda.device_count() if device == "cuda" else 1


def fitting_readers(workers: int, device: str) -> int:
    """How many processes read images for each worker; on a CPU none, as all its cores train."""
    from genets.data import readers_for

    return 0 if device == "cpu" else readers_for((os.cpu_count() or 1) // workers)


def use_device(device: str) -> None:
    """Make a GPU with a number this process's own, which otherwise also holds the first one."""
    if device.startswith("cuda:"):
        import torch

        torch.cuda.set_device(device)


def device_of(worker: int, device: str) -> str:
    """Where a worker trains, by its number from 0: several take the GPUs in turn."""
    import torch

    if device != "cuda" or torch.cuda.device_count() < 2:
        return device
    return f"cuda:{worker % torch.cuda.device_count()}"
