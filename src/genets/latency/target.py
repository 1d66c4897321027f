"""Target: the device, engine, precision and batch size that a latency refers to."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from genets.core.errors import TargetError, unknown_name
from genets.core.host import physical_cores

# The names of the engines and, where an engine has providers, their names. The engines themselves
# are in `genets.latency.engines`, which imports PyTorch. A misspelt name is refused without it.
ENGINE_PROVIDERS: dict[str, tuple[str, ...]] = {
    "torch": (),
    "torch-graph": (),
    "torch-compile": (),
    "onnxruntime": ("cpu", "cuda", "tensorrt"),
    "openvino": (),
}
PRECISIONS = ("fp32", "bf16", "fp16", "int8")
AUTO = "auto"
DEVICES = (AUTO, "cpu", "cuda")
GPU_FILES = ("nvidia*", "nvhost*", "dxg")  # NVIDIA, Jetson, Windows' subsystem
MAX_BATCH_SIZE = 65536
MAX_THREADS = 1024


@dataclass(frozen=True, slots=True)
class Target:
    """The device, engine, precision and batch size (on a CPU also the threads) of a latency.

    Creating a Target checks its values. `check` asks whether this machine can run the target.

    Args:
        device: `cpu`, `cuda`, `cuda:N` or `auto`. `auto` becomes `cuda` where this machine can run
            the target on CUDA and `threads` is None, and otherwise `cpu`.
        engine: A name in `genets.latency.ENGINES` or `auto`. `auto` becomes `torch-graph` on a
            CUDA device and `torch` on a CPU.
        precision: `fp32`, `bf16` or `fp16` for weights and arithmetic, or `int8` for quantisation
            after training. Layers that the engine does not quantise stay in floating point.
        batch_size: Images per run.
        threads: CPU threads of one operation. None means one thread for each physical core that
            this process may use. Not allowed on CUDA devices.
        provider: The part of an engine that computes, such as `tensorrt` in `onnxruntime`. None
            means the engine's default for the device.

    Raises:
        TargetError: A value is unknown or out of range.
    """

    device: str = AUTO
    engine: str = AUTO
    precision: str = "fp32"
    batch_size: int = 64
    threads: int | None = None
    provider: str | None = None

    def __post_init__(self) -> None:
        _check_device(self.device)
        engines = (AUTO, *ENGINE_PROVIDERS)
        if not isinstance(self.engine, str) or self.engine not in engines:
            raise TargetError(unknown_name("engine", str(self.engine), engines))
        if self.precision not in PRECISIONS:
            raise TargetError(unknown_name("precision", str(self.precision), PRECISIONS))
        _check_integer("batch_size", self.batch_size, MAX_BATCH_SIZE)
        if self.threads is not None:
            _check_integer("threads", self.threads, MAX_THREADS)
            if self.device not in (AUTO, "cpu"):
                raise TargetError(f"threads are for a CPU, not for device {self.device!r}")
        if self.device == AUTO:
            object.__setattr__(self, "device", self._choose_device())
        if self.engine == AUTO:
            object.__setattr__(self, "engine", "torch" if self.is_cpu else "torch-graph")
        if self.provider is not None:
            _check_provider(self.engine, str(self.provider), ENGINE_PROVIDERS[self.engine])

    @property
    def is_cpu(self) -> bool:
        """Whether the device is the CPU."""
        return self.device == "cpu"

    @property
    def name(self) -> str:
        """A short name for files, such as `cpu-torch-fp32-b64-t2` or `cuda1-torch-fp16-b64`."""
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
        """Return the same target with this machine's number of threads in place of None."""
        if not self.is_cpu or self.threads is not None:
            return self
        return replace(self, threads=physical_cores())

    def check(self) -> None:
        """Check that this machine can run this target.

        Raises:
            TargetError: The device, a package or the precision is not available.
        """
        from genets.latency.engines import ENGINES  # imports PyTorch

        ENGINES[self.engine].check(self)

    def _choose_device(self) -> str:
        if self.threads is not None or not _may_have_gpu():
            return "cpu"
        try:
            replace(self, device="cuda").check()
        except TargetError:
            return "cpu"
        return "cuda"

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a dictionary for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Target:
        """Create a target from the output of `to_json`.

        Raises:
            TargetError: A field is unknown or its value is wrong.
        """
        if not isinstance(record, Mapping):
            raise TargetError(f"a target must be a table of fields, not {record!r}")
        names = [field.name for field in fields(cls)]
        unknown = set(record) - set(names)
        if unknown:
            raise TargetError(unknown_name("field of a target", min(unknown), names))
        return cls(**record)

    def __str__(self) -> str:
        return self.name


def _check_device(device: object) -> None:
    if not isinstance(device, str) or not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", device):
        kind = str(device).partition(":")[0]
        # "gpu" gets no suggestion: the nearest valid name is cpu, which the user did not mean.
        if kind in DEVICES or kind.startswith("gpu"):
            raise TargetError(f"device must be auto, cpu, cuda or cuda:NUMBER, not {device!r}")
        raise TargetError(unknown_name("device", str(device), DEVICES))


def _may_have_gpu() -> bool:
    """Whether PyTorch should look for CUDA, which takes seconds; most machines show it in /dev."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") == ""
    return not hidden and any(list(Path("/dev").glob(pattern)) for pattern in GPU_FILES)


def _check_provider(engine: str, provider: str, valid: tuple[str, ...]) -> None:
    if not valid:
        raise TargetError(f"engine {engine} has no providers, so provider {provider!r} is refused")
    if provider not in valid:
        raise TargetError(unknown_name("provider", provider, valid))


def _check_integer(field: str, value: object, maximum: int) -> None:
    """By hand, because `genets --help` imports this module and pydantic would slow it down."""
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= maximum:
        raise TargetError(f"{field} must be an integer from 1 to {maximum}, not {value!r}")
