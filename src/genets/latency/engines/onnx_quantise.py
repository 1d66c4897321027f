"""INT8 ONNX models by ONNX Runtime's own static quantisation."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genets.core.errors import TargetError
from genets.networks.onnx_export import INPUT, quiet, what_failed

MADE_UP_RANGE = 4.0  # of values that are about normal


def quantise(model: bytes, batches: list[Tensor], provider: str) -> tuple[bytes, dict[str, Any]]:
    """The model with QuantizeLinear/DequantizeLinear pairs, and how it was quantised.

    Weights are int8 with a scale for each channel; ranges of activations are the least and the
    largest values in `batches`. The CPU provider computes uint8 by int8, TensorRT int8 by int8
    around zero. Raises TargetError.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    with tempfile.TemporaryDirectory(prefix="genets-int8-") as folder, _explained():
        path = Path(folder) / "int8.onnx"
        quantize_static(
            onnx.load_from_string(model),
            path,
            _reader(batches),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=_is_narrow(provider),
            activation_type=_activation_type(provider),
            weight_type=QuantType.QInt8,
            extra_options=_options(provider),
        )
        content = path.read_bytes()
    return content, _told("onnxruntime.quantization.quantize_static, QDQ, min-max", provider)


def quantise_quickly(model: bytes, provider: str) -> tuple[bytes, dict[str, Any]]:
    """The graph that `quantise` makes, with made-up ranges: good for a latency alone.

    Operators, types and shapes are the same, by which the kernels are chosen. It takes an eighth
    of the time, without calibration, and without the quantiser's loop over the channels of all
    weights: one scale for all of them is written down once for each. Raises TargetError.
    """
    import onnx
    from onnxruntime.quantization import QDQQuantizer, QuantType
    from onnxruntime.quantization.quant_utils import add_infer_metadata
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    with _explained():
        loaded = onnx.shape_inference.infer_shapes(onnx.load_from_string(model))
        add_infer_metadata(loaded)  # else the quantiser infers shapes by way of a file
        quantizer = QDQQuantizer(
            loaded,
            per_channel=False,
            reduce_range=_is_narrow(provider),
            weight_qType=QuantType.QInt8,
            activation_qType=_activation_type(provider),
            tensors_range=_made_up_ranges(loaded.graph),
            nodes_to_quantize=[],
            nodes_to_exclude=[],
            op_types_to_quantize=[*QDQRegistry, *QLinearOpsRegistry],
            extra_options=_options(provider),
        )
        made = quantizer.quantize_model()
        quantizer.model.topological_sort()
    _repeat_scales(made.graph)
    how = _told("onnxruntime.quantization.QDQQuantizer", provider)
    return bytes(made.SerializeToString()), how | {"ranges_from": "nothing", "images": 0}


def _made_up_ranges(graph: Any) -> Any:
    """One for every value; not below zero after a ReLU, which would otherwise stay a layer."""
    from onnxruntime.quantization import CalibrationMethod, TensorData, TensorsData

    after_relu = {name for node in graph.node if node.op_type == "Relu" for name in node.output}
    values = [value.name for value in graph.input]
    values += [name for node in graph.node for name in node.output]
    lowest = {name: 0.0 if name in after_relu else -MADE_UP_RANGE for name in values}
    highest = np.float32(MADE_UP_RANGE)
    ranges = {
        name: TensorData(lowest=np.float32(low), highest=highest) for name, low in lowest.items()
    }
    return TensorsData(CalibrationMethod.MinMax, ranges)


def _repeat_scales(graph: Any) -> None:
    """Give each output channel of a Conv or Gemm the scale that its weights have as a whole."""
    from onnx import helper, numpy_helper

    constants = {constant.name: constant for constant in graph.initializer}
    layers = [node for node in graph.node if node.op_type in ("Conv", "Gemm")]
    read = {name for layer in layers for name in layer.input[1:]}
    for node in graph.node:
        if node.output[0] not in read or node.input[0] not in constants:
            continue
        values, *once = (constants[name] for name in node.input)
        for constant in once:
            each = np.repeat(numpy_helper.to_array(constant), values.dims[0])
            constant.CopyFrom(numpy_helper.from_array(each, constant.name))
        del node.attribute[:]
        node.attribute.append(helper.make_attribute("axis", 0))


@contextmanager
def _explained() -> Iterator[None]:
    try:
        with quiet():
            yield
    except Exception as error:  # the quantiser's own, of every kind
        raise TargetError(
            f"ONNX Runtime cannot quantise this network: {what_failed(error)}"
        ) from error


def _is_symmetric(provider: str) -> bool:
    return provider != "cpu"


def _is_narrow(provider: str) -> bool:
    return provider == "cpu" and _products_saturate()


def _activation_type(provider: str) -> Any:
    from onnxruntime.quantization import QuantType

    return QuantType.QInt8 if _is_symmetric(provider) else QuantType.QUInt8


def _options(provider: str) -> dict[str, Any]:
    symmetric = _is_symmetric(provider)
    return {"ActivationSymmetric": True, "QuantizeBias": False} if symmetric else {}


def _told(tool: str, provider: str) -> dict[str, Any]:
    """How a model was quantised, for a record."""
    return {
        "tool": tool,
        "weights": f"int8{' in 7 bits' if _is_narrow(provider) else ''}, symmetric, per channel",
        "activations": "int8, symmetric" if _is_symmetric(provider) else "uint8, asymmetric",
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
