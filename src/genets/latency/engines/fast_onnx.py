"""Fast ways to write and quantise the ONNX models of a latency table; they give latencies only.

torch's exporter needs half a second for each of the hundreds of small networks of a table, and
ONNX Runtime's calibrated quantisation needs even longer. Both are replaced here, which saves
minutes for each table. Files for users are always made by torch's exporter and `onnx_quantise`.

This file depends on details of two packages. If they change:
- torch's exporter writes a layer with other operators: `plain_onnx` times other kernels than
  `genets measure`. `test_fast_onnx.py` compares the operators and fails.
- `QDQQuantizer`, `TensorsData`, `add_infer_metadata` or the operator registries of
  `onnxruntime.quantization`, which are not documented, are renamed or change their arguments:
  `quantise_without_calibration` raises TargetError. If they change the graph, `test_fast_int8.py`
  fails. `ConvertedEngine.quantise` with calibration would be a slow but equal replacement.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from genets.latency.engines.onnx_quantise import Int8Scheme, explain_quantisation_failures
from genets.networks.onnx_export import INPUT, OUTPUT

MADE_UP_RANGE = 4.0  # of values that are roughly standard normal
OPSET, IR_VERSION = 18, 10
SUMS = (operator.add, operator.iadd, torch.add)


@dataclass(frozen=True)
class Operator:
    """An ONNX operator, its attributes, and the constants that follow its input."""

    name: str
    attributes: dict[str, Any] = field(default_factory=dict)
    constants: tuple[Tensor, ...] = ()


def plain_onnx(net: nn.Module, shape: tuple[int, ...]) -> bytes | None:
    """Write a network of plain layers as an ONNX file, in milliseconds.

    Args:
        net: A network on the CPU, in eval mode, with folded batch norm.
        shape: The shape of the inputs.

    Returns:
        The file, in the type of the weights. None where a layer has no entry in OPERATORS; the
        caller then uses torch's exporter.
    """
    try:
        graph = fx.Tracer().trace(net)
    except Exception:  # noqa: BLE001 - tracing runs the network's code, which may raise anything
        return None
    _remove_identities(net, graph)
    operators = {node: _make_operator(net, node) for node in graph.nodes if _computes(node)}
    if not operators or None in operators.values():
        return None
    return _make_file(net, graph, shape, {n: op for n, op in operators.items() if op})


def _remove_identities(net: nn.Module, graph: fx.Graph) -> None:
    """As torch's exporter does; otherwise a quantiser adds rounding around such layers."""
    for node in list(graph.nodes):
        if node.op == "call_module" and type(net.get_submodule(node.target)) in IDENTITIES:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)


def _computes(node: fx.Node) -> bool:
    return node.op not in ("placeholder", "output")


def _make_operator(net: nn.Module, node: fx.Node) -> Operator | None:
    if node.op == "call_function" and node.target in SUMS:
        terms = [argument for argument in node.args if isinstance(argument, fx.Node)]
        return Operator("Add") if len(terms) == 2 and not node.kwargs else None
    if node.op != "call_module":
        return None
    module = net.get_submodule(str(node.target))
    make = OPERATORS.get(type(module))
    return None if make is None else make(module)


def _convolution(module: nn.Conv2d) -> Operator | None:
    if module.padding_mode != "zeros" or isinstance(module.padding, str):
        return None
    attributes = {
        "kernel_shape": module.kernel_size,
        "strides": module.stride,
        "pads": (*module.padding, *module.padding),
        "dilations": module.dilation,
        "group": module.groups,
    }
    return Operator("Conv", attributes, _weights(module))


def _average(module: nn.AvgPool2d) -> Operator | None:
    if module.divisor_override is not None:
        return None
    pads = _pair(module.padding)
    attributes = {
        "kernel_shape": _pair(module.kernel_size),
        "strides": _pair(module.stride),
        "pads": (*pads, *pads),
        "ceil_mode": int(module.ceil_mode),
        "count_include_pad": int(module.count_include_pad),
    }
    return Operator("AveragePool", attributes)


def _global_average(module: nn.AdaptiveAvgPool2d) -> Operator | None:
    """As torch's exporter does; a quantised GlobalAveragePool would use another kernel."""
    if _pair(module.output_size) != (1, 1):
        return None
    return Operator("ReduceMean", {"keepdims": 1}, (torch.tensor([-1, -2]),))


def _flatten(module: nn.Flatten) -> Operator | None:
    if (module.start_dim, module.end_dim) != (1, -1):
        return None
    return Operator("Reshape", {}, (torch.tensor([0, -1]),))


def _linear(module: nn.Linear) -> Operator:
    return Operator("Gemm", {"transB": 1}, _weights(module))


def _weights(module: nn.Conv2d | nn.Linear) -> tuple[Tensor, ...]:
    return (module.weight,) if module.bias is None else (module.weight, module.bias)


def _pair(value: Any) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)


