"""Why a network does not run on a device: one sentence for each reason."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from genets.core.errors import TargetError
from genets.latency import Target, measure
from genets.latency.engines.base import explain_failures

NO_COMPILER = "Failed to find C compiler. Please specify via CC environment variable"


@pytest.mark.parametrize(
    ("error", "free", "own", "sentence"),
    [
        (
            RuntimeError(f"backend='inductor' raised:\nRuntimeError: {NO_COMPILER}"), 70, 0,
            "engine torch-compile needs a C compiler and Triton on device 'cuda', and they are not "
            "installed or do not work; install gcc, or name another compiler in the variable CC",
        ),
        (
            torch.OutOfMemoryError("CUDA out of memory"), 0, 0,
            "device 'cuda' has only 0.00 of 80.0 GiB of memory free; end the other processes on "
            "it, or choose another device",
        ),
        (
            torch.OutOfMemoryError("CUDA out of memory"), 0, 60,
            "batch_size 64 at resolution 8 does not fit into the memory of cuda; use a smaller "
            "batch_size",
        ),
    ],
)  # fmt: skip
def test_why_a_network_does_not_run_on_a_gpu(monkeypatch, error, free, own, sentence) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free << 30, 80 << 30))
    for name in ("memory_reserved", "memory_allocated"):  # the failed run still has its tensors
        monkeypatch.setattr(torch.cuda, name, lambda device: own << 30)
    monkeypatch.setattr(torch.cuda, "device", nullcontext)
    with pytest.raises(TargetError) as raised, explain_failures(Target("cuda", "torch-compile"), 8):
        raise error
    assert str(raised.value) == sentence


@pytest.mark.parametrize("text", ["could not create a primitive", "std::bad_alloc"])
def test_a_cpu_without_memory(text: str) -> None:
    sentence = "batch_size 64 at resolution 8 does not fit into the memory of cpu; use a smaller"
    with pytest.raises(TargetError, match=sentence), explain_failures(Target("cpu"), 8):
        raise RuntimeError(text)


def test_a_device_that_fails_while_networks_are_measured(fake_engine, device) -> None:
    fake_engine(lambda *_: 0.1)

    def slowness(now_s: float) -> float:
        if now_s > 1.0:
            raise RuntimeError("CUDA error: the device is lost\nCompile with TORCH_USE_CUDA_DSA")
        return 1.0

    device.slowness = slowness
    with pytest.raises(TargetError) as raised:
        measure(nn.Identity(), Target(engine="fake", batch_size=1), 8)
    sentence = "device cpu failed while networks were measured: CUDA error: the device is lost"
    assert str(raised.value) == sentence
