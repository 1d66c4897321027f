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
        "Where trials and candidates are trained: on this machine, on a Ray cluster, or in tasks "
        "of SLURM, with the same results. The rest of a search runs on this machine.",
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
        return _as_fields("ray_", given)


class SlurmOptions:
    """The options of a SLURM cluster; the command receives fields of `genets.SlurmCluster`."""

    def parameters(self) -> list[Parameter]:
        partition = option(
            "Partition of SLURM.", "the default of the cluster", WORKERS, metavar="NAME"
        )
        time = option(
            "Time limit of each task on SLURM, in minutes or as SLURM takes it, such as 2:00:00 "
            "or 1-12. A task that runs out of time continues in the queue.",
            "60",
            WORKERS,
            metavar="TIME",
        )
        gpus = option(
            "GPUs of each task on SLURM. Each GPU has a worker of its own.",
            "1 where the search trains on GPUs",
            WORKERS,
            min=1,
        )
        cpus = option("CPU cores for each worker on SLURM.", "1, or 4 beside a GPU", WORKERS, min=1)
        memory = option(
            "Memory of each task on SLURM, in GB.",
            "the default of the cluster",
            WORKERS,
            metavar="GB",
        )
        return [
            optional_parameter("slurm_partition", str, partition),
            optional_parameter("slurm_time", str, time),
            optional_parameter("slurm_gpus", int, gpus),
            optional_parameter("slurm_cpus", int, cpus),
            optional_parameter("slurm_memory", float, memory),
        ]

    def collect(self, given: dict[str, Any]) -> dict[str, Any]:
        return _as_fields("slurm_", given)


def _as_fields(prefix: str, given: dict[str, Any]) -> dict[str, Any]:
    """Turn options into the fields of a cluster."""
    fields = {name.removeprefix(prefix): value for name, value in given.items()}
    if "memory" in fields:
        fields["memory_gb"] = fields.pop("memory")
    return fields


ClusterOptions = dict[str, dict[str, Any]]  # the fields that were given, by the kind of workers


def make_machines(workers_on: str, given: ClusterOptions) -> Machines:
    """Give the machines of the options. Raises SettingsError."""
    for kind, fields in given.items():
        if fields and kind != workers_on:
            name = next(iter(fields)).removesuffix("_gb")
            raise SettingsError(f"--{kind}-{name} needs --workers-on {kind}")
    return find_machines(workers_on, **given.get(workers_on, {}))


def show_worker_options(
    count: int | None, workers_on: str, given: ClusterOptions, processes: int | None = None
) -> str:
    """Give the options as words of a command; empty where they are the default."""
    words = [] if count is None else ["--workers", str(count)]
    if workers_on != "local":
        words += ["--workers-on", workers_on]
    for name, value in given.get(workers_on, {}).items():
        words += [f"--{workers_on}-{name.removesuffix('_gb')}", str(value)]
    if processes is not None:
        words += ["--processes", str(processes)]
    return "".join(f" {shlex.quote(word)}" for word in words)