OPERATORS: dict[type[nn.Module], Callable[[Any], Operator | None]] = {
    nn.Conv2d: _convolution,
    nn.AvgPool2d: _average,
    nn.AdaptiveAvgPool2d: _global_average,
    nn.Flatten: _flatten,
    nn.Linear: _linear,
    nn.ReLU: lambda _: Operator("Relu"),
}
IDENTITIES = (nn.Identity, nn.Dropout)  # in eval mode


def _make_file(
    net: nn.Module, graph: fx.Graph, shape: tuple[int, ...], operators: dict[fx.Node, Operator]
) -> bytes:
    from onnx import helper, numpy_helper

    dtype = next(net.parameters()).dtype
    element = helper.np_dtype_to_tensor_dtype(torch.empty(0, dtype=dtype).numpy().dtype)
    names = _names(graph)
    nodes, constants = [], []
    for node, written in operators.items():
        inputs = [names[argument] for argument in node.all_input_nodes]
        if written.name == "Add" and len(inputs) == 1:  # x + x
            inputs *= 2
        for number, constant in enumerate(written.constants):
            inputs.append(f"{node.name}.{number}")
            array = constant.detach().contiguous().numpy()
            constants.append(numpy_helper.from_array(array, inputs[-1]))
        nodes.append(helper.make_node(written.name, inputs, [names[node]], **written.attributes))
    with torch.inference_mode():
        (_, *rest) = net(torch.zeros((1, *shape[1:]), dtype=dtype)).shape
    images = helper.make_tensor_value_info(INPUT, element, shape)
    logits = helper.make_tensor_value_info(OUTPUT, element, (shape[0], *rest))
    model = helper.make_model(
        helper.make_graph(nodes, "network", [images], [logits], constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    return bytes(model.SerializeToString())


def _names(graph: fx.Graph) -> dict[fx.Node, str]:
    """The name of each node's values; the input and the output have fixed names."""
    (images,) = (node for node in graph.nodes if node.op == "placeholder")
    return {node: node.name for node in graph.nodes} | {images: INPUT, _find_last(graph): OUTPUT}


def _find_last(graph: fx.Graph) -> fx.Node:
    (output,) = (node for node in graph.nodes if node.op == "output")
    (last,) = output.all_input_nodes
    assert isinstance(last, fx.Node)
    return last


def quantise_without_calibration(model: bytes, provider: str) -> tuple[bytes, dict[str, Any]]:
    """Make the graph of `quantise`, but with made-up ranges; its outputs are useless.

    Operators, types and shapes decide which kernels run, and they are the same. This takes an
    eighth of the time: there is no calibration, and no loop over the channels of all weights,
    because one scale for the whole layer is repeated for each channel.

    Returns:
        The model, and how it was quantised.

    Raises:
        TargetError: ONNX Runtime cannot quantise the network.
    """
    import onnx
    from onnxruntime.quantization import QDQQuantizer, QuantType
    from onnxruntime.quantization.quant_utils import add_infer_metadata
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    scheme = Int8Scheme(provider)
    with explain_quantisation_failures():
        loaded = onnx.shape_inference.infer_shapes(onnx.load_from_string(model))
        add_infer_metadata(loaded)  # otherwise the quantiser infers the shapes through a file
        quantizer = QDQQuantizer(
            loaded,
            per_channel=False,
            reduce_range=scheme.reduce_range,
            weight_qType=QuantType.QInt8,
            activation_qType=scheme.activation_type,
            tensors_range=_make_up_ranges(loaded.graph),
            nodes_to_quantize=[],
            nodes_to_exclude=[],
            op_types_to_quantize=[*QDQRegistry, *QLinearOpsRegistry],
            extra_options=scheme.options,
        )
        quantised = quantizer.quantize_model()
        quantizer.model.topological_sort()
    _repeat_scales(quantised.graph)
    description = scheme.describe("onnxruntime.quantization.QDQQuantizer")
    return bytes(quantised.SerializeToString()), description | {
        "ranges_from": "nothing",
        "images": 0,
    }


def _make_up_ranges(graph: Any) -> Any:
    """A range for every value; after a ReLU it starts at 0, or the ReLU would stay a layer."""
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData

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
    """Give each output channel of a Conv or Gemm the scale of the layer's whole weights."""
    from onnx import helper, numpy_helper

    constants = {constant.name: constant for constant in graph.initializer}
    layers = [node for node in graph.node if node.op_type in ("Conv", "Gemm")]
    read = {name for layer in layers for name in layer.input[1:]}
    for node in graph.node:
        if node.output[0] not in read or node.input[0] not in constants:
            continue
        values, *scalars = (constants[name] for name in node.input)
        for constant in scalars:
            repeated = np.repeat(numpy_helper.to_array(constant), values.dims[0])
            constant.CopyFrom(numpy_helper.from_array(repeated, constant.name))
        del node.attribute[:]
        node.attribute.append(helper.make_attribute("axis", 0))
