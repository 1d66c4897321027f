"""A Ray cluster of several nodes on 127.0.0.1, and the faults of its workers and nodes."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from faulting.disturbed import DRIVER_FAULTS, DisturbedSearch, Fault, processes, send

NODES = 2  # with one CPU each, beside the head node
STARVE_SECONDS = 30.0
ATTEMPTS = 5  # to start a node
# A busy machine starts the processes of a node slowly, and Ray gives its workers a low priority.
OPTIONS = {
    "RAY_agent_register_timeout_ms": "600000",
    "RAY_raylet_start_wait_time_s": "90",
    "RAY_worker_niceness": "0",
}
PLACE = {"node_ip_address": "127.0.0.1", "include_dashboard": False}


@contextmanager
def ray_faults() -> Iterator[tuple[str, dict[str, Fault]]]:
    """Run a cluster for the block, and give its address and its faults."""
    os.environ.update(OPTIONS)
    from genets.nas.workers.ray_cluster import import_ray

    import_ray()
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    try:
        for cpus in (0, *[1] * NODES):  # the first one is the head node
            _add_node(cluster, cpus)
        yield cluster.address, DRIVER_FAULTS | _RayFaults(cluster).by_name()
    finally:
        cluster.shutdown()


class _RayFaults:
    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster

    def by_name(self) -> dict[str, Fault]:
        return {
            "kill_worker": self.kill_worker,
            "stop_worker": self.stop_worker,
            "starve_worker": self.starve_worker,
            "lose_node": self.lose_node,
        }

    def kill_worker(self, search: DisturbedSearch) -> None:
        send(search.wait_for(self._workers), signal.SIGKILL)

    def stop_worker(self, search: DisturbedSearch) -> None:
        """Let a worker hang."""
        send(search.wait_for(self._workers), signal.SIGSTOP)

    def starve_worker(self, search: DisturbedSearch) -> None:
        """Give a worker no further memory until it dies or is replaced."""
        worker = search.wait_for(self._workers)
        if worker is None:
            return
        with suppress(OSError):
            pages = int(Path(f"/proc/{worker}/statm").read_text().split()[0])
            limit = (pages * resource.getpagesize(), resource.RLIM_INFINITY)
            before = resource.prlimit(worker, resource.RLIMIT_AS, limit)
            deadline = time.monotonic() + STARVE_SECONDS
            while time.monotonic() < deadline:
                time.sleep(0.2)
                os.kill(worker, 0)  # an OSError where it has ended
            resource.prlimit(worker, resource.RLIMIT_AS, before)

    def lose_node(self, search: DisturbedSearch) -> None:
        """End a node with a worker, and let another one join."""
        worker = search.wait_for(self._workers)
        parents = {process: parent for process, parent, _ in processes()}
        nodes = {_raylet(node): node for node in self._cluster.worker_nodes}
        node = nodes.get(parents.get(worker or 0, 0)) or search.rng.choice([*nodes.values()])
        self._cluster.remove_node(node, allow_graceful=search.rng.random() < 0.5)
        _add_node(self._cluster, 1)

    def _workers(self) -> list[int]:
        """The processes that run a group."""
        raylets = {_raylet(node) for node in self._cluster.worker_nodes}
        return [
            process
            for process, parent, words in processes()
            if parent in raylets and words.startswith("ray::RayWorker.run")
        ]


def _add_node(cluster: Any, cpus: int) -> None:
    """Add a node; on a busy machine, a node may fail to start."""
    for _ in range(ATTEMPTS):
        try:
            cluster.add_node(num_cpus=cpus, **PLACE)
        except Exception as error:  # noqa: BLE001 - Ray raises no other class
            print(f"a node did not start: {error}", flush=True)
        else:
            return
    raise SystemExit(f"no node started in {ATTEMPTS} attempts")


def _raylet(node: Any) -> int:
    """The process of a node that starts its workers."""
    return int(node.all_processes["raylet"][0].process.pid)
