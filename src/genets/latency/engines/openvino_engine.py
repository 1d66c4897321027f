"""Engine `openvino`: OpenVINO on a CPU, quantised by NNCF."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from genets.core.errors import TargetError, first_line
from genets.core.files import write_atomic
from genets.core.host import keep_freed_memory, usable_cores
from genets.latency.engines.base import (
    MODEL_NAME,
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
from genets.networks.onnx_export import (
    INPUT,
    OUTPUT,
    describe_failure,
    example_input,
    quiet,
)

if TYPE_CHECKING:
    from genets.latency.target import Target

# The type of all layers that are not int8, and OpenVINO's name for the CPU's capability.
HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "f32"}
CAPABILITIES = {"fp32": "FP32", "bf16": "BF16", "fp16": "FP16", "int8": "INT8"}


class OpenVinoEngine(ConvertedEngine):
    """Static shapes, one stream tuned for latency."""

    start_step = "compile"
    precisions = tuple(HINTS)
    packages = ("openvino", "nncf")

    def check(self, target: Target) -> None:
        """See `Engine.check`."""
        if not target.is_cpu:
            raise TargetError(f"engine openvino runs on device cpu, not on {target.device!r}")
        check_precision(target, self.precisions)
        needed = ("openvino", "nncf") if target.precision == "int8" else ("openvino",)
        check_packages("openvino", "openvino", needed)
        supported = _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        check_precision(target, tuple(p for p in self.precisions if CAPABILITIES[p] in supported))

    def table_source(self, target: Target) -> Target | None:
        """See `Engine.table_source`: NNCF takes a second or more to quantise a network.

        The table of `torch` is made in a quarter of the time of OpenVINO's own in fp32, and gave
        smaller errors.
        """
        int8 = target.precision == "int8"
        return replace(target, engine="torch", precision="fp32") if int8 else None

    @contextmanager
    def open(self, target: Target) -> Iterator[CpuClock]:
        """See `Engine.open`. Raises TargetError."""
        self.check(target)
        keep_freed_memory()
        yield CpuClock()

    def convert(
        self,
        folded: nn.Module,
        shape: Shape,
        target: Target,
        *,
        latency_only: bool,
        free_batch: bool,
    ) -> Any:
        """Return an openvino.Model, by torch.export and OpenVINO's own converter.

        Raises TargetError, which names an operator that fails.
        """
        if latency_only and (plain := plain_onnx(folded, shape)):
            return _core().read_model(plain)
        try:
            with quiet(), torch.no_grad():
                images, shapes = example_input(torch.zeros(shape), free_batch=free_batch)
                program = torch.export.export(folded, (images,), dynamic_shapes=shapes)
                model = _openvino().convert_model(program)
        except Exception as error:  # torch's tracing runs the network's code; OpenVINO's own
            raise TargetError(
                f"engine openvino cannot run this network: {describe_failure(error)}"
            ) from error
        model.reshape(list(shape))  # the converter leaves every dimension open
        model.inputs[0].set_names({INPUT})
        model.outputs[0].set_names({OUTPUT})
        return model

    def free_batch(self, model: Any) -> Any:
        """See `ConvertedEngine.free_batch`. Raises TargetError: the network fixes the number."""
        _, *image_shape = model.inputs[0].shape
        try:
            model.reshape([-1, *image_shape])
        except RuntimeError as error:
            raise TargetError(
                f"the network does not run with any number of images: {first_line(error)}"
            ) from error
        return model

    def quantise(
        self, model: Any, shape: Shape, target: Target, images: Tensor | None, *, latency_only: bool
    ) -> tuple[Any, dict[str, Any]]:
        """Return the model with NNCF's FakeQuantize layers, and how it was quantised."""
        batches, source = calibration_batches(shape, images)
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
                        disable_bias_correction=latency_only
                    ),
                )
            except Exception as error:  # NNCF's exceptions share no class
                raise TargetError(
                    f"NNCF cannot quantise this network: {describe_failure(error)}"
                ) from error
        correction = "" if latency_only else ", fast bias correction"
        return model, {
            "tool": f"nncf.quantize, preset performance{correction}",
            "weights": "int8, symmetric, per channel",
            "activations": "8 bits, symmetric, unsigned after ReLU",
            **source,
        }

    def start(self, model: Any, target: Target) -> Any:
        """Return an openvino.CompiledModel. Raises TargetError if the CPU lacks the precision."""
        compiled = _core().compile_model(model, "CPU", _settings(target))
        used = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        if used != HINTS[target.precision]:  # OpenVINO silently uses another precision
            raise TargetError(
                f"precision {target.precision} is not supported by this CPU; OpenVINO used {used}"
            )
        return compiled

    def bind(self, started: Any, target: Target, shape: Shape) -> Run:
        """See `ConvertedEngine.bind`."""
        request = started.create_infer_request()
        request.set_input_tensor(_copy(normal_images(shape)))
        return _BoundRun(request)

    def make_predict(self, started: Any) -> Predict:
        """See `ConvertedEngine.make_predict`."""
        request = started.create_infer_request()

        def predict(images: Tensor) -> Tensor:
            request.set_input_tensor(_copy(images))
            request.infer()
            return torch.from_numpy(request.get_output_tensor().data.copy())

        return predict

    def make_files(self, model: Any, target: Target) -> OpenVinoFiles:
        """See `ConvertedEngine.make_files`."""
        return OpenVinoFiles(self, model, target)


