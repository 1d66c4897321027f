"""What engines share that run a network in a form of their own: ONNX Runtime and OpenVINO."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from genets.latency.engines.base import (
    ModelFiles,
    Predict,
    Prepared,
    Run,
    Stopwatch,
    check_memory,
    explained,
    shape_of,
)
from genets.latency.engines.devices import wait_for
from genets.latency.target import Target
from genets.networks import fold_batchnorm

Shape = tuple[int, int, int, int]


class ConvertedEngine(ABC):
    """Fold, convert, quantise, start: what `model` and `started` are is the engine's affair.

    starting: what the engine calls bringing a model to where it can run.
    """

    starting: str

    def prepare(
        self,
        network: nn.Module,
        target: Target,
        resolution: int,
        calibration: Tensor | None = None,
        *,
        latency_only: bool = False,
    ) -> Prepared:
        """See `Engine.prepare`."""
        shape = shape_of(network, target, resolution)
        watch, quantisation = Stopwatch(wait_for(target.device)), None
        with explained(target, resolution):
            with watch.step("fold"):
                folded = fold_batchnorm(network).cpu().float()
                check_memory(folded, shape, torch.float32)
            with watch.step("export"):
                model = self.converted(folded, shape, target, latency_only=latency_only)
            if target.precision == "int8":
                with watch.step("quantise"):
                    model, quantisation = self.quantised(
                        model, shape, target, calibration, latency_only=latency_only
                    )
            with watch.step(self.starting):
                started = self.started(model, target)
            run = self.bound(started, target, shape)
            with watch.step("first_run"):  # TensorRT builds its engine in here
                run()
        files = self.files(model, target)
        predict = self.predicting(started)
        return Prepared(run, predict, shape, watch.seconds, quantisation, files=files)

    @abstractmethod
    def converted(
        self, folded: nn.Module, shape: Shape, target: Target, *, latency_only: bool
    ) -> Any:
        """The model of a network whose batch norm is folded, for inputs of `shape`."""

    @abstractmethod
    def quantised(
        self, model: Any, shape: Shape, target: Target, images: Tensor | None, *, latency_only: bool
    ) -> tuple[Any, dict[str, Any]]:
        """The model in int8, and how it was quantised: see `calibration_batches`."""

    @abstractmethod
    def started(self, model: Any, target: Target) -> Any:
        """The model, ready to run."""

    @abstractmethod
    def bound(self, started: Any, target: Target, shape: Shape) -> Run:
        """A run of normal inputs that lie on the device; its outputs stay there."""

    @abstractmethod
    def predicting(self, started: Any) -> Predict:
        """Logits of one batch."""

    @abstractmethod
    def files(self, model: Any, target: Target) -> ModelFiles: ...
