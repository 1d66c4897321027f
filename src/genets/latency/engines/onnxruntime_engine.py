"""Engine `onnxruntime`: ONNX Runtime with its CPU, CUDA and TensorRT providers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from genets.core.errors import TargetError
from genets.core.files import write_atomic
from genets.core.host import keep_freed_memory
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
from genets.latency.engines.devices import CpuClock, CudaHostClock, check_device
from genets.latency.engines.fast_onnx import plain_onnx, quantise_without_calibration
from genets.latency.engines.onnx_quantise import quantise
from genets.networks.onnx_export import INPUT, OUTPUT, to_onnx

if TYPE_CHECKING:
    from genets.latency.target import Target

NEEDED = ("onnx", "onnxscript", "onnxruntime")
# ONNX Runtime's name of each provider, and the precisions that it computes without conversions.
PROVIDERS = {
    "cpu": ("CPUExecutionProvider", ("fp32", "int8")),
    "cuda": ("CUDAExecutionProvider", ("fp32", "fp16")),
    "tensorrt": ("TensorrtExecutionProvider", ("fp32", "fp16", "int8")),
}
ERRORS_ONLY = 3


class OnnxRuntimeEngine(ConvertedEngine):
    """Static shapes, all graph optimisations, inputs and outputs bound to device memory."""

    start_step = "load"
    precisions = ("fp32", "fp16", "int8")
    packages = ("onnxruntime", "onnxruntime-gpu", "onnx", "onnxscript")

    def check(self, target: Target) -> None:
        """See `Engine.check`."""
        provider = get_provider(target)
        name, precisions = PROVIDERS[provider]
        if (provider == "cpu") != target.is_cpu:
            needed = "device cpu" if provider == "cpu" else "a CUDA device"
            raise TargetError(f"provider {provider} needs {needed}, not device {target.device!r}")
        check_precision(target, precisions)
        check_packages("onnxruntime", "", NEEDED)
        if not target.is_cpu:
            check_device(target.device)
        import onnxruntime

        if name not in onnxruntime.get_available_providers():
            raise TargetError(
                f"provider {provider} is not part of the installed ONNX Runtime; "
                "install the package onnxruntime-gpu in place of onnxruntime"
            )

    def table_source(self, target: Target) -> Target | None:
        """See `Engine.table_source`: TensorRT tries many kernels for each layer."""
        if get_provider(target) != "tensorrt":
            return None
        precision = "fp16" if target.precision == "int8" else target.precision
        return replace(target, engine="torch-graph", provider=None, precision=precision)

    @contextmanager
    def open(self, target: Target) -> Iterator[CpuClock | CudaHostClock]:
        """See `Engine.open`. Raises TargetError."""
        self.check(target)
        if target.is_cpu:
            keep_freed_memory()
            yield CpuClock()
        else:
            with torch.cuda.device(target.device):
                yield CudaHostClock()

    def convert(
        self,
        folded: nn.Module,
        shape: Shape,
        target: Target,
        *,
        latency_only: bool,
        free_batch: bool,
    ) -> bytes:
        """Return an ONNX file. Raises GenetsError, which names an operator that fails."""
        dtype = _export_type(target)
        folded = folded.to(dtype)
        if latency_only and (plain := plain_onnx(folded, shape)):
            return plain
        return to_onnx(folded, torch.zeros(shape, dtype=dtype), free_batch=free_batch)

    def free_batch(self, model: bytes) -> bytes:
        """See `ConvertedEngine.free_batch`; the exporter left it open already."""
        return model

    def quantise(
        self,
        model: bytes,
        shape: Shape,
        target: Target,
        images: Tensor | None,
        *,
        latency_only: bool,
    ) -> tuple[bytes, dict[str, Any]]:
        """See `quantise` and `quantise_without_calibration`."""
        provider = get_provider(target)
        if latency_only:
            return quantise_without_calibration(model, provider)
        batches, source = calibration_batches(shape, images)
        content, description = quantise(model, batches, provider)
        return content, description | source

    def start(self, model: bytes, target: Target) -> Any:
        """Return an InferenceSession."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = ERRORS_ONLY
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        for field, number in _thread_options(target).items():
            setattr(options, field, number)
        if target.is_cpu:
            # Otherwise the threads of an earlier session keep spinning. The next network that is
            # timed in turn with it would be up to three times slower.
            options.add_session_config_entry("session.force_spinning_stop", "1")
        name, provider_options = _provider_options(target)
        with _runtime_errors():
            session = onnxruntime.InferenceSession(
                model, options, providers=[(name, provider_options)]
            )
        if session.get_providers()[0] != name:  # it silently uses the CPU
            raise TargetError(
                f"provider {get_provider(target)} does not start on this machine; its libraries "
                "(CUDA, cuDNN, TensorRT) are missing or have other versions"
            )
        return session

    def bind(self, started: Any, target: Target, shape: Shape) -> Run:
        """See `ConvertedEngine.bind`."""
        import onnxruntime

        device = "cpu" if target.is_cpu else "cuda"
        number = 0 if target.is_cpu else torch.device(target.device).index or 0
        images = normal_images(shape).numpy().astype(_input_type(started))
        binding = started.io_binding()
        inputs = onnxruntime.OrtValue.ortvalue_from_numpy(images, device, number)
        binding.bind_ortvalue_input(INPUT, inputs)
        (output,) = started.get_outputs()
        outputs = onnxruntime.OrtValue.ortvalue_from_shape_and_type(
            [shape[0], *output.shape[1:]], images.dtype, device, number
        )
        binding.bind_ortvalue_output(OUTPUT, outputs)
        options = onnxruntime.RunOptions()
        if not target.is_cpu:  # the clock waits once for many runs
            options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        return _BoundRun(started, binding, options, (inputs, outputs))

    def make_predict(self, started: Any) -> Predict:
        """See `ConvertedEngine.make_predict`."""
        dtype = _input_type(started)

        def predict(images: Tensor) -> Tensor:
            with _runtime_errors():
                (logits,) = started.run([OUTPUT], {INPUT: images.numpy().astype(dtype)})
            return torch.from_numpy(logits)

        return predict

    def make_files(self, model: bytes, target: Target) -> OnnxFiles:
        """See `ConvertedEngine.make_files`."""
        return OnnxFiles(self, model, target)


