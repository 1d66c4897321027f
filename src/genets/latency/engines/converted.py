"""The steps that ONNX Runtime and OpenVINO share: both convert a network to their own format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from genets.latency.engines.base import (
    ModelFiles,
    Predict,
    Prepared,
    Run,
    Stopwatch,
    explain_failures,
    make_shape,
)
from genets.latency.engines.devices import make_wait
from genets.latency.engines.memory import VALUE_BYTES, Footprint, check_memory
from genets.networks import fold_batchnorm

if TYPE_CHECKING:
    from genets.latency.target import Target

Shape = tuple[int, int, int, int]


class ConvertedEngine(ABC):
    """Folds batch norm, converts, quantises and starts a network.

    A subclass defines the type of its models and of its started models.

    Attributes:
        start_step: The name of the step that makes a model ready to run, in the engine's words.
    """

    start_step: str

    def place(self, target: Target) -> str:
        """See `Engine.place`: a network is converted on the CPU."""
        return "cpu"

    def footprint(self, target: Target) -> Footprint:
        """See `Engine.footprint`. The model in fp32, which `save` writes, stays on the host."""
        value_bytes = VALUE_BYTES[target.precision]
        model_bytes = VALUE_BYTES["fp32"] if target.is_cpu else 0
        return Footprint(model_bytes + value_bytes, value_bytes)

    def table_source(self, target: Target) -> Target | None:
        """See `Engine.table_source`: a network is ready in milliseconds if only latency counts."""
        return None

    def prepare(
        self,
        network: nn.Module,
        target: Target,
        resolution: int,
        calibration: Tensor | None = None,
        *,
        latency_only: bool = False,
        free_batch: bool = False,
    ) -> Prepared:
        """See `Engine.prepare`.

        free_batch: Leave the number of images open in the model and its files. `genets measure`
            times the model with the target's batch size fixed.
        """
        shape = make_shape(network, target, resolution)
        watch, quantisation = Stopwatch(make_wait(target.device)), None
        with explain_failures(target, resolution):
            with watch.step("fold"):
                folded = fold_batchnorm(network).cpu().float()
                check_memory(folded, shape, torch.float32)
            with watch.step("export"):
                model = self.convert(
                    folded, shape, target, latency_only=latency_only, free_batch=free_batch
                )
            if target.precision == "int8":
                with watch.step("quantise"):
                    model, quantisation = self.quantise(
                        model, shape, target, calibration, latency_only=latency_only
                    )
            if free_batch:
                model = self.free_batch(model)
            with watch.step(self.start_step):
                started = self.start(model, target)
            run = self.bind(started, target, shape)
            with watch.step("first_run"):  # TensorRT builds its engine in this run
                run()
        files, predict = self.make_files(model, target), self.make_predict(started)
        return Prepared(run, predict, shape, watch.seconds, quantisation, files=files)

    @abstractmethod
    def convert(
        self,
        folded: nn.Module,
        shape: Shape,
        target: Target,
        *,
        latency_only: bool,
        free_batch: bool,
    ) -> Any:
        """Convert a network with folded batch norm to a model for inputs of `shape`.

        free_batch: Whether `free_batch` is called with the model later.
        """

    @abstractmethod
    def quantise(
        self, model: Any, shape: Shape, target: Target, images: Tensor | None, *, latency_only: bool
    ) -> tuple[Any, dict[str, Any]]:
        """Return the model in int8 and how it was quantised; see `calibration_batches`."""

    @abstractmethod
    def free_batch(self, model: Any) -> Any:
        """The model with the number of images left open."""

    @abstractmethod
    def start(self, model: Any, target: Target) -> Any:
        """Make the model ready to run."""

    @abstractmethod
    def bind(self, started: Any, target: Target, shape: Shape) -> Run:
        """A run of fixed normal inputs; inputs and outputs stay on the device."""

    @abstractmethod
    def make_predict(self, started: Any) -> Predict:
        """A function from one batch to its logits."""

    @abstractmethod
    def make_files(self, model: Any, target: Target) -> ModelFiles:
        """The writer and reader of the model's files."""
