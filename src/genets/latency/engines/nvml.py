"""NVML: clocks, power, limits and other processes of a GPU, as NVIDIA's driver reports them.

NVML numbers the GPUs of the machine, and CUDA numbers those that CUDA_VISIBLE_DEVICES leaves in its
own order. A GPU is therefore found by its UUID. The package nvidia-ml-py (import name `pynvml`) is
optional; a test gives `open_gpu` a module of its own.
"""

from __future__ import annotations

import functools
import importlib
import os
import warnings
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from genets.core.errors import first_line, install_hint
from genets.core.log import get_logger

_log = get_logger(__name__)

# The bits of nvmlDeviceGetCurrentClocksThrottleReasons (nvml.h, nvmlClocksEventReasons). The first
# bit, which says that the card is idle, is left out.
REASONS = {
    0x002: "application clocks",
    0x004: "power cap",
    0x008: "hardware slowdown",
    0x010: "sync boost",
    0x020: "software thermal slowdown",
    0x040: "hardware thermal slowdown",
    0x080: "power brake",
    0x100: "display clock",
}
# These reasons come from heat or from the power supply, so the same run takes longer than on a cool
# card. A power cap is a part of the card, and a network that reaches it does so in every run.
# The driver reports a hardware slowdown alone, or beside the reason of this slowdown.
UNKNOWN_SLOWDOWN = "hardware slowdown"
SLOWDOWNS = {
    "software thermal slowdown": "heat",
    "hardware thermal slowdown": "heat",
    "power brake": "the power supply",
    UNKNOWN_SLOWDOWN: "heat or the power supply",
}
SM, MEMORY = 1, 2  # NVML_CLOCK_SM, NVML_CLOCK_MEM
# pynvml raises an error also where no process computed: NVML_SUCCESS, NVML_ERROR_NOT_FOUND.
NO_SAMPLES = (0, 6)


@dataclass(frozen=True, slots=True)
class GpuReading:
    """The state of a GPU at a moment; None where the driver does not report a value.

    Attributes:
        sm_mhz: The clock of the multiprocessors.
        memory_mhz: The clock of the memory.
        power_w: The power of the whole card.
        reasons: Why the clocks are below their maximum, as names of REASONS.
    """

    sm_mhz: int | None
    memory_mhz: int | None
    power_w: float | None
    reasons: frozenset[str] | None


class GpuCounters(Protocol):
    """Reads the state of a GPU."""

    @property
    def is_slice(self) -> bool:
        """Whether the device is a slice of a card (MIG), whose other slices may work."""

    def read(self) -> GpuReading:
        """Read clocks, power and limits."""

    def begin(self) -> None:
        """Begin to count the processes that compute."""

    def other_processes(self) -> int | None:
        """Count the other processes that computed since `begin`; None where it is unknown.

        This process must have computed since `begin`.
        """

    def utilization(self) -> float | None:
        """The share of the last moments in which the GPU computed; None where it is unknown."""


