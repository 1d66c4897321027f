"""The interface of an engine, and the steps that all engines share when they prepare a network."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from genets.core.errors import (
    GenetsError,
    TargetError,
    first_line,
    install_hint,
    is_out_of_memory,
)
from genets.core.gpu import check_free_memory
from genets.networks.count import input_channels

if TYPE_CHECKING:
    from genets.latency.engines.activity import Activity
    from genets.latency.engines.memory import Footprint
    from genets.latency.target import Target

Run = Callable[[], object]
Predict = Callable[[Tensor], Tensor]

INPUT_SEED = 0
MODEL_NAME = "network"  # of the files of a model, without a suffix
# Inductor compiles kernels by Triton on CUDA, which compiles C code to launch them.
NO_COMPILER = ("Failed to find C compiler", "working triton installation", "TritonMissing")

# Faults of the program, which are no failures of the device.
OWN_FAULTS = (AssertionError, AttributeError, LookupError, NameError, TypeError)


class DeviceClock(Protocol):
    """The only object that reads device time."""

    min_window_s: float
    """A window of this length makes the timer's error and the cost of its ends negligible."""

    activity: Activity | None
    """Shows the use of the CPUs by other programs; None where the device is not a CPU."""

    def time_runs(self, run: Run, count: int) -> float:
        """Return the device seconds of `count` runs in a row, including the end of the last."""

    def enqueue_s(self, run: Run) -> float | None:
        """Return the host seconds to launch one run on an idle device; None on a CPU."""


class Engine(Protocol):
    """The interface of an inference engine.

    Attributes:
        precisions: The precisions that the engine has on some device.
        packages: Distributions whose versions are recorded with each measurement.
    """

    @property
    def precisions(self) -> tuple[str, ...]: ...
    @property
    def packages(self) -> tuple[str, ...]: ...

    def place(self, target: Target) -> str:
        """The device where a network for this target is best built, as PyTorch names it."""

    def footprint(self, target: Target) -> Footprint:
        """How much memory of the device a prepared network takes."""

    def table_source(self, target: Target) -> Target | None:
        """The target whose latency table the table of `target` is made from.

        An engine that takes seconds to prepare a network has one, on the same device, because a
        table times several hundred networks. None where the table is timed on `target` itself.
        """

    def check(self, target: Target) -> None:
        """Raise TargetError unless this machine can run `target` with this engine."""

    def open(self, target: Target) -> AbstractContextManager[DeviceClock]:
        """Set the threads and modes of this process for `target`, and restore them at the end."""

    def prepare(
        self,
        network: nn.Module,
        target: Target,
        resolution: int,
        calibration: Tensor | None = None,
        *,
        latency_only: bool = False,
    ) -> Prepared:
        """Make a copy of `network` that is ready to run; call this inside `open`.

        Args:
            network: Any network; it is not changed.
            target: The target; its engine is this one.
            resolution: Pixels along one side of the input.
            calibration: Images of shape (N, channels, resolution, resolution) that set the ranges
                of int8. None uses normal noise, which is good enough for a latency only.
            latency_only: Skip slow steps that do not change the latency. The outputs of the
                network are then useless in int8.

        Returns:
            The prepared network with its inputs on the device.

        Raises:
            TargetError: The network cannot run at this batch size and resolution, or cannot be
                converted to the engine's format.
        """


class ModelFiles(Protocol):
    """The files that an engine writes of a prepared network and reads back.

    `name` is that of the files, without a suffix.
    """

    def save(self, folder: Path, name: str = MODEL_NAME) -> list[Path]:
        """Write exactly the prepared model into `folder`; return the paths. Raises OSError."""

    def load(self, folder: Path, name: str = MODEL_NAME) -> Predict:
        """Load the files that `save` wrote; return a function from one batch to its logits."""

    @property
    def dtype(self) -> str:
        """The type of the inputs that the files take: `float32` or `float16`."""

    @property
    def settings(self) -> dict[str, Any]:
        """The settings to load the files with, under the engine's own names."""


@dataclass(frozen=True)
class Prepared:
    """A network as an engine runs it on a target; calling it runs its fixed inputs once.

    Attributes:
        run: The function that is timed. It returns before a CUDA device has finished.
        predict_batch: Maps one batch of exactly `input_shape` to logits, both float32 on the CPU.
        input_shape: (batch, channels, resolution, resolution).
        seconds: Seconds of each step of the preparation, by name; not part of the latency.
        quantisation: How the network was quantised to int8; None for other precisions.
        memory_bytes: Peak device memory of a run, with weights and inputs, but without the
            preparation; None where it is unknown.
        files: Writes the model to files; None for engines that write no files.
        move: Moves weights and inputs to other addresses in memory; None where the engine cannot.
    """

    run: Run
    predict_batch: Predict
    input_shape: tuple[int, int, int, int]
    seconds: dict[str, float] = field(default_factory=dict)
    quantisation: dict[str, Any] | None = None
    memory_bytes: int | None = None
    files: ModelFiles | None = None
    move: Callable[[], None] | None = None

    def __call__(self) -> object:
        return self.run()

    def predict(self, images: Tensor) -> Tensor:
        """Return the logits of any number of images.

        Args:
            images: Shape (N, channels, resolution, resolution), N above 0. The last batch is
                padded because the network has a fixed batch size.

        Returns:
            Float32 logits of shape (N, classes).

        Raises:
            TargetError: The images have another shape.
        """
        return predict_in_batches(self.predict_batch, self.input_shape, images)

    def save(self, folder: Path, name: str = MODEL_NAME) -> list[Path]:
        """Write exactly the model that is measured. Raises TargetError, OSError."""
        if self.files is None:
            raise TargetError("this engine writes no files; onnxruntime and openvino do")
        return self.files.save(folder, name)


