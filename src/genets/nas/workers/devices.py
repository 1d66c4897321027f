"""Devices: the CPU or GPU that each worker uses, and how many workers and readers fit."""

from __future__ import annotations

from genets.core.gpu import check_free_memory
from genets.core.host import count_cpus, physical_cores


def list_devices(device: str) -> list[str]:
    """List the devices for which a device of a search stands: `cuda` means all GPUs."""
    import torch

    if device != "cuda":
        return [device]
    return [f"cuda:{number}" for number in range(torch.cuda.device_count())]


def fitting_workers(device: str, per_gpu: int = 1) -> int:
    """Give the number of processes that train side by side: one for each core or each GPU.

    Small networks train faster in two processes of one thread than in one process of two threads.

    Args:
        device: Of the training; see `list_devices`.
        per_gpu: The number of processes for each GPU; see `gpus.processes_per_gpu`.
    """
    return physical_cores() if device == "cpu" else per_gpu * len(list_devices(device))


def fitting_readers(workers: int, device: str) -> int:
    """Give the number of processes that read images for each worker.

    None on a CPU, because all its cores train.
    """
    from genets.data import readers_for

    return 0 if device == "cpu" else readers_for(count_cpus() // workers)


def use_device(device: str) -> None:
    """Make this process use its GPU alone; otherwise it would also occupy the first GPU."""
    if device.startswith("cuda:"):
        import torch

        torch.cuda.set_device(device)


def check_memory(device: str) -> None:
    """Raise TargetError where a GPU has too little free memory for this process to begin."""
    if device != "cpu":
        import torch

        check_free_memory(torch, device)


def assign_device(worker: int, device: str) -> str:
    """Give the device of a worker, by its number from 0: several workers take the GPUs in turn."""
    devices = list_devices(device)
    return device if len(devices) < 2 else devices[worker % len(devices)]
