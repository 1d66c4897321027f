"""INT8 ONNX models by ONNX Runtime's own static quantisation."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genets.errors import TargetError
from genets.networks.faults import what_failed
from genets.networks.onnx_export import INPUT
from genets.networks.quiet import quiet


def quantise(model: bytes, batches: list[Tensor], provider: str) -> tuple[bytes, dict[str, Any]]:
    """The model with QuantizeLinear/DequantizeLinear pairs, and how it was quantised.

    Weights are int8 with a scale for each channel; ranges of activations are the least and the
    largest values in `batches`. The CPU provider computes uint8 by int8, TensorRT int8 by int8
    around zero.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    symmetric = provider != "cpu"
    activations = QuantType.QInt8 if symmetric else QuantType.QUInt8
    options = {"ActivationSymmetric": True, "QuantizeBias": False} if symmetric else {}
    narrow = not symmetric and _products_saturate()
    with tempfile.TemporaryDirectory(prefix="genets-int8-") as folder:
        path = Path(folder) / "int8.onnx"
        try:
            with quiet():
                quantize_static(
                    onnx.load_from_string(model),
                    path,
                    _reader(batches),
                    quant_format=QuantFormat.QDQ,
                    per_channel=True,
                    reduce_range=narrow,
                    activation_type=activations,
                    weight_type=QuantType.QInt8,
                    extra_options=options,
                )
        except Exception as error:  # the quantiser's own, of every kind
            raise TargetError(
                f"ONNX Runtime cannot quantise this network: {what_failed(error)}"
            ) from error
        content = path.read_bytes()
    return content, {
        "tool": "onnxruntime.quantization.quantize_static, QDQ, min-max",
        "weights": f"int8{' in 7 bits' if narrow else ''}, symmetric, per channel",
        "activations": "int8, symmetric" if symmetric else "uint8, asymmetric",
    }


def _reader(batches: list[Tensor]) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self, batches: Iterator[Tensor]) -> None:
            self.batches = batches

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self.batches, None)
            return None if batch is None else {INPUT: batch.numpy()}

    return Reader(iter(batches))


def _products_saturate() -> bool:
    """True on x86 CPUs without VNNI, whose sums of two 8-bit products overflow 16 bits."""
    capabilities = torch.cpu.get_capabilities()
    x86 = capabilities.get("architecture") in ("x86_64", "x86", "amd64")
    return x86 and not (capabilities.get("avx512_vnni") or capabilities.get("avx_vnni"))
