"""Engine `onnxruntime`: ONNX Runtime, with its CPU, CUDA and TensorRT providers."""

from __future__ import annotations

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
from genets.latency.engines.devices import CpuClock, CudaHostClock, check_device
from genets.latency.engines.onnx_quantise import quantise, quantise_quickly
from genets.latency.engines.fast_onnx import plain_onnx
from genets.latency.target import Target
from genets.networks.onnx_export import INPUT, OUTPUT, to_onnx

NEEDED = ("onnx", "onnxscript", "onnxruntime")
# ONNX Runtime's name of each provider, and what it computes itself rather than by conversions.
PROVIDERS = {
    "cpu": ("CPUExecutionProvider", ("fp32", "int8")),
    "cuda": ("CUDAExecutionProvider", ("fp32", "fp16")),
    "tensorrt": ("TensorrtExecutionProvider", ("fp32", "fp16", "int8")),
}
MODEL_FILE = "network.onnx"
ERRORS_ONLY = 3


class OnnxRuntimeEngine(ConvertedEngine):
    """BN folded, static shapes, all graph optimisations, inputs and outputs bound in place."""

    starting = "load"

    precisions = ("fp32", "fp16", "int8")
    packages = ("onnxruntime", "onnxruntime-gpu", "onnx", "onnxscript")

    def check(self, target: Target) -> None:
        """See `Engine.check`."""
        name, precisions = PROVIDERS[provider_of(target)]
        if (provider_of(target) == "cpu") != target.is_cpu:
            needed = "device cpu" if provider_of(target) == "cpu" else "a CUDA device"
            raise TargetError(
                f"provider {target.provider} needs {needed}, not device {target.device!r}"
            )
        check_precision(target, precisions)
        check_packages("onnxruntime", "onnx", NEEDED)
        if not target.is_cpu:
            check_device(target.device)
        import onnxruntime

        if name not in onnxruntime.get_available_providers():
            raise TargetError(
                f"provider {provider_of(target)} is not in the installed ONNX Runtime; "
                "it is in the package onnxruntime-gpu, installed in place of onnxruntime"
            )

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

    def converted(
        self, folded: nn.Module, shape: Shape, target: Target, *, latency_only: bool
    ) -> bytes:
        """An ONNX file. Raises GenetsError, the operator named."""
        dtype = _export_type(target)
        folded = folded.to(dtype)
        plain = plain_onnx(folded, shape) if latency_only else None
        return plain or to_onnx(folded, torch.zeros(shape, dtype=dtype))

    def quantised(
        self,
        model: bytes,
        shape: Shape,
        target: Target,
        images: Tensor | None,
        *,
        latency_only: bool,
    ) -> tuple[bytes, dict[str, Any]]:
        """See `quantise` and `quantise_quickly`."""
        if latency_only:
            return quantise_quickly(model, provider_of(target))
        batches, source = calibration_batches(shape, images)
        content, how = quantise(model, batches, provider_of(target))
        return content, how | source

    def started(self, model: bytes, target: Target) -> Any:
        """An InferenceSession."""
        return _session(model, target)

    def bound(self, started: Any, target: Target, shape: Shape) -> Run:
        """See `ConvertedEngine.bound`."""
        return _bound(started, target, shape)

    def predicting(self, started: Any) -> Predict:
        """See `ConvertedEngine.predicting`."""
        return _predicting(started)

    def files(self, model: bytes, target: Target) -> OnnxFiles:
        """See `ConvertedEngine.files`."""
        return OnnxFiles(model, target)


@dataclass(frozen=True)
class OnnxFiles:
    """One ONNX file. See `ModelFiles`."""

    model: bytes
    target: Target

    def save(self, folder: Path) -> list[Path]:
        path = folder / MODEL_FILE
        write_atomic(path, self.model)
        return [path]

    def load(self, folder: Path) -> Predict:
        return _predicting(_session((folder / MODEL_FILE).read_bytes(), self.target))

    @property
    def dtype(self) -> str:
        return str(_export_type(self.target)).removeprefix("torch.")

    @property
    def settings(self) -> dict[str, Any]:
        name, options = _provider(self.target)
        return {"providers": [name], "options": options, "session": _threads(self.target)}


