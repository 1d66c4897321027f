"""Ray clusters: room for workers, and the sentences of what goes wrong. No cluster is started."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from rounds_lab import SearchCommand

import genets
from command_line import fails
from genets.core.errors import GenetsError, WorkersError
from genets.nas.workers.environment import describe_differences, describe_environment
from genets.nas.workers.ray_cluster import RayCluster, describe_failure, split_address
from genets.nas.workers.ray_plan import WorkerPlan, plan_workers
from genets.nas.workers.ray_workers import describe_death

CPUS = [{"CPU": 8.0}, {"CPU": 3.0, "memory": 8e9}]
GPUS = [{"CPU": 64.0, "GPU": 8.0, "memory": 512e9}, {"CPU": 12.0, "GPU": 2.0}, {"CPU": 96.0}]


def plan(nodes: Any, count: int | None, device: str, per_gpu: int = 1, **asked: Any) -> WorkerPlan:
    cluster = RayCluster(address="10.0.0.1:6379", **asked)
    return plan_workers(nodes, cluster, count, device, lambda cores, gpus: per_gpu)


@pytest.mark.parametrize(
    ("nodes", "count", "device", "per_gpu", "asked", "expected"),
    [
        (CPUS, None, "cpu", 1, {}, WorkerPlan(11, 0, 1)),
        (CPUS, 4, "cpu", 1, {"cpus": 2}, WorkerPlan(4, 0, 2)),
        (CPUS, None, "cpu", 1, {"cpus": 2}, WorkerPlan(5, 0, 2)),
        (CPUS, None, "cpu", 1, {"memory_gb": 4}, WorkerPlan(2, 0, 1, 4 * 10**9)),
        (GPUS, None, "cuda", 1, {}, WorkerPlan(10, 1, 6, 0, 10)),
        (GPUS, None, "cuda:1", 4, {}, WorkerPlan(40, 0.25, 1, 0, 10)),
        (GPUS, 5, "cuda", 1, {"gpus": 0.4, "cpus": 2}, WorkerPlan(5, 0.4, 2, 0, 10)),
        (GPUS, None, "cuda", 1, {"gpus": 0.4, "cpus": 2}, WorkerPlan(20, 0.4, 2, 0, 10)),
        (GPUS, None, "cuda", 1, {"memory_gb": 128}, WorkerPlan(4, 1, 6, 128 * 10**9, 10)),
    ],
)
def test_workers_fill_the_machines(nodes, count, device, per_gpu, asked, expected) -> None:
    assert plan(nodes, count, device, per_gpu, **asked) == expected


@pytest.mark.parametrize(
    ("nodes", "count", "device", "asked", "sentence"),
    [
        (CPUS, 12, "cpu", {}, "has room for 11 workers with 1 CPU each, not for 12 workers"),
        (CPUS, 1, "cpu", {"cpus": 9}, "has room for 0 workers with 9 CPUs each, not for any"),
        (CPUS, 1, "cuda", {}, "the Ray cluster 10.0.0.1:6379 has no GPU, and the search trains on"),
        (GPUS, 11, "cuda", {}, "has room for 10 workers with 1 GPU, 6 CPUs each, not for 11"),
        (GPUS, 21, "cuda", {"gpus": 0.4}, "room for 20 workers with 0.4 GPU, 2 CPUs each"),
    ],
)
def test_a_cluster_without_room_is_refused(nodes, count, device, asked, sentence) -> None:
    with pytest.raises(WorkersError, match=sentence):
        plan(nodes, count, device, **asked)


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("gpus", 0.0, "gpus of a Ray worker must be above 0 and at most 1, not 0, because"),
        ("gpus", 2.0, "gpus of a Ray worker must be above 0 and at most 1, not 2, because"),
        ("gpus", float("nan"), "not nan"),
        ("gpus", True, "gpus must be a valid number, not True"),
        ("cpus", 1.5, "cpus must be a valid integer, not 1.5"),
        ("cpus", 0, "cpus must be greater than or equal to 1, not 0"),
        ("memory_gb", -1.0, "memory_gb must be greater than 0, not -1.0"),
        ("memory_gb", float("inf"), "memory_gb must be a finite number, not inf"),
        ("address", 6379, "address must be a valid string, not 6379"),
        ("address", "", "must be HOST:PORT of its head node"),
        ("address", "node7", "such as 10.0.0.1:6379, or auto, not 'node7'"),
        ("address", "node7:http", "not 'node7:http'"),
        ("address", "ray://10.0.0.1:10001", "not 'ray://10.0.0.1:10001'"),
    ],
)
def test_wrong_values_are_named(field: str, value: Any, sentence: str) -> None:
    with pytest.raises(GenetsError, match=sentence):
        RayCluster(**{field: value})


def test_addresses() -> None:
    assert split_address("node7:6379") == ("node7", 6379)
    assert split_address("[::1]:6379") == ("::1", 6379)
    assert genets.RayCluster(address="auto").address == "auto"


def test_a_missing_package_is_named(
    search_command: SearchCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    fails(search_command("--workers-on", "ray"), "in the clone of genets: pip install '.[ray]'")


def test_options_of_ray_need_workers_on_ray(search_command: SearchCommand) -> None:
    fails(search_command("--ray-memory", 4), "--ray-memory needs --workers-on ray")
    fails(search_command("--workers-on", "rai"), "unknown workers-on 'rai'; did you mean ray")


def test_gpus_for_workers_on_cpus_are_refused(search_command: SearchCommand) -> None:
    pytest.importorskip("ray", reason="needs the extra `ray`")
    fails(
        search_command("--workers-on", "ray", "--ray-gpus", 0.5), "its Ray workers cannot have gpus"
    )


def test_an_address_without_a_cluster_is_named(
    search_command: SearchCommand, tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="needs the extra `ray`")
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    words = ("--workers-on", "ray", "--ray-address")
    fails(
        search_command(*words, address), f"no Ray cluster answers at {address}: Connection refused"
    )
    fails(search_command(*words, "127.0.0.1:99999"), "no Ray cluster answers at 127.0.0.1:99999")
    assert not (tmp_path / "study").exists()


def test_versions_of_a_cluster_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    utils = pytest.importorskip("ray._private.utils", reason="needs the extra `ray`")
    with pytest.raises(RuntimeError) as caught:
        utils.check_version_info({"ray_version": "1.2", "python_version": "3.7.1"}, "node a")
    shown = describe_failure(caught.value)
    assert shown.startswith("it has Ray 1.2 and Python 3.7.1, and this machine has Ray ")
    assert shown.endswith("install the same versions")
    wrapped = ConnectionError("Failed to connect")
    wrapped.__cause__ = caught.value
    assert describe_failure(wrapped) == shown
    assert describe_failure(ConnectionError("Failed to connect.\nMore")) == "Failed to connect"
    wrapped.__cause__ = RuntimeError("no node here.")
    assert describe_failure(wrapped) == "Failed to connect: no node here"
    wrapped.__cause__ = RuntimeError("GCS: InvalidAuthToken: Authentication token is missing")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert describe_failure(wrapped).startswith("its authentication token is missing here")
    monkeypatch.delenv("RAY_AUTH_MODE")
    assert "set RAY_AUTH_MODE=token" in describe_failure(wrapped)


def test_differences_between_machines_are_named() -> None:
    own = describe_environment("cpu", "fp32")
    assert own["genets"] == genets.__version__
    assert describe_differences(own, dict(own)) == ""
    theirs = own | {"timm": "0.9", "precision of matrix products": "medium"}
    assert describe_differences(own, theirs) == (
        f"timm: {own['timm']} in the search, 0.9 there; "
        "precision of matrix products: highest in the search, medium there"
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Task was killed due to the node running low on memory.", "memory ran out on its machine"),
        ("The actor died because its node has died. Node Id: 12", "its machine was lost"),
        ("All copies of 12 have been lost due to node failure.", "its machine was lost"),
        ("Worker unexpectedly exits with a connection error code 2. End of file. (1) The process "
         "is killed by SIGKILL", "it was killed, perhaps because memory ran out"),
        ("something else\nmore", "something else"),
    ],
)  # fmt: skip
def test_deaths_have_a_reason(text: str, reason: str) -> None:
    assert describe_death(RuntimeError(text)) == reason


def test_ray_knows_later_that_a_machine_is_lost() -> None:
    exceptions = pytest.importorskip("ray.exceptions", reason="needs the extra `ray`")
    error = exceptions.ActorUnavailableError("RPC error: Socket closed", None)
    assert describe_death(error) == "the connection to it was lost"
