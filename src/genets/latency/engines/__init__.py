"""Inference engines: how a network is prepared for a target, run and timed.

A new engine is a new file here, one line in ENGINES, and its name in `genets.latency.target`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from genets.latency.engines.base import ModelFiles, Prepared, Run
from genets.latency.engines.onnxruntime_engine import OnnxRuntimeEngine
from genets.latency.engines.openvino_engine import OpenVinoEngine
from genets.latency.engines.torch_compile import TorchCompileEngine
from genets.latency.engines.torch_engine import TorchEngine

if TYPE_CHECKING:
    from torch import Tensor, nn

    from genets.latency.target import Target


class DeviceClock(Protocol):
    """The one place where device time is read."""

    min_window_s: float
    """A window this long swamps the timer and the cost of starting and ending a window."""

    def time_runs(self, run: Run, count: int) -> float:
        """Seconds that `count` runs in a row take on the device, the last one's end included."""
        ...

    def enqueue_s(self, run: Run) -> float | None:
        """Host seconds to hand one run to an idle device; None where the host computes."""
        ...


class Engine(Protocol):
    """What a file in this folder offers.

    precisions: those it has on some device. packages: distributions whose versions belong to
        the conditions of a measurement.
    """

    @property
    def precisions(self) -> tuple[str, ...]: ...
    @property
    def packages(self) -> tuple[str, ...]: ...

    def check(self, target: Target) -> None:
        """Raise TargetError unless this machine can run `target` with this engine."""
        ...

    def open(self, target: Target) -> AbstractContextManager[DeviceClock]:
        """Set the process up for `target` (threads, modes) and back again afterwards."""
        ...

    def prepare(
        self,
        network: nn.Module,
        target: Target,
        resolution: int,
        calibration: Tensor | None = None,
        *,
        latency_only: bool = False,
    ) -> Prepared:
        """A copy of `network`, ready to run, inputs resident. Call it inside `open`.

        calibration: (N, channels, resolution, resolution) images that set the ranges of int8;
        None takes normal noise, good enough for a latency and for nothing else.
        latency_only: only the latency counts; what takes long and does not change it is left out.
        Raises TargetError if the network cannot run at this batch size and resolution, or
        cannot be brought into the engine's form.
        """
        ...


ENGINES: dict[str, Engine] = {
    "torch": TorchEngine(),
    "torch-compile": TorchCompileEngine(),
    "onnxruntime": OnnxRuntimeEngine(),
    "openvino": OpenVinoEngine(),
}

__all__ = ["ENGINES", "DeviceClock", "Engine", "ModelFiles", "Prepared", "Run"]