def find_move(run: Run) -> Callable[[], None] | None:
    """`Prepared.move` of a run; None for any other function.

    A network that is prepared anew has other addresses, and may have another latency on a CPU
    (python benchmarks/addresses.py).
    """
    return run.move if isinstance(run, Prepared) else None


def move_in_memory(move: Callable[[], None] | None) -> float:
    """Move a network to other addresses; return the seconds that this took."""
    if move is None:
        return 0.0
    start = time.perf_counter()
    move()
    return time.perf_counter() - start


def predict_in_batches(
    predict_batch: Predict, input_shape: tuple[int, ...], images: Tensor
) -> Tensor:
    """See `Prepared.predict`; `predict_batch` takes batches of exactly `input_shape`."""
    batch_size, *image_shape = input_shape
    _check_shape("images", images, image_shape)
    logits = []
    for part in torch.split(images.float(), batch_size):
        missing = batch_size - len(part)
        full = torch.cat([part, part[-1:].expand(missing, *image_shape)]) if missing else part
        logits.append(predict_batch(full)[: len(part)].float())
    return torch.cat(logits)


def calibration_batches(
    shape: tuple[int, ...], images: Tensor | None
) -> tuple[list[Tensor], dict[str, object]]:
    """Batches that set the ranges of int8, and their description for the record.

    shape: of a batch. images: (N, *shape[1:]); the last batch is filled with the first images.
    None gives one batch of noise. Raises TargetError for images of another shape.
    """
    if images is None:
        return [normal_images(shape)], {"ranges_from": "noise", "images": shape[0]}
    _check_shape("calibration images", images, list(shape[1:]))
    order = torch.arange(-(-len(images) // shape[0]) * shape[0]) % len(images)
    batches = [images[part].float().contiguous() for part in torch.split(order, shape[0])]
    return batches, {"ranges_from": "images", "images": len(images)}


def _check_shape(what: str, images: Tensor, image_shape: list[int]) -> None:
    if images.ndim != 4 or len(images) == 0 or list(images.shape[1:]) != image_shape:
        expected = ", ".join(map(str, ("N", *image_shape)))
        raise TargetError(f"{what} must have shape ({expected}), not {tuple(images.shape)}")


class Stopwatch:
    """Seconds of the steps of a preparation, by name.

    wait: called before the clock is read; returns when the device has finished.
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


def check_packages(engine: str, extra: str, packages: tuple[str, ...]) -> None:
    """Raise TargetError, which names the extra to install, unless all packages are installed."""
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise TargetError(
            f"engine {engine} needs the package {', '.join(missing)}, which is not installed; "
            f"{install_hint(extra)}"
        )


def check_precision(target: Target, available: tuple[str, ...]) -> None:
    """Raise TargetError unless the target's precision is in `available`."""
    if target.precision not in available:
        provider = f" with provider {target.provider}" if target.provider else ""
        raise TargetError(
            f"precision {target.precision} is not available on device {target.device!r} in engine "
            f"{target.engine}{provider}; available are {', '.join(available)}"
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


def make_shape(network: nn.Module, target: Target, resolution: int) -> tuple[int, int, int, int]:
    """(batch, channels, resolution, resolution). Raises TargetError: see `check_resolution`."""
    check_resolution(network, resolution)
    return (target.batch_size, input_channels(network), resolution, resolution)


def normal_images(shape: tuple[int, ...], device: str | torch.device = "cpu") -> Tensor:
    """Standard normal values, drawn on the device; real inputs are normalised to them.

    They are always the same on one kind of device. On the meta device nothing is drawn.
    """
    if torch.device(device).type == "meta":
        return torch.empty(shape, device=device)
    generator = torch.Generator(device).manual_seed(INPUT_SEED)
    return torch.randn(shape, generator=generator, device=device)


@contextmanager
def explain_failures(target: Target, resolution: int) -> Iterator[None]:
    """Turn any exception of an engine that cannot run a network into a TargetError."""
    try:
        yield
    except TargetError:
        raise
    except GenetsError as error:  # from the ONNX export; it names the operator
        raise TargetError(f"engine {target.engine} cannot run this network: {error}") from error
    except Exception as error:  # the network's own code and the engine may raise anything
        raise TargetError(_failure_text(error, target, resolution)) from error


@contextmanager
def explain_device_faults(target: Target, event: str, kept: str = "") -> Iterator[None]:
    """Turn an error of the device, such as a card that disappears, into a TargetError.

    Args:
        target: The target whose networks run inside the block.
        event: The work of the block, in the past tense, such as `networks were measured`.
        kept: The end of the sentence: the results that are kept.
    """
    try:
        yield
    except (GenetsError, *OWN_FAULTS):
        raise
    except Exception as error:  # errors of ONNX Runtime derive from Exception alone
        raise TargetError(
            f"device {target.device} failed while {event}: {first_line(error)}{kept}"
        ) from error


def _failure_text(error: Exception, target: Target, resolution: int) -> str:
    if is_out_of_memory(error):
        if not target.is_cpu:
            # Other processes may hold the memory.
            check_free_memory(torch, target.device, after_failure=True)
        return (
            f"batch_size {target.batch_size} at resolution {resolution} does not fit "
            f"into the memory of {target.device}; use a smaller batch_size"
        )
    if any(words in str(error) for words in NO_COMPILER):
        return (
            f"engine {target.engine} needs a C compiler and Triton on device {target.device!r}, "
            "and they are not installed or do not work; install gcc, or name another compiler in "
            "the variable CC"
        )
    return (
        f"the network does not run on {target.name} at resolution {resolution}: {first_line(error)}"
    )
