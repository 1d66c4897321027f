"""Inference engines: how a network is prepared for a target, run and timed.

A new engine is a new file here and one line in ENGINES.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from genets.latency.engines.torch_engine import TorchEngine

if TYPE_CHECKING:
    from torch import nn

    from genets.latency.target import Target

Run = Callable[[], object]


class DeviceClock(Protocol):
    """The one place where device time is read."""

    min_window_s: float
    """A window this long swamps the timer and the cost of starting and ending a window."""

    def time_runs(self, run: Run, count: int) -> float:
        """Seconds that `count` runs in a row take on the device, the last one's end included."""
        ...


class Engine(Protocol):
    """What a file in this folder offers."""

    def check(self, target: Target) -> None:
        """Raise TargetError unless this machine can run `target` with this engine."""
        ...

    def open(self, target: Target) -> AbstractContextManager[DeviceClock]:
        """Set the process up for `target` (threads, modes) and back again afterwards."""
        ...

    def prepare(self, network: nn.Module, target: Target, resolution: int) -> Run:
        """One run of a copy of `network`, inputs resident. Call it inside `open`.

        Raises TargetError if the network cannot run at this batch size and resolution.
        """
        ...


ENGINES: dict[str, Engine] = {
    "torch": TorchEngine(),
}

__all__ = ["ENGINES", "DeviceClock", "Engine", "Run"]