@dataclass(frozen=True)
class OpenVinoFiles:
    """An OpenVINO IR: the graph (.xml) and its weights (.bin). See `ModelFiles`."""

    engine: OpenVinoEngine
    model: Any
    target: Target

    def save(self, folder: Path, name: str = MODEL_NAME) -> list[Path]:
        path = folder / f"{name}.xml"
        paths = [path, path.with_suffix(".bin")]
        # OpenVINO does not write atomically, and reports a full disk as an iostream error.
        with tempfile.TemporaryDirectory(prefix="genets-openvino-") as draft:
            _openvino().save_model(self.model, Path(draft) / path.name, compress_to_fp16=False)
            for part in reversed(paths):
                write_atomic(part, (Path(draft) / part.name).read_bytes())
        return paths

    def load(self, folder: Path, name: str = MODEL_NAME) -> Predict:
        model = _core().read_model(folder / f"{name}.xml")
        return self.engine.make_predict(self.engine.start(model, self.target))

    @property
    def dtype(self) -> str:
        return "float32"

    @property
    def settings(self) -> dict[str, Any]:
        return _settings(self.target)


@dataclass(frozen=True, slots=True)
class _BoundRun:
    """A run of inputs that stay in memory; the outputs stay there too and are not copied."""

    request: Any

    def __call__(self) -> None:
        self.request.start_async()
        self.request.wait()


def _openvino() -> Any:
    """Import the package with its usage reports switched off for this process.

    OpenVINO and NNCF report every conversion unless a file in the home directory forbids it. Where
    the reporting package cannot be imported, they use their own empty stand-ins.
    """
    telemetry = sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    if telemetry is not None:  # the program imported OpenVINO earlier
        telemetry.main.TelemetrySender.send = lambda *_: None
    import openvino

    return openvino


@cache
def _core() -> Any:
    """The one `openvino.Core` of this process.

    Each core sets the memory in which signals are handled. Two cores that end in the order in which
    they began leave memory that is freed, and the next signal ends the process (OpenVINO 2026.4).
    """
    return _openvino().Core()


def _settings(target: Target) -> dict[str, Any]:
    threads = target.resolved().threads
    assert threads is not None
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        # Otherwise OpenVINO runs at most one thread on each physical core, without a message.
        "ENABLE_HYPER_THREADING": threads > usable_cores(),
        "INFERENCE_PRECISION_HINT": HINTS[target.precision],
    }


def _copy(images: Tensor) -> Any:
    """A copy in OpenVINO's own memory, because OpenVINO does not keep a NumPy array alive."""
    return _openvino().Tensor(images.contiguous().numpy())