@dataclass(frozen=True)
class OnnxFiles:
    """One ONNX file. See `ModelFiles`."""

    engine: OnnxRuntimeEngine
    model: bytes
    target: Target

    def save(self, folder: Path, name: str = MODEL_NAME) -> list[Path]:
        path = folder / f"{name}.onnx"
        write_atomic(path, self.model)
        return [path]

    def load(self, folder: Path, name: str = MODEL_NAME) -> Predict:
        model = (folder / f"{name}.onnx").read_bytes()
        return self.engine.make_predict(self.engine.start(model, self.target))

    @property
    def dtype(self) -> str:
        return str(_export_type(self.target)).removeprefix("torch.")

    @property
    def settings(self) -> dict[str, Any]:
        name, options = _provider_options(self.target)
        return {"providers": [name], "options": options, "session": _thread_options(self.target)}


@dataclass(frozen=True, slots=True)
class _BoundRun:
    """kept: values that the binding uses but does not keep alive."""

    session: Any
    binding: Any
    options: Any
    kept: tuple[Any, ...]

    def __call__(self) -> None:
        with _runtime_errors():
            self.session.run_with_iobinding(self.binding, self.options)


def get_provider(target: Target) -> str:
    """The target's provider, or the default of its device."""
    return target.provider or ("cpu" if target.is_cpu else "cuda")


def _provider_options(target: Target) -> tuple[str, dict[str, str]]:
    """ONNX Runtime's name of the provider, and its options."""
    provider = get_provider(target)
    options: dict[str, str] = {}
    if provider != "cpu":
        options["device_id"] = str(torch.device(target.device).index or 0)
    if provider == "tensorrt":
        # Layers of an int8 network that TensorRT keeps in floating point are faster in fp16.
        options["trt_fp16_enable"] = str(target.precision in ("fp16", "int8"))
        options["trt_int8_enable"] = str(target.precision == "int8")
    return PROVIDERS[provider][0], options


def _export_type(target: Target) -> torch.dtype:
    """The CUDA provider computes in the types of the file; TensorRT chooses its own types."""
    half = target.precision == "fp16" and get_provider(target) == "cuda"
    return torch.float16 if half else torch.float32


def _thread_options(target: Target) -> dict[str, int]:
    """Fields of ONNX Runtime's SessionOptions."""
    options = {"inter_op_num_threads": 1}
    threads = target.resolved().threads
    return options if threads is None else options | {"intra_op_num_threads": threads}


def _input_type(session: Any) -> str:
    return "float16" if session.get_inputs()[0].type == "tensor(float16)" else "float32"


@contextmanager
def _runtime_errors() -> Iterator[None]:
    """Raise RuntimeError, because ONNX Runtime's exceptions share no class but Exception."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    faults = (state.Fail, state.RuntimeException, state.EPFail, state.NotImplemented,
              state.InvalidGraph, state.InvalidArgument, state.InvalidProtobuf, state.NoModel,
              state.NoSuchFile)  # fmt: skip
    try:
        yield
    except faults as error:
        raise RuntimeError(str(error)) from error