def provider_of(target: Target) -> str:
    """The target's provider; that of its device where none is named."""
    return target.provider or ("cpu" if target.is_cpu else "cuda")


def _provider(target: Target) -> tuple[str, dict[str, str]]:
    """ONNX Runtime's name of the provider, and its options."""
    provider = provider_of(target)
    options: dict[str, str] = {}
    if provider != "cpu":
        options["device_id"] = str(torch.device(target.device).index or 0)
    if provider == "tensorrt":
        # Where TensorRT keeps a layer of an int8 network in floating point, fp16 is faster.
        options["trt_fp16_enable"] = str(target.precision in ("fp16", "int8"))
        options["trt_int8_enable"] = str(target.precision == "int8")
    return PROVIDERS[provider][0], options


def _export_type(target: Target) -> torch.dtype:
    """The CUDA provider computes what the file says; TensorRT chooses for itself."""
    half = target.precision == "fp16" and provider_of(target) == "cuda"
    return torch.float16 if half else torch.float32


def _threads(target: Target) -> dict[str, int]:
    """Fields of ONNX Runtime's SessionOptions."""
    found = {"inter_op_num_threads": 1}
    threads = target.resolved().threads
    return found if threads is None else found | {"intra_op_num_threads": threads}


def _session(model: bytes, target: Target) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    for field, number in _threads(target).items():
        setattr(options, field, number)
    if target.is_cpu:
        # Threads of a session that ran before would spin on, and make the next network, timed in
        # turn with it, up to three times slower.
        options.add_session_config_entry("session.force_spinning_stop", "1")
    name, provider_options = _provider(target)
    with _runtime_errors():
        session = onnxruntime.InferenceSession(model, options, providers=[(name, provider_options)])
    if session.get_providers()[0] != name:  # it says nothing, and takes the CPU
        raise TargetError(
            f"provider {provider_of(target)} does not start on this machine; its libraries "
            "(CUDA, cuDNN, TensorRT) are missing or of other versions"
        )
    return session


@dataclass(frozen=True, slots=True)
class _BoundRun:
    """kept: values that the binding points to, but does not keep alive."""

    session: Any
    binding: Any
    options: Any
    kept: tuple[Any, ...]

    def __call__(self) -> None:
        with _runtime_errors():
            self.session.run_with_iobinding(self.binding, self.options)


def _bound(session: Any, target: Target, shape: Shape) -> Run:
    """A run of inputs that lie on the device; its outputs stay there."""
    import onnxruntime

    device = "cpu" if target.is_cpu else "cuda"
    number = 0 if target.is_cpu else torch.device(target.device).index or 0
    images = normal_images(shape).numpy().astype(_type(session))
    binding = session.io_binding()
    resident = onnxruntime.OrtValue.ortvalue_from_numpy(images, device, number)
    binding.bind_ortvalue_input(INPUT, resident)
    (output,) = session.get_outputs()
    kind = images.dtype
    space = onnxruntime.OrtValue.ortvalue_from_shape_and_type(output.shape, kind, device, number)
    binding.bind_ortvalue_output(OUTPUT, space)
    options = onnxruntime.RunOptions()
    if not target.is_cpu:  # the clock waits, once for many runs
        options.add_run_config_entry("disable_synchronize_execution_providers", "1")

    return _BoundRun(session, binding, options, (resident, space))


def _predicting(session: Any) -> Predict:
    kind = _type(session)

    def predict(images: Tensor) -> Tensor:
        with _runtime_errors():
            (logits,) = session.run([OUTPUT], {INPUT: images.numpy().astype(kind)})
        return torch.from_numpy(logits)

    return predict


def _type(session: Any) -> str:
    return "float16" if session.get_inputs()[0].type == "tensor(float16)" else "float32"


@contextmanager
def _runtime_errors() -> Iterator[None]:
    """ONNX Runtime's exceptions have no common class but Exception."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    faults = (state.Fail, state.RuntimeException, state.EPFail, state.NotImplemented,
              state.InvalidGraph, state.InvalidArgument)  # fmt: skip
    try:
        yield
    except faults as error:
        raise RuntimeError(str(error)) from error
