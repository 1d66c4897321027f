"""Prepared: a network as an engine runs it, its inputs resident.

What the engines share before a network runs: its inputs, and whether it can run at all.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from genets.core.errors import GenetsError, TargetError
from genets.core.host_memory import available_bytes
from genets.latency.target import Target
from genets.networks.count import input_channels

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


INPUT_SEED = 0
SAFE_BYTES_PER_INPUT = 256  # no network here holds more at once for one input value
OUT_OF_MEMORY = ("out of memory", "allocate memory", "bad_alloc", "Failed to allocate")


def check_packages(engine: str, extra: str, packages: tuple[str, ...]) -> None:
    """Raise TargetError, with the extra to install, unless the packages are there."""
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise TargetError(
            f"engine {engine} needs the package {', '.join(missing)}, which is not installed: "
            f"pip install 'genets[{extra}]'"
        )


def check_precision(target: Target, available: tuple[str, ...]) -> None:
    """Raise TargetError unless the target's precision is one of `available`."""
    if target.precision not in available:
        provider = f" with provider {target.provider}" if target.provider else ""
        raise TargetError(
            f"precision {target.precision} is not available on device {target.device!r} in engine "
            f"{target.engine}{provider}; it has {', '.join(available)} there"
        )


def check_resolution(network: nn.Module, resolution: int) -> None:
    """Refuse images that the network's strides would shrink below one pixel."""
    if not isinstance(resolution, int) or isinstance(resolution, bool) or resolution < 1:
        raise TargetError(f"resolution must be an integer above 0, not {resolution!r}")
    info = getattr(network, "feature_info", None)  # timm's list of stages, deepest last
    reduction = int(info[-1]["reduction"]) if info else 1
    if resolution < reduction:
        raise TargetError(
            f"resolution must be at least {reduction}, the product of the network's strides, "
            f"not {resolution}"
        )


def shape_of(network: nn.Module, target: Target, resolution: int) -> tuple[int, int, int, int]:
    """(batch, channels, resolution, resolution). Raises TargetError: see `check_resolution`."""
    check_resolution(network, resolution)
    return (target.batch_size, input_channels(network), resolution, resolution)


def normal_images(shape: tuple[int, ...]) -> Tensor:
    """Standard normal values, the same ones every time: real inputs are normalised to that."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(INPUT_SEED))


def check_memory(network: nn.Module, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Raise MemoryError before the system, short of memory, would kill the process.

    network: on the CPU. shape: of a batch. One image is run to see the largest layer.
    """
    free = available_bytes()
    if free is None or math.prod(shape) * SAFE_BYTES_PER_INPUT < free:
        return
    largest = 0

    def note(_: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        nonlocal largest
        tensors = (t for t in (*inputs, output) if isinstance(t, Tensor))
        largest = max(largest, sum(t.numel() * t.element_size() for t in tensors))

    hooks = [m.register_forward_hook(note) for m in network.modules() if not any(m.children())]
    with torch.inference_mode():
        network(torch.zeros((1, *shape[1:]), dtype=dtype))
    for hook in hooks:
        hook.remove()
    if largest * shape[0] > free:
        raise MemoryError("not enough memory")


@contextmanager
def explained(target: Target, resolution: int) -> Iterator[None]:
    """Turn what engines raise for a network that they cannot run into a TargetError."""
    try:
        yield
    except TargetError:
        raise
    except GenetsError as error:  # of the export: it names the operator
        raise TargetError(f"engine {target.engine} cannot run this network: {error}") from error
    except Exception as error:  # the network's own code, and the engine's, raise what they like
        raise TargetError(_reason(error, target, resolution)) from error


def _reason(error: Exception, target: Target, resolution: int) -> str:
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    short = isinstance(error, MemoryError | torch.OutOfMemoryError)
    if short or any(words in str(error) for words in OUT_OF_MEMORY):
        return (
            f"batch_size {target.batch_size} at resolution {resolution} does not fit "
            f"into the memory of {target.device}; use a smaller one"
        )
    return f"the network does not run on {target.name} at resolution {resolution}: {text}"


def calibration_batches(
    shape: tuple[int, ...], images: Tensor | None
) -> tuple[list[Tensor], dict[str, object]]:
    """Batches of `shape` to take int8 ranges from, and what a record says about them.

    images: (N, *shape[1:]), the last batch filled up from the first; None: one of noise.
    Raises TargetError: images of another shape.
    """
    if images is None:
        return [normal_images(shape)], {"ranges_from": "noise", "images": shape[0]}
    if images.ndim != 4 or len(images) == 0 or images.shape[1:] != shape[1:]:
        wanted = ", ".join(map(str, ("N", *shape[1:])))
        raise TargetError(
            f"calibration images must have shape ({wanted}), not {tuple(images.shape)}"
        )
    order = torch.arange(-(-len(images) // shape[0]) * shape[0]) % len(images)
    batches = [images[part].float().contiguous() for part in torch.split(order, shape[0])]
    return batches, {"ranges_from": "images", "images": len(images)}
