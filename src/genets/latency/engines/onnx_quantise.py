"""INT8 ONNX models by ONNX Runtime's static quantisation."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from genets.core.errors import TargetError
from genets.core.host import cpu_info
from genets.networks.onnx_export import INPUT, describe_failure, quiet


@dataclass(frozen=True)
class Int8Scheme:
    """How a provider computes int8.

    The CPU provider multiplies uint8 by int8; TensorRT multiplies int8 by int8 around zero.
    """

    provider: str

    @property
    def is_symmetric(self) -> bool:
        return self.provider != "cpu"

    @property
    def reduce_range(self) -> bool:
        """Whether weights have 7 bits."""
        return self.provider == "cpu" and _products_saturate()

    @property
    def activation_type(self) -> Any:
        from onnxruntime.quantization import QuantType

        return QuantType.QInt8 if self.is_symmetric else QuantType.QUInt8

    @property
    def options(self) -> dict[str, Any]:
        return {"ActivationSymmetric": True, "QuantizeBias": False} if self.is_symmetric else {}

    def describe(self, tool: str) -> dict[str, Any]:
        """How a model was quantised, for a record."""
        return {
            "tool": tool,
            "weights": f"int8{' in 7 bits' if self.reduce_range else ''}, symmetric, per channel",
            "activations": "int8, symmetric" if self.is_symmetric else "uint8, asymmetric",
        }


def quantise(model: bytes, batches: list[Tensor], provider: str) -> tuple[bytes, dict[str, Any]]:
    """Insert QuantizeLinear/DequantizeLinear pairs.

    Weights are int8 with a scale for each channel. The ranges of activations are the smallest and
    largest values in `batches`.

    Returns:
        The model, and how it was quantised.

    Raises:
        TargetError: ONNX Runtime cannot quantise the network.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    scheme = Int8Scheme(provider)
    with (
        tempfile.TemporaryDirectory(prefix="genets-int8-") as folder,
        explain_quantisation_failures(),
    ):
        path = Path(folder) / "int8.onnx"
        quantize_static(
            onnx.load_from_string(model),
            path,
            _make_reader(batches),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=scheme.reduce_range,
            activation_type=scheme.activation_type,
            weight_type=QuantType.QInt8,
            extra_options=scheme.options,
        )
        content = path.read_bytes()
    return content, scheme.describe("onnxruntime.quantization.quantize_static, QDQ, min-max")


@contextmanager
def explain_quantisation_failures() -> Iterator[None]:
    """Turn any exception of the quantiser into a TargetError."""
    try:
        with quiet():
            yield
    except Exception as error:  # the quantiser raises exceptions of every kind
        raise TargetError(
            f"ONNX Runtime cannot quantise this network: {describe_failure(error)}"
        ) from error


def _make_reader(batches: list[Tensor]) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self, batches: Iterator[Tensor]) -> None:
            self.batches = batches

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self.batches, None)
            return None if batch is None else {INPUT: batch.numpy()}

    return Reader(iter(batches))


def _products_saturate() -> bool:
    """Whether sums of two 8-bit products overflow 16 bits: on x86 CPUs without VNNI."""
    x86 = platform.machine() in ("x86_64", "i686", "amd64")
    return x86 and not {"avx512_vnni", "avx_vnni"} & set(cpu_info("flags").split())
