"""Engine `openvino`: OpenVINO on a CPU, quantised by NNCF."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from genets.core.errors import TargetError
from genets.core.files import write_atomic
from genets.core.host_memory import keep_freed_memory
from genets.latency.engines.base import (
    Predict,
    Run,
    calibration_batches,
    check_packages,
    check_precision,
    normal_images,
)
from genets.latency.engines.converted import ConvertedEngine, Shape
from genets.latency.engines.devices import CpuClock
from genets.latency.engines.fast_onnx import plain_onnx
from genets.latency.target import Target
from genets.networks.onnx_export import INPUT, OUTPUT, quiet, what_failed

# What the layers that are not int8 compute in, and what OpenVINO says if the CPU has it.
HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "f32"}
CAPABILITIES = {"fp32": "FP32", "bf16": "BF16", "fp16": "FP16", "int8": "INT8"}
MODEL_FILE = "network.xml"


class OpenVinoEngine(ConvertedEngine):
    """BN folded, static shapes, one stream tuned for latency."""

    starting = "compile"

    precisions = tuple(HINTS)
    packages = ("openvino", "nncf")

    def check(self, target: Target) -> None:
        """See `Engine.check`."""
        if not target.is_cpu:
            raise TargetError(f"engine openvino runs on device cpu, not on {target.device!r}")
        check_precision(target, self.precisions)
        needed = ("openvino", "nncf") if target.precision == "int8" else ("openvino",)
        check_packages("openvino", "openvino", needed)
        can = _openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        check_precision(target, tuple(p for p in self.precisions if CAPABILITIES[p] in can))

    @contextmanager
    def open(self, target: Target) -> Iterator[CpuClock]:
        """See `Engine.open`. Raises TargetError."""
        self.check(target)
        keep_freed_memory()
        yield CpuClock()

    def converted(
        self, folded: nn.Module, shape: Shape, target: Target, *, latency_only: bool
    ) -> Any:
        """An openvino.Model. Raises TargetError, the operator named."""
        plain = plain_onnx(folded, shape) if latency_only else None
        return _openvino().Core().read_model(plain) if plain else _converted(folded, shape)

    def quantised(
        self, model: Any, shape: Shape, target: Target, images: Tensor | None, *, latency_only: bool
    ) -> tuple[Any, dict[str, Any]]:
        """The model with NNCF's FakeQuantize layers."""
        batches, source = calibration_batches(shape, images)
        model, how = _quantised(model, batches, correct_bias=not latency_only)
        return model, how | source

    def started(self, model: Any, target: Target) -> Any:
        """An openvino.CompiledModel. Raises TargetError: a precision that the CPU lacks."""
        return _compiled(model, target)

    def bound(self, started: Any, target: Target, shape: Shape) -> Run:
        """See `ConvertedEngine.bound`."""
        return _bound(started, shape)

    def predicting(self, started: Any) -> Predict:
        """See `ConvertedEngine.predicting`."""
        return _predicting(started)

    def files(self, model: Any, target: Target) -> OpenVinoFiles:
        """See `ConvertedEngine.files`."""
        return OpenVinoFiles(model, target)


@dataclass(frozen=True)
class OpenVinoFiles:
    """An IR: the graph (.xml) and its weights (.bin). See `ModelFiles`."""

    model: Any
    target: Target

    def save(self, folder: Path) -> list[Path]:
        path = folder / MODEL_FILE
        paths = [path, path.with_suffix(".bin")]
        # OpenVINO does not write atomically, and calls a full disk an iostream error.
        with tempfile.TemporaryDirectory(prefix="genets-openvino-") as draft:
            _openvino().save_model(self.model, Path(draft) / MODEL_FILE, compress_to_fp16=False)
            for part in reversed(paths):
                write_atomic(part, (Path(draft) / part.name).read_bytes())
        return paths

    def load(self, folder: Path) -> Predict:
        model = _openvino().Core().read_model(folder / MODEL_FILE)
        return _predicting(_compiled(model, self.target))

    @property
    def dtype(self) -> str:
        return "float32"

    @property
    def settings(self) -> dict[str, Any]:
        return _settings(self.target)


def _openvino() -> Any:
    """The package, its usage reports switched off for this process.

    OpenVINO and NNCF report every conversion unless a file in the home directory forbids it. They
    take empty stand-ins of their own where the reporting package cannot be imported.
    """
    telemetry = sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    if telemetry is not None:  # the program had imported OpenVINO before
        telemetry.main.TelemetrySender.send = lambda *_: None
    import openvino

    return openvino


def _settings(target: Target) -> dict[str, Any]:
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": target.resolved().threads,
        "INFERENCE_PRECISION_HINT": HINTS[target.precision],
    }


def _converted(folded: nn.Module, shape: tuple[int, ...]) -> Any:
    """torch.export, then OpenVINO's own converter. Raises RuntimeError, the operator named."""
    openvino = _openvino()
    try:
        with quiet(), torch.no_grad():
            program = torch.export.export(folded, (torch.zeros(shape),))
            model = openvino.convert_model(program)
    except Exception as error:  # of torch's tracing, which runs the network's code, or OpenVINO's
        raise TargetError(f"engine openvino cannot run this network: {what_failed(error)}") from (
            error
        )
    model.reshape(list(shape))  # the converter leaves every size open
    model.inputs[0].set_names({INPUT})
    model.outputs[0].set_names({OUTPUT})
    return model


def _quantised(
    model: Any, batches: list[Tensor], *, correct_bias: bool
) -> tuple[Any, dict[str, Any]]:
    """The model with NNCF's FakeQuantize layers, and how it was quantised."""
    with quiet():
        import nncf

        dataset = nncf.Dataset([batch.numpy() for batch in batches])
        try:
            model = nncf.quantize(
                model,
                dataset,
                target_device=nncf.TargetDevice.CPU,
                subset_size=len(batches),
                advanced_parameters=nncf.AdvancedQuantizationParameters(
                    disable_bias_correction=not correct_bias
                ),
            )
        except Exception as error:  # NNCF's own, which have no common class
            raise TargetError(f"NNCF cannot quantise this network: {what_failed(error)}") from error
    return model, {
        "tool": "nncf.quantize, preset performance"
        + (", fast bias correction" if correct_bias else ""),
        "weights": "int8, symmetric, per channel",
        "activations": "8 bits, symmetric, unsigned after ReLU",
    }


def _compiled(model: Any, target: Target) -> Any:
    compiled = _openvino().Core().compile_model(model, "CPU", _settings(target))
    used = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    if used != HINTS[target.precision]:  # OpenVINO takes another without a word
        raise TargetError(
            f"precision {target.precision} is not supported by this CPU; OpenVINO used {used}"
        )
    return compiled


@dataclass(frozen=True, slots=True)
class _BoundRun:
    """A run of inputs that lie in memory; its outputs stay there, and are not copied."""

    request: Any

    def __call__(self) -> None:
        self.request.start_async()
        self.request.wait()


def _bound(compiled: Any, shape: Shape) -> Run:
    request = compiled.create_infer_request()
    request.set_input_tensor(_owned(normal_images(shape)))
    return _BoundRun(request)


def _predicting(compiled: Any) -> Predict:
    request = compiled.create_infer_request()

    def predict(images: Tensor) -> Tensor:
        request.set_input_tensor(_owned(images))
        request.infer()
        return torch.from_numpy(request.get_output_tensor().data.copy())

    return predict


def _owned(images: Tensor) -> Any:
    """A copy in OpenVINO's own memory: it would not keep an array of ours alive."""
    return _openvino().Tensor(images.contiguous().numpy())
