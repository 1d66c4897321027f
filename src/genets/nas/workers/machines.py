"""The kinds of machines that run workers, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from genets.core.errors import SettingsError, check_type, unknown_name
from genets.core.lazy import import_on_call
from genets.nas.workers.job import Machines

# Imported when they are called, because the command line needs only the names.
MACHINES: dict[str, Callable[..., Machines]] = {
    "local": import_on_call("genets.nas.workers.local", "LocalMachine"),
    "ray": import_on_call("genets.nas.workers.ray_cluster", "RayCluster"),
    "slurm": import_on_call("genets.nas.workers.slurm.cluster", "SlurmCluster"),
}


def find_machines(where: str | Machines, **fields: Any) -> Machines:
    """Give the machines of a name of `MACHINES`; machines that are given stay as they are.

    Args:
        where: The name, or the machines.
        fields: The user's description of the machines of the name.

    Raises:
        GenetsError: The name is unknown, a field is wrong, or something else is given.
    """
    if not isinstance(where, str):
        allowed = f"{', '.join(MACHINES)}, or a cluster such as genets.RayCluster()"
        if isinstance(where, type):  # the class of a cluster
            raise SettingsError(f"workers_on must be {allowed}, not the class {where.__name__}")
        check_type("workers_on", where, Machines, allowed)
        return where
    if where not in MACHINES:
        raise SettingsError(unknown_name("kind of workers", where, MACHINES))
    return MACHINES[where](**fields)
