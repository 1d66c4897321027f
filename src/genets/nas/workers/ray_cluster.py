"""Ray clusters: how one is named, started or found, and how many workers it has room for."""

from __future__ import annotations

import logging
import math
import os
import re
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from genets.core.errors import (
    GenetsError,
    SettingsError,
    WorkersError,
    first_line,
    install_hint,
    shown,
)
from genets.core.host import available_bytes, count_cpus, physical_cores
from genets.core.validation import check_fields
from genets.nas.workers.devices import list_devices
from genets.nas.workers.job import ProcessesPerGpu
from genets.nas.workers.ray_plan import nodes_for, plan_workers

if TYPE_CHECKING:
    from genets.nas.workers.ray_workers import RayWorkers

AUTO = "auto"
ANSWER_SECONDS = 10  # for the head node of a cluster
AUTH_MODE = "RAY_AUTH_MODE"
TOKEN_ADVICE = "copy ~/.ray/auth_token of its head node to this machine, or set RAY_AUTH_TOKEN"
ATTEMPTS = "RAY_gcs_server_port_wait_time_s"  # to connect to a cluster, despite its name


@dataclass(frozen=True, kw_only=True)
class RayCluster:
    """A Ray cluster that runs workers; see `Machines`.

    Attributes:
        address: HOST:PORT of the head node of a running cluster, or `auto` for the running cluster
            of this machine. With None, a cluster of this machine alone is started whenever workers
            are needed, and ended afterwards, so that it disturbs no measurement.
        gpus: The share of a GPU that each worker gets, above 0 and at most 1; None for a share
            that follows from the size of the networks.
        cpus: The CPU cores that each worker gets; None for one core without a GPU, and for an equal
            share of the cores of a machine with GPUs.
        memory_gb: The memory that each worker reserves, in GB; None reserves none.
    """

    address: str | None = None
    gpus: float | None = None
    cpus: Annotated[int, Field(ge=1)] | None = None
    memory_gb: Annotated[float, Field(gt=0)] | None = None

    def __post_init__(self) -> None:
        """Raises GenetsError: a value has another type or is out of range."""
        check_fields(self, raises=SettingsError)
        if self.gpus is not None and not 0 < self.gpus <= 1:
            raise SettingsError(
                f"gpus of a Ray worker must be above 0 and at most 1, not {self.gpus:g}, because a "
                "worker uses one GPU"
            )
        if self.address is not None and self.address != AUTO:
            split_address(self.address)

    def __str__(self) -> str:
        if self.address is None:
            return "a Ray cluster of this machine"
        return f"the Ray cluster {'of this machine' if self.address == AUTO else self.address}"

    def check(self, device: str) -> None:
        """Raise GenetsError where Ray is missing, no cluster answers, or it has no GPU."""
        import_ray()
        if device == "cpu" and self.gpus is not None:
            raise SettingsError(
                "the search trains on CPUs (see setting training_device), so its Ray workers "
                "cannot have gpus"
            )
        if self.address is not None:
            with self.connected() as connection:
                nodes_for(connection.nodes(), device, self)

    def workers(
        self, count: int | None, device: str, processes_per_gpu: ProcessesPerGpu, folder: Path
    ) -> RayWorkers:
        """See `Machines.workers`."""
        from genets.nas.workers.ray_workers import RayWorkers

        if self.address is None and not import_ray().is_initialized():
            nodes = [self._own_node(count, device)]
        else:
            with self.connected() as connection:
                nodes = connection.nodes()
        return RayWorkers(self, plan_workers(nodes, self, count, device, processes_per_gpu))

    def _own_node(self, count: int | None, device: str) -> dict[str, float]:
        """The resources of this machine for a cluster that is started here."""
        memory = available_bytes() or math.inf
        if device != "cpu":
            return {"CPU": count_cpus(), "GPU": len(list_devices("cuda")), "memory": memory}
        # More workers than cores are as welcome as they are without Ray.
        cpus = self.cpus or 1
        return {"CPU": (count or max(1, physical_cores() // cpus)) * cpus, "memory": memory}

    @contextmanager
    def connected(self, cpus: int | None = None, memory: int = 0) -> Iterator[Connection]:
        """Use the cluster for the block; a connection that the program has already is used.

        Args:
            cpus: The number of cores of a cluster that is started; None for all.
            memory: The bytes that its workers reserve together.

        Raises:
            WorkersError: The cluster cannot be used.
        """
        ray = import_ray()
        if ray.is_initialized():
            yield Connection(ray, None)
            return
        folder = None
        options: dict[str, Any] = {"address": self.address}
        if self.address is None:
            # With its own folder, other programs do not find the cluster, and no file remains.
            folder = tempfile.mkdtemp(prefix="genets-ray-")
            options = {
                "address": "local",
                "num_cpus": cpus,
                "include_dashboard": False,
                "_node_ip_address": "127.0.0.1",
                "_temp_dir": folder,
                "_memory": memory or None,
            }
        elif self.address != AUTO:
            _check_answers(self.address)
        internals = ray._private
        loopback = _replaced(
            # Otherwise Ray takes another address of this machine in place of 127.0.0.1.
            internals.ray_constants, "ENABLE_RAY_CLUSTER", self.address is not None
        )  # fmt: skip
        # Otherwise Ray reports the death of a worker on standard output.
        silence = _replaced(internals.worker, "print_to_stdstream", lambda *_, **__: None)
        with silence:
            try:
                with _explained(str(self)), _signals_kept(), loopback, _one_attempt(self.address):
                    ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
                yield Connection(ray, folder)
            finally:
                with _signals_kept():
                    ray.shutdown(wait_for_processes=True)
                if folder is not None:
                    shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Connection:
    """A connection to a cluster.

    Attributes:
        ray: The package.
        folder: The folder of a cluster that was started here; it is removed with the cluster.
    """

    ray: Any
    folder: str | None

    def nodes(self) -> list[dict[str, float]]:
        """Give the resources of each machine of the cluster."""
        return [node["Resources"] for node in self.ray.nodes() if node["Alive"]]


def import_ray() -> Any:
    """Import Ray, without its statistics of usage. Raises WorkersError."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # before the import
    try:
        import ray
    except ImportError as error:
        raise WorkersError(f"workers on Ray need the package ray; {install_hint('ray')}") from error
    return ray


def split_address(address: str) -> tuple[str, int]:
    """Give host and port of a head node. Raises SettingsError."""
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not re.fullmatch(r"[0-9]{1,5}", port):
        raise SettingsError(
            "the address of a Ray cluster must be HOST:PORT of its head node, such as "
            f"10.0.0.1:6379, or {AUTO}, not {shown(address)}"
        )
    return host.strip("[]"), int(port)


def _check_answers(address: str) -> None:
    """Raise WorkersError where nothing listens at an address; Ray itself would try for minutes."""
    try:
        socket.create_connection(split_address(address), timeout=ANSWER_SECONDS).close()
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise WorkersError(f"no Ray cluster answers at {address}: {reason}") from error


@contextmanager
def _explained(cluster: str) -> Iterator[None]:
    """Turn an error of Ray into one sentence."""
    try:
        yield
    except GenetsError:
        raise
    except Exception as error:  # Ray raises errors of many classes, also plain ones
        raise WorkersError(f"cannot use {cluster}: {describe_failure(error)}") from error


def describe_failure(error: BaseException) -> str:
    """Give the reason of an error of Ray, also of another version of Ray or of Python."""
    texts, each = [], error
    while each is not None:
        texts.append(str(each))
        each = each.__cause__  # type: ignore[assignment]
    versions = re.findall(r"^\s*(?:Ray|Python): (\S+)$", "\n".join(texts), re.MULTILINE)
    if "authentication" in " ".join(texts).lower():
        # Ray does not set it by itself for a cluster with an address.
        if os.environ.get(AUTH_MODE, "").lower() != "token":
            return f"it asks for an authentication token; set {AUTH_MODE}=token, and {TOKEN_ADVICE}"
        return f"its authentication token is missing here or is another one; {TOKEN_ADVICE}"
    if len(versions) < 4:
        lines = (text.partition(" Last connection error:")[0].strip() for text in texts)
        reasons = dict.fromkeys(line.partition("\n")[0].rstrip(".") for line in lines if line)
        return ": ".join(reasons) or first_line(error)
    ray, python, own_ray, own_python = versions[:4]
    return (
        f"it has Ray {ray} and Python {python}, and this machine has Ray {own_ray} and Python "
        f"{own_python}; install the same versions"
    )


@contextmanager
def _one_attempt(address: str | None) -> Iterator[None]:
    """Let Ray try once; it would try 20 times for 40 seconds where another program answers."""
    if address is None or ATTEMPTS in os.environ:
        yield
        return
    os.environ[ATTEMPTS] = "1"
    try:
        yield
    finally:
        del os.environ[ATTEMPTS]


@contextmanager
def _replaced(module: Any, name: str, value: Any) -> Iterator[None]:
    """Replace an internal of Ray where Ray has no option; another version may lack it."""
    before = getattr(module, name, None)
    if before is not None:
        setattr(module, name, value)
    try:
        yield
    finally:
        if before is not None:
            setattr(module, name, before)


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Restore the reaction to SIGTERM, which Ray replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