class NvmlCounters:
    """The counters of the driver. Every value that the driver refuses is None.

    Args:
        nvml: The module `pynvml`.
        card: The handle of the card.
        device: The handle of the device; a slice of a card (MIG) has a handle of its own.
    """

    def __init__(self, nvml: Any, card: Any, device: Any) -> None:
        self._nvml, self._card, self._device = nvml, card, device
        self._since = 0

    @property
    def is_slice(self) -> bool:
        return self._device is not self._card

    def read(self) -> GpuReading:
        """See `GpuCounters.read`."""
        milliwatts = self._ask("nvmlDeviceGetPowerUsage")
        bits = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons")
        return GpuReading(
            self._ask("nvmlDeviceGetClockInfo", SM),
            self._ask("nvmlDeviceGetClockInfo", MEMORY),
            None if milliwatts is None else milliwatts / 1e3,
            None
            if bits is None
            else frozenset(name for bit, name in REASONS.items() if bits & bit),
        )

    def begin(self) -> None:
        """See `GpuCounters.begin`."""
        samples = self._use_by_process() or ()
        self._since = max([self._since, *(sample.timeStamp for sample in samples)])

    def other_processes(self) -> int | None:
        """See `GpuCounters.other_processes`.

        A process that only holds memory, such as an idle notebook, does not count where the driver
        reports the use of each process. In a container, the driver may report process numbers of
        the host, in one list or in both. Then this process is not found by its number, but it is
        always one of those that compute.
        """
        processes = self._ask("nvmlDeviceGetComputeRunningProcesses", of=self._device)
        holders = None if processes is None else {process.pid for process in processes}
        samples, users = self._use_by_process(), holders
        if samples is not None:
            recent = (each for each in samples if each.timeStamp > self._since)
            users = {each.pid for each in recent if each.smUtil > 0}
            if holders is not None and not users.isdisjoint(holders):
                users &= holders  # programs that draw the screen are no holders
        if users is None:
            return None
        if holders is not None and not users.isdisjoint(holders) and os.getpid() in holders:
            return len(users - {os.getpid()})
        return max(0, len(users) - 1)

    def utilization(self) -> float | None:
        """See `GpuCounters.utilization`."""
        rates = None if self.is_slice else self._ask("nvmlDeviceGetUtilizationRates")
        return None if rates is None else rates.gpu / 100

    def _use_by_process(self) -> list[Any] | None:
        """The use of the card by each process since `begin`; None where it is not reported."""
        if self.is_slice:
            return None
        try:
            return list(self._nvml.nvmlDeviceGetProcessUtilization(self._card, self._since))
        except self._nvml.NVMLError as error:
            return [] if getattr(error, "value", None) in NO_SAMPLES else None
        except AttributeError:
            return None

    def _ask(self, function: str, *arguments: Any, of: Any = None) -> Any:
        """Call a function of NVML; None where the driver or the package does not have the value."""
        try:
            return getattr(self._nvml, function)(self._card if of is None else of, *arguments)
        except (self._nvml.NVMLError, AttributeError):
            return None


def open_gpu(device: str, nvml: Any = None) -> GpuCounters | None:
    """Open the counters of a CUDA device.

    Args:
        device: `cuda` or `cuda:NUMBER`, as PyTorch numbers the devices.
        nvml: The module `pynvml`; by default the installed one.

    Returns:
        The counters. None where the driver gives no access, and, with one warning in a process,
        where nvidia-ml-py is missing.
    """
    nvml = nvml or _import_nvml()
    if nvml is None:
        return None
    try:
        nvml.nvmlInit()
        handle = _find_handle(nvml, str(torch.cuda.get_device_properties(device).uuid))
        return NvmlCounters(nvml, _find_card(nvml, handle), handle)
    except (nvml.NVMLError, AttributeError) as error:  # AttributeError: an older PyTorch
        _log.info("the clocks of %s cannot be read (%s)", device, first_line(error))
        return None


def _find_handle(nvml: Any, uuid: str) -> Any:
    """PyTorch gives the UUID of a card, or of a slice of a card, without the word before it."""
    if uuid.startswith(("GPU-", "MIG-")):
        return nvml.nvmlDeviceGetHandleByUUID(uuid)
    try:
        return nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
    except nvml.NVMLError:
        return nvml.nvmlDeviceGetHandleByUUID(f"MIG-{uuid}")


def _find_card(nvml: Any, handle: Any) -> Any:
    """The handle of the whole card; the same handle where the device is no slice."""
    try:
        if not nvml.nvmlDeviceIsMigDeviceHandle(handle):
            return handle
        return nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle)
    except nvml.NVMLError:  # a driver without slices
        return handle


def _import_nvml() -> Any:
    try:
        return importlib.import_module("pynvml")
    except ImportError:
        _warn_once(
            "figures are recorded without the clocks and the power of the GPU, because the package "
            f"nvidia-ml-py is missing; {install_hint('gpu')}"
        )
        return None


@functools.cache
def _warn_once(sentence: str) -> None:
    _log.warning("%s", sentence)
    warnings.warn(sentence, stacklevel=2)
