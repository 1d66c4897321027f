"""GPUs: whether this process can use a CUDA device, why it cannot, and how much memory is free.

PyTorch is a parameter, because this layer imports no PyTorch; a test gives a stand-in.
"""

from __future__ import annotations

import os
import warnings
from typing import Any

from genets.core.errors import TargetError, counted, first_line
from genets.core.host import available_bytes

VISIBLE = "CUDA_VISIBLE_DEVICES"
# A process of PyTorch needs about this much memory before its first network: the context of CUDA
# and the libraries of cuDNN and cuBLAS.
MIN_FREE_BYTES = 2**29
GIB = 2**30
# Parts of PyTorch's error messages. NO_GPU: this machine has no GPU. TAKEN: other processes hold
# the memory of the GPU, or one of them uses the GPU alone.
NO_DRIVER = "no NVIDIA driver"
TAKEN = ("out of memory", "busy or unavailable")
NO_GPU = (NO_DRIVER, "No CUDA GPUs", "no CUDA-capable device")


def has_cuda(torch: Any) -> bool:
    """Whether PyTorch can use an NVIDIA GPU of this machine.

    Args:
        torch: The package PyTorch.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's text about an old driver; see `_missing_text`
        return bool(torch.cuda.is_available()) and not _is_for_amd(torch)


def _is_for_amd(torch: Any) -> bool:
    """Whether PyTorch is a build for AMD GPUs, which calls such a GPU `cuda`, too."""
    return getattr(torch.version, "hip", None) is not None


def check_gpu(torch: Any, device: str) -> int:
    """Return the number of a CUDA device of this machine.

    Args:
        torch: The package PyTorch.
        device: `cuda` or `cuda:NUMBER`.

    Raises:
        TargetError: PyTorch finds no GPU, or none with this number, or is a build for AMD GPUs.
    """
    if not has_cuda(torch):
        raise TargetError(f"device {device!r} is not available: {_missing_text(torch)}")
    number = int(device.partition(":")[2] or 0)
    count = torch.cuda.device_count()
    if number >= count:
        visible = os.environ.get(VISIBLE)
        limit = "" if visible is None else f"; {VISIBLE}={visible!r} may hide others"
        raise TargetError(
            f"device {device!r} is not available: this machine has "
            f"{counted(count, 'CUDA device')}, numbered from 0{limit}"
        )
    return number


def _missing_text(torch: Any) -> str:
    """Why PyTorch finds no GPU."""
    if _is_for_amd(torch):
        return (
            f"PyTorch {torch.__version__} is a build for AMD GPUs (ROCm), which genets does not "
            "support"
        )
    if torch.version.cuda is None:
        return (
            f"this machine has no CUDA device that PyTorch {torch.__version__}, a build without "
            "CUDA, can use"
        )
    reason = _start_error(torch)
    if "too old" in reason:
        return (
            f"the NVIDIA driver is too old for PyTorch {torch.__version__}, which is built for "
            f"CUDA {torch.version.cuda}; update the driver, or install PyTorch for an older CUDA"
        )
    visible = os.environ.get(VISIBLE)
    if reason and not any(words in reason for words in NO_GPU):
        return f"this machine has no CUDA device that starts ({reason})"
    if visible is None or NO_DRIVER in reason:
        return "this machine has no CUDA device"
    if not visible.strip():
        return f"{VISIBLE} is empty, which hides every GPU; unset it"
    return f"{VISIBLE}={visible!r} names no GPU of this machine"


def _start_error(torch: Any) -> str:
    """The reason that CUDA does not start; empty where it starts."""
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:  # AssertionError: a build without CUDA
        return first_line(error)
    return ""


def device_memory(torch: Any, device: str) -> tuple[int, int]:
    """Return the free and the total memory of a CUDA device, in bytes.

    Every other process can allocate the free memory. The cache of this process is no part of it.

    Args:
        torch: The package PyTorch.
        device: `cuda` or `cuda:NUMBER`.
    """
    # Without this, the query also allocates memory on the first GPU.
    with torch.cuda.device(device):
        free, total = torch.cuda.mem_get_info(device)
    return int(free), int(total)


def free_bytes(torch: Any, device: str) -> int | None:
    """Return the memory of a device that this process can still allocate.

    On a GPU this includes the cache of PyTorch: freed memory that PyTorch keeps for later tensors.

    Args:
        torch: The package PyTorch.
        device: `cpu`, `cuda` or `cuda:NUMBER`.

    Returns:
        Bytes; None where the system does not report its free memory.
    """
    if not device.startswith("cuda"):
        return available_bytes()
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return device_memory(torch, device)[0] + int(cached)


def check_free_memory(torch: Any, device: str, *, after_failure: bool = False) -> None:
    """Check that a CUDA device has enough free memory for this process to begin.

    Args:
        torch: The package PyTorch.
        device: `cuda` or `cuda:NUMBER`, which `check_gpu` accepts.
        after_failure: Whether work of this process has just failed. Its tensors still hold memory,
            so only the memory of other processes counts.

    Raises:
        TargetError: There is not enough memory, or another process uses the device alone.
    """
    advice = "end the other processes on it, or choose another device"
    try:
        free, total = device_memory(torch, device)
    except RuntimeError as error:
        if not any(words in str(error) for words in TAKEN):
            return  # a fault of another kind, which the first use of the device will show
        raise TargetError(
            f"device {device!r} cannot be used now ({first_line(error)}); {advice}"
        ) from error
    own = 0 if after_failure else torch.cuda.memory_allocated(device)
    free += torch.cuda.memory_reserved(device) - own
    if free >= MIN_FREE_BYTES:
        return
    held = ""
    if free + own >= MIN_FREE_BYTES:
        held = f", and this process holds {own / GIB:.1f} GiB"
        advice = f"delete its networks and tensors, {advice}"
    raise TargetError(
        f"device {device!r} has only {free / GIB:.2f} of {total / GIB:.1f} GiB of memory "
        f"free{held}; {advice}"
    )


def has_bf16(torch: Any, device: str) -> bool:
    """Whether a CUDA device computes bf16 instead of emulating it."""
    with torch.cuda.device(device):
        return bool(torch.cuda.is_bf16_supported(False))


def gpu_names(torch: Any) -> list[str]:
    """The name of each CUDA device of this machine, by its number."""
    return [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]


def check_one_kind(torch: Any, device: str) -> None:
    """Check that a latency on a device has one meaning.

    PyTorch may number different GPUs in another order after a change of the machine or of
    CUDA_VISIBLE_DEVICES, so `cuda` alone then names no kind of GPU.

    Raises:
        TargetError: The device has no number, and this machine has different kinds of GPU.
    """
    names = gpu_names(torch) if device == "cuda" else []
    if len(set(names)) > 1:
        kinds = ", ".join(f"cuda:{number} {name}" for number, name in enumerate(names))
        raise TargetError(
            f"device 'cuda' has no single latency, because this machine has different GPUs "
            f"({kinds}); name one of them, such as cuda:0, as the device of the latency"
        )
