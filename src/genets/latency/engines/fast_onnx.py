"""ONNX files of plain networks, written in milliseconds.

torch's exporter needs half a second for each of the hundreds of small networks whose latencies
make a table. Theirs are a few kinds of layer, whose ONNX operators are written down here; what is
handed to users is exported by torch.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, fx, nn

from genets.networks.onnx_export import INPUT, OUTPUT

OPSET, IR_VERSION = 18, 10
SUMS = (operator.add, operator.iadd, torch.add)


@dataclass(frozen=True)
class Operator:
    """An ONNX operator: its attributes, and the constants that it reads after its input."""

    name: str
    attributes: dict[str, Any] = field(default_factory=dict)
    constants: tuple[Tensor, ...] = ()


def plain_onnx(net: nn.Module, shape: tuple[int, ...]) -> bytes | None:
    """The file for inputs of `shape`, in the type of the weights.

    None where a layer is not plain, or the package onnx is missing: let torch export it.
    net: on the CPU, in eval mode, batch norm folded.
    """
    if find_spec("onnx") is None:
        return None
    try:
        graph = fx.Tracer().trace(net)
    except Exception:  # tracing runs the network's own code, which may raise anything
        return None
    _take_out_what_does_nothing(net, graph)
    operators = {node: _operator(net, node) for node in graph.nodes if _computes(node)}
    if not operators or None in operators.values():
        return None
    return _file(net, graph, shape, {n: found for n, found in operators.items() if found})


def _take_out_what_does_nothing(net: nn.Module, graph: fx.Graph) -> None:
    """As torch's exporter does: quantisers put roundings of their own around such layers."""
    for node in list(graph.nodes):
        if node.op == "call_module" and type(net.get_submodule(node.target)) in IDENTITIES:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)


def _computes(node: fx.Node) -> bool:
    return node.op not in ("placeholder", "output")


def _operator(net: nn.Module, node: fx.Node) -> Operator | None:
    if node.op == "call_function" and node.target in SUMS:
        terms = [argument for argument in node.args if isinstance(argument, fx.Node)]
        return Operator("Add") if len(terms) == 2 and not node.kwargs else None
    if node.op != "call_module":
        return None
    module = net.get_submodule(str(node.target))
    write = OPERATORS.get(type(module))
    return None if write is None else write(module)


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
    """As torch's exporter writes it: quantised, GlobalAveragePool would be another kernel."""
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


def _file(
    net: nn.Module, graph: fx.Graph, shape: tuple[int, ...], operators: dict[fx.Node, Operator]
) -> bytes:
    from onnx import helper, numpy_helper

    dtype = next(net.parameters()).dtype
    element = helper.np_dtype_to_tensor_dtype(torch.empty(0, dtype=dtype).numpy().dtype)
    names = _names(graph)
    nodes, constants = [], []
    for node, found in operators.items():
        inputs = [names[argument] for argument in node.all_input_nodes]
        if found.name == "Add" and len(inputs) == 1:  # x + x
            inputs *= 2
        for number, constant in enumerate(found.constants):
            inputs.append(f"{node.name}.{number}")
            array = constant.detach().contiguous().numpy()
            constants.append(numpy_helper.from_array(array, inputs[-1]))
        nodes.append(helper.make_node(found.name, inputs, [names[node]], **found.attributes))
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
    """A name for the values of each node; input and output have theirs."""
    (images,) = (node for node in graph.nodes if node.op == "placeholder")
    return {node: node.name for node in graph.nodes} | {images: INPUT, _last(graph): OUTPUT}


def _last(graph: fx.Graph) -> fx.Node:
    (output,) = (node for node in graph.nodes if node.op == "output")
    (last,) = output.all_input_nodes
    assert isinstance(last, fx.Node)
    return last
