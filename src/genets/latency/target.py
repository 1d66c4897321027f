"""Target: what a latency means."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from genets.core.errors import TargetError, unknown_name

# The engines, and the values of `provider` where one has some. What stands behind a name is in
# `genets.latency.engines`, which imports PyTorch: a wrong word must not wait for that.
ENGINE_PROVIDERS: dict[str, tuple[str, ...]] = {
    "torch": (),
    "torch-compile": (),
    "onnxruntime": ("cpu", "cuda", "tensorrt"),
    "openvino": (),
}
PRECISIONS = ("fp32", "bf16", "fp16", "int8")
DEVICES = ("cpu", "cuda")
MAX_BATCH_SIZE = 65536
MAX_THREADS = 1024


@dataclass(frozen=True, slots=True)
class Target:
    """Device, engine, precision and batch size (and threads, on a CPU).

    device: `cpu`, `cuda` or `cuda:N`.
    engine: a name in `genets.latency.ENGINES`.
    precision: `fp32`, `bf16` or `fp16`, of weights and arithmetic; `int8`: quantised after
        training, with what the engine does not quantise in floating point.
    batch_size: images per run.
    threads: CPU threads of one operation; None means one for each physical core that this
        process may use. Only for a CPU.
    provider: who computes inside an engine that leaves a choice, as `tensorrt` in `onnxruntime`;
        None means the engine's own for the device.

    Making a Target checks the words; `check` asks whether this machine has it.
    """

    device: str = "cpu"
    engine: str = "torch"
    precision: str = "fp32"
    batch_size: int = 64
    threads: int | None = None
    provider: str | None = None

    def __post_init__(self) -> None:
        _check_device(self.device)
        if self.engine not in ENGINE_PROVIDERS:
            raise TargetError(unknown_name("engine", str(self.engine), ENGINE_PROVIDERS))
        if self.precision not in PRECISIONS:
            raise TargetError(unknown_name("precision", str(self.precision), PRECISIONS))
        _check_integer("batch_size", self.batch_size, MAX_BATCH_SIZE)
        if self.threads is not None:
            _check_integer("threads", self.threads, MAX_THREADS)
            if not self.is_cpu:
                raise TargetError(f"threads are for a CPU, not for device {self.device!r}")
        if self.provider is not None:
            _check_provider(self.engine, str(self.provider), ENGINE_PROVIDERS[self.engine])

    @property
    def is_cpu(self) -> bool:
        return self.device == "cpu"

    @property
    def name(self) -> str:
        """A short name, fit for a file: `cpu-torch-fp32-b64-t2`, `cuda1-torch-fp16-b64`."""
        threads = self.resolved().threads
        words = (
            self.device.replace(":", ""),
            self.engine,
            self.provider,
            self.precision,
            f"b{self.batch_size}",
            None if threads is None else f"t{threads}",
        )
        return "-".join(word for word in words if word is not None)

    def resolved(self) -> Target:
        """The same target with the thread count of this machine filled in."""
        if not self.is_cpu or self.threads is not None:
            return self
        return replace(self, threads=physical_cores())

    def check(self) -> None:
        """Raise TargetError unless this machine can run this target."""
        from genets.latency.engines import ENGINES

        ENGINES[self.engine].check(self)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Target:
        unknown = set(record) - {field.name for field in fields(cls)}
        if unknown:
            raise TargetError(
                unknown_name("field of a target", min(unknown), (f.name for f in fields(cls)))
            )
        return cls(**record)

    def __str__(self) -> str:
        return self.name


def _check_device(device: object) -> None:
    if not isinstance(device, str) or not re.fullmatch(r"cpu|cuda(:\d{1,3})?", device):
        kind = str(device).partition(":")[0]
        # Who writes gpu does not mean the cpu, the nearest word.
        if kind in DEVICES or kind.startswith("gpu"):
            raise TargetError(f"device must be cpu, cuda or cuda:NUMBER, not {device!r}")
        raise TargetError(unknown_name("device", str(device), DEVICES))


def _check_provider(engine: str, provider: str, known: tuple[str, ...]) -> None:
    if not known:
        raise TargetError(f"engine {engine} has no providers; {provider!r} was given as one")
    if provider not in known:
        raise TargetError(unknown_name("provider", provider, known))


def _check_integer(field: str, value: object, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= high:
        raise TargetError(f"{field} must be an integer from 1 to {high}, not {value!r}")


def physical_cores() -> int:
    """Physical cores that this process may use: its affinity and its container's quota count."""
    cpus: set[int] = (
        os.sched_getaffinity(0)
        if hasattr(os, "sched_getaffinity")
        else set(range(os.cpu_count() or 1))
    )
    cores = len({_core_of(cpu) for cpu in cpus})
    return max(1, min(cores, _quota_in_cpus()))


def _core_of(cpu: int) -> str:
    siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    try:
        return siblings.read_text(encoding="ascii").strip()
    except OSError:
        return str(cpu)


def _quota_in_cpus() -> int:
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return MAX_THREADS if quota == "max" else -(-int(quota) // int(period))
    except (OSError, ValueError):
        return MAX_THREADS
