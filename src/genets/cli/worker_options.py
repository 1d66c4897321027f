"""Options that say where the workers of a search run."""

from __future__ import annotations

import shlex
from inspect import Parameter
from typing import Annotated, Any

from genets.cli.options import WORKERS, option, optional_parameter
from genets.core.errors import SettingsError
from genets.nas.workers.job import Machines
from genets.nas.workers.machines import MACHINES, find_machines

WorkersOn = Annotated[
    str,
    option(
        "Where trials and candidates are trained: on this machine, or on a Ray cluster, with the "
        "same results. The rest of a search runs on this machine.",
        panel=WORKERS,
        name="--workers-on",
        choices=tuple(MACHINES),
    ),
]


class RayOptions:
    """The options of a Ray cluster; the command receives fields of `genets.RayCluster`."""

    def parameters(self) -> list[Parameter]:
        address = option(
            "Head node of the running Ray cluster, or auto for the running cluster of this "
            "machine.",
            "none: a cluster of this machine is started",
            WORKERS,
            metavar="HOST:PORT",
        )
        gpus = option(
            "Share of a GPU for each worker on Ray, such as 0.5.",
            "1 for a large network, down to 0.25 for a small one",
            WORKERS,
        )
        cpus = option(
            "CPU cores for each worker on Ray.",
            "1, or an equal share of the cores of a machine with GPUs",
            WORKERS,
            min=1,
        )
        memory = option(
            "Memory that each worker on Ray reserves, in GB.", "none", WORKERS, metavar="GB"
        )
        return [
            optional_parameter("ray_address", str, address),
            optional_parameter("ray_gpus", float, gpus),
            optional_parameter("ray_cpus", int, cpus),
            optional_parameter("ray_memory", float, memory),
        ]

    def collect(self, given: dict[str, Any]) -> dict[str, Any]:
        fields = {name.removeprefix("ray_"): value for name, value in given.items()}
        if "memory" in fields:
            fields["memory_gb"] = fields.pop("memory")
        return fields


def make_machines(workers_on: str, ray: dict[str, Any]) -> Machines:
    """Give the machines of the options. Raises SettingsError."""
    if workers_on == "ray":
        from genets.nas.workers.ray_cluster import RayCluster

        return RayCluster(**ray)
    if ray:
        name = "memory" if "memory_gb" in ray else next(iter(ray))
        raise SettingsError(f"--ray-{name} needs --workers-on ray")
    return find_machines(workers_on)


def show_worker_options(workers_on: str, ray: dict[str, Any]) -> str:
    """Give the options as words of a command; empty where they are the default."""
    if workers_on == "local":
        return ""
    words = ["--workers-on", workers_on]
    for name, value in ray.items():
        words += [f"--ray-{name.removesuffix('_gb')}", str(value)]
    return " " + shlex.join(words)
