"""The kinds of machines that run workers, by name."""

from __future__ import annotations

from collections.abc import Callable

from genets.core.errors import SettingsError, unknown_name
from genets.core.lazy import import_on_call
from genets.nas.workers.job import Machines

# Imported when they are called, because the command line needs only the names.
MACHINES: dict[str, Callable[[], Machines]] = {
    "local": import_on_call("genets.nas.workers.local", "LocalMachine"),
    "ray": import_on_call("genets.nas.workers.ray_cluster", "RayCluster"),
}


def find_machines(where: str | Machines) -> Machines:
    """Give the machines of a name of `MACHINES`; machines that are given stay as they are.

    Raises:
        SettingsError: The name is unknown.
    """
    if not isinstance(where, str):
        return where
    if where not in MACHINES:
        raise SettingsError(unknown_name("kind of workers", where, MACHINES))
    return MACHINES[where]()
