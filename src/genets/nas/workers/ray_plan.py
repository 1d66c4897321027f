"""The number of workers that a Ray cluster has room for, and the resources of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from genets.core.errors import WorkersError, counted
from genets.nas.workers.job import ProcessesPerGpu

if TYPE_CHECKING:
    from genets.nas.workers.ray_cluster import RayCluster

GB = 10**9


@dataclass(frozen=True)
class WorkerPlan:
    """The workers for which a cluster has room.

    Attributes:
        count: The number of workers.
        gpus: The share of a GPU of each worker; 0 on CPUs.
        cpus: The cores of each worker.
        memory: The bytes that each worker reserves; 0 reserves none.
        all_gpus: The number of GPUs of the cluster; 1 on CPUs.
    """

    count: int
    gpus: float
    cpus: int
    memory: int = 0
    all_gpus: int = 1

    def room(self, node: Mapping[str, float]) -> int:
        """Give the number of workers for which a machine has room."""
        limits = [node.get("CPU", 0) // self.cpus]
        if self.gpus:
            # A worker uses one GPU, so a rest that is spread over several GPUs is no room.
            limits.append(node.get("GPU", 0) // 1 * (1 / self.gpus // 1))
        if self.memory:
            limits.append(node.get("memory", 0) // self.memory)
        return int(min(limits))

    def __str__(self) -> str:
        """The share of one worker, such as `0.5 GPU, 4 CPUs, 8 GB`."""
        parts = [f"{self.gpus:.3g} GPU"] if self.gpus else []
        parts.append(counted(self.cpus, "CPU"))
        if self.memory:
            parts.append(f"{self.memory / GB:.3g} GB")
        return ", ".join(parts)


def plan_workers(
    nodes: Sequence[Mapping[str, float]],
    cluster: RayCluster,
    count: int | None,
    device: str,
    processes_per_gpu: ProcessesPerGpu,
) -> WorkerPlan:
    """Choose the workers of a cluster.

    Args:
        nodes: The resources of each machine.
        cluster: The cluster as the user describes it.
        count: The number of workers; None for as many as there is room for.
        device: The device that trains.
        processes_per_gpu: See `Machines.workers`.

    Raises:
        WorkersError: The cluster has no GPU that is needed, or no room for so many workers.
    """
    hosts = nodes_for(nodes, device, cluster)
    gpus, cpus, all_gpus = 0.0, cluster.cpus or 1, 1
    if device != "cpu":
        sizes = [(int(node.get("CPU", 0)), int(node["GPU"])) for node in hosts]
        gpus = cluster.gpus or 1 / min(processes_per_gpu(*size) for size in sizes)
        cpus = cluster.cpus or max(1, int(min(own * gpus / number for own, number in sizes)))
        all_gpus = sum(number for _, number in sizes)
    plan = WorkerPlan(0, gpus, cpus, int((cluster.memory_gb or 0) * GB), all_gpus)
    room = sum(map(plan.room, hosts))
    if room == 0 or (count or 0) > room:
        wanted = "any worker" if room == 0 else counted(count or 1, "worker")
        raise WorkersError(
            f"{cluster} has room for {counted(room, 'worker')} with {plan} each, not for {wanted}; "
            "give fewer --workers, or less for each of them"
        )
    return replace(plan, count=count or room)


def nodes_for(
    nodes: Sequence[Mapping[str, float]], device: str, cluster: RayCluster
) -> list[Mapping[str, float]]:
    """The machines that can train on a device. Raises WorkersError where there is none."""
    hosts = [node for node in nodes if device == "cpu" or node.get("GPU", 0) >= 1]
    if not hosts:
        raise WorkersError(
            f"{cluster} has no GPU, and the search trains on {device}; add a machine with a GPU, "
            "or begin a study with training_device cpu"
        )
    return hosts
