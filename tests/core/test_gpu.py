"""GPUs that cannot be used: one sentence for each reason."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from genets.core import gpu
from genets.core.errors import TargetError, TrainingError
from genets.core.gpu import (
    check_free_memory,
    check_gpu,
    check_one_kind,
    device_memory,
    free_bytes,
    has_cuda,
)
from genets.training import resources
from genets.training.run import distributed

GIB = 2**30
OLD_DRIVER = (
    "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU "
    "driver by downloading and installing a new version\nfrom the URL"
)
NO_DRIVER = "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU"


class Torch:
    """The part of PyTorch that `genets.core.gpu` calls, on a machine with these GPUs."""

    __version__ = "2.6.0"

    def __init__(
        self,
        *names: str,
        built_for: str | None = "12.4",
        start_error: str = "No CUDA GPUs are available",
        memory: tuple[int, int] | str = (70 * GIB, 80 * GIB),
        own: int = 0,
        used: int = 0,
        hip: str | None = None,
    ) -> None:
        self.current: str | None = None
        self.version = SimpleNamespace(cuda=built_for, hip=hip)
        self.cuda: Any = SimpleNamespace(
            is_available=lambda: bool(names),
            device_count=lambda: len(names),
            get_device_name=lambda number: names[number],
            init=lambda: self._fail(start_error),
            device=self._select,
            mem_get_info=lambda device: self._memory(device, memory),
            memory_reserved=lambda device: own,
            memory_allocated=lambda device: used,
        )

    @contextmanager
    def _select(self, device: str) -> Iterator[None]:
        self.current = device
        yield
        self.current = None

    def _memory(self, device: str, memory: tuple[int, int] | str) -> Any:
        assert self.current == device, "the query would create a context on another GPU"
        return self._fail(memory) if isinstance(memory, str) else memory

    def _fail(self, text: str) -> None:
        raise RuntimeError(text)


@pytest.mark.parametrize(
    ("torch", "visible", "sentence"),
    [
        (Torch(), None, "this machine has no CUDA device"),
        (Torch(start_error=NO_DRIVER), "0", "this machine has no CUDA device"),
        (Torch(), "", "CUDA_VISIBLE_DEVICES is empty, which hides every GPU; unset it"),
        (Torch(), "7", "CUDA_VISIBLE_DEVICES='7' names no GPU of this machine"),
        (
            Torch(),
            "MIG-3f8a9c1e-0000",
            "CUDA_VISIBLE_DEVICES='MIG-3f8a9c1e-0000' names no GPU of this machine",
        ),
        (
            Torch(start_error=OLD_DRIVER),
            None,
            "the NVIDIA driver is too old for PyTorch 2.6.0, which is built for CUDA 12.4; update "
            "the driver, or install PyTorch for an older CUDA",
        ),
        (
            Torch(built_for=None),
            None,
            "this machine has no CUDA device that PyTorch 2.6.0, a build without CUDA, can use",
        ),
        (
            Torch(start_error="system not yet initialized"),
            None,
            "this machine has no CUDA device that starts (system not yet initialized)",
        ),
        (
            Torch("AMD Instinct MI300X", built_for=None, hip="6.2"),
            None,
            "PyTorch 2.6.0 is a build for AMD GPUs (ROCm), which genets does not support",
        ),
    ],
)
def test_a_gpu_that_does_not_start(monkeypatch, torch, visible, sentence) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(TargetError) as error:
        check_gpu(torch, "cuda")
    assert str(error.value) == f"device 'cuda' is not available: {sentence}"


def test_an_amd_gpu_is_no_cuda_device() -> None:
    assert has_cuda(Torch("A"))
    assert not has_cuda(Torch())
    assert not has_cuda(Torch("AMD Instinct MI300X", built_for=None, hip="6.2"))


@pytest.mark.parametrize("training_device", [resources.training_device, distributed.find_device])
def test_auto_trains_on_the_cpu_beside_an_amd_gpu(monkeypatch, training_device) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.version.hip", "6.2")
    assert str(training_device("auto")) == "cpu"


@pytest.mark.parametrize("name", ["tpu", "cpu:0", "cuda:-1", "cuda:01"])
def test_no_training_uses_a_device_of_another_name(name) -> None:
    message = f"device must be auto, cpu, cuda or cuda:NUMBER, not '{name}'"
    with pytest.raises(TargetError, match=message):
        resources.training_device(name)
    with pytest.raises(TrainingError, match=message):
        distributed.find_device(name)


def test_a_number_that_no_gpu_has(monkeypatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert check_gpu(Torch("A", "A"), "cuda:1") == 1
    with pytest.raises(TargetError, match=r"has 2 CUDA devices, numbered from 0$"):
        check_gpu(Torch("A", "A"), "cuda:2")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,9")
    with pytest.raises(TargetError, match="CUDA_VISIBLE_DEVICES='0,9' may hide others"):
        check_gpu(Torch("A"), "cuda:1")


@pytest.mark.parametrize(
    ("torch", "sentence"),
    [
        (
            Torch("A", memory=(GIB // 8, 80 * GIB)),
            "device 'cuda:0' has only 0.12 of 80.0 GiB of memory free; end the other processes on "
            "it, or choose another device",
        ),
        (
            Torch("A", memory="CUDA error: out of memory"),
            "device 'cuda:0' cannot be used now (CUDA error: out of memory); end the other "
            "processes on it, or choose another device",
        ),
        (
            Torch("A", memory="CUDA-capable device(s) is/are busy or unavailable"),
            "device 'cuda:0' cannot be used now (CUDA-capable device(s) is/are busy or "
            "unavailable); end the other processes on it, or choose another device",
        ),
    ],
)
def test_a_gpu_that_others_hold(torch, sentence) -> None:
    with pytest.raises(TargetError) as error:
        check_free_memory(torch, "cuda:0")
    assert str(error.value) == sentence


def test_the_cache_of_this_process_is_free_for_it() -> None:
    check_free_memory(Torch("A", memory=(GIB // 8, 80 * GIB), own=60 * GIB), "cuda:0")


def test_tensors_of_this_process_are_not_free() -> None:
    full = Torch("A", memory=(GIB // 8, 80 * GIB), own=60 * GIB, used=60 * GIB - GIB // 8)
    with pytest.raises(TargetError) as error:
        check_free_memory(full, "cuda:0")
    assert str(error.value) == (
        "device 'cuda:0' has only 0.25 of 80.0 GiB of memory free, and this process holds 59.9 "
        "GiB; delete its networks and tensors, end the other processes on it, or choose another "
        "device"
    )
    check_free_memory(full, "cuda:0", after_failure=True)  # the tensors of a failed run
    others = Torch("A", memory=(GIB // 8, 80 * GIB), own=GIB // 8, used=GIB // 8)
    for after_failure in (False, True):
        with pytest.raises(TargetError, match="GiB of memory free; end the other processes on it"):
            check_free_memory(others, "cuda:0", after_failure=after_failure)


def test_the_cache_of_pytorch_is_free_memory(monkeypatch) -> None:
    torch = Torch("A", memory=(10 * GIB, 80 * GIB), own=60 * GIB, used=45 * GIB)
    assert free_bytes(torch, "cuda:0") == (10 + 15) * GIB
    assert device_memory(torch, "cuda:0") == (10 * GIB, 80 * GIB), "for other processes"
    monkeypatch.setattr(gpu, "available_bytes", lambda: 7)
    assert free_bytes(torch, "cpu") == 7
    monkeypatch.setattr(gpu, "available_bytes", lambda: None)
    assert free_bytes(torch, "cpu") is None


def test_different_gpus_have_no_single_latency() -> None:
    mixed = Torch("NVIDIA H100", "NVIDIA A100")
    with pytest.raises(TargetError) as error:
        check_one_kind(mixed, "cuda")
    assert str(error.value) == (
        "device 'cuda' has no single latency, because this machine has different GPUs (cuda:0 "
        "NVIDIA H100, cuda:1 NVIDIA A100); name one of them, such as cuda:0, as the device of the "
        "latency"
    )
    for torch, device in ((mixed, "cuda:1"), (mixed, "cpu"), (Torch("A", "A"), "cuda")):
        check_one_kind(torch, device)
