"""Prepared: a network as an engine runs it, its inputs resident."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from genets.core.errors import TargetError

Run = Callable[[], object]
Predict = Callable[[Tensor], Tensor]


class ModelFiles(Protocol):
    """What an engine can write of a prepared network, and read back."""

    def save(self, folder: Path) -> list[Path]:
        """Write exactly what was prepared into `folder`; the paths. Raises OSError."""
        ...

    def load(self, folder: Path) -> Predict:
        """What `save` wrote, loaded anew: logits of one batch."""
        ...

    @property
    def dtype(self) -> str:
        """The type of the inputs that the files take: `float32` or `float16`."""
        ...

    @property
    def settings(self) -> dict[str, Any]:
        """What must be set when the files are loaded, in the engine's own words."""
        ...


@dataclass(frozen=True)
class Prepared:
    """A network on a target. Calling it is one run of the resident inputs.

    run: what is timed; it returns before a CUDA device is done.
    predict_batch: logits of one batch of exactly `input_shape`, float32 on the CPU both.
    input_shape: (batch, channels, resolution, resolution).
    seconds: what each step of the preparation took, by name; none of it is latency.
    quantisation: how the network was brought to int8; None for other precisions.
    memory_bytes: device memory at its peak, weights included; None where it is not known.
    files: None for engines that write none.
    """

    run: Run
    predict_batch: Predict
    input_shape: tuple[int, int, int, int]
    seconds: dict[str, float] = field(default_factory=dict)
    quantisation: dict[str, Any] | None = None
    memory_bytes: int | None = None
    files: ModelFiles | None = None

    def __call__(self) -> object:
        return self.run()

    def predict(self, images: Tensor) -> Tensor:
        """(N, classes) float32 logits of (N, channels, resolution, resolution), any N above 0.

        The last batch is filled up, for the network is made for one batch size.
        Raises TargetError: images of another shape.
        """
        return predict_any(self.predict_batch, self.input_shape, images)

    def save(self, folder: Path) -> list[Path]:
        """Write exactly what is measured into `folder`. Raises TargetError, OSError."""
        if self.files is None:
            raise TargetError("this engine writes no files; onnxruntime and openvino do")
        return self.files.save(folder)


def predict_any(predict_batch: Predict, input_shape: tuple[int, ...], images: Tensor) -> Tensor:
    """`Prepared.predict` of a function for batches of exactly `input_shape`."""
    batch_size, *image_shape = input_shape
    if images.ndim != 4 or len(images) == 0 or list(images.shape[1:]) != image_shape:
        wanted = ", ".join(map(str, ("N", *image_shape)))
        raise TargetError(f"images must have shape ({wanted}), not {tuple(images.shape)}")
    logits = []
    for part in torch.split(images.float(), batch_size):
        missing = batch_size - len(part)
        full = torch.cat([part, part[-1:].expand(missing, *image_shape)]) if missing else part
        logits.append(predict_batch(full)[: len(part)].float())
    return torch.cat(logits)


class Stopwatch:
    """Seconds of the steps of a preparation, by name.

    wait: called before the clock is read; returns when the device is done.
    """

    def __init__(self, wait: Callable[[], None]) -> None:
        self.wait = wait
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.wait()
        self.seconds[name] = time.perf_counter() - start
