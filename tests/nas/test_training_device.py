"""Which device a search trains on, and which of several GPUs each of its processes has."""

from __future__ import annotations

import pytest
import torch

from genets.core.host import physical_cores
from genets.nas.workers import devices
from genets.nas.workers.devices import (
    assign_device,
    fitting_readers,
    fitting_workers,
    use_device,
)


@pytest.fixture
def gpus(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: request.param)


@pytest.mark.parametrize("gpus", [4], indirect=True)
def test_workers_take_the_gpus_in_turn(gpus: None) -> None:
    assert fitting_workers("cuda") == 4
    of_six = [assign_device(worker, "cuda") for worker in range(6)]
    assert of_six == ["cuda:0", "cuda:1", "cuda:2", "cuda:3", "cuda:0", "cuda:1"]


@pytest.mark.parametrize("gpus", [4], indirect=True)
def test_a_gpu_that_was_named_is_the_only_one(gpus: None) -> None:
    assert fitting_workers("cuda:2") == 1
    assert {assign_device(worker, "cuda:2") for worker in range(3)} == {"cuda:2"}


@pytest.mark.parametrize("gpus", [1], indirect=True)
def test_one_gpu_is_shared(gpus: None) -> None:
    assert fitting_workers("cuda") == 1
    assert {assign_device(worker, "cuda") for worker in range(3)} == {"cuda"}


def test_on_a_cpu_each_core_has_a_worker() -> None:
    assert fitting_workers("cpu") == physical_cores()
    assert {assign_device(worker, "cpu") for worker in range(3)} == {"cpu"}


def test_readers_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "count_cpus", lambda: 12)
    assert [fitting_readers(workers, "cuda") for workers in (1, 2, 4, 99)] == [8, 6, 3, 1]
    assert fitting_readers(2, "cpu") == 0


def test_a_worker_makes_its_gpu_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    own: list[str] = []
    monkeypatch.setattr(torch.cuda, "set_device", own.append)
    for device in ("cpu", "cuda", "cuda:2"):
        use_device(device)
    assert own == ["cuda:2"]
