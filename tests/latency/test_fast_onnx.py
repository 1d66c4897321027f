"""The fast ONNX files against torch's exporter and against torch."""

import re

import numpy as np
import pytest
import torch
from torch import nn

from genets.latency.engines.fast_onnx import plain_onnx
from genets.latency.predictor.probes import BlockProbe, StemOrHeadProbe, build_for_timing
from genets.networks import fold_batchnorm
from genets.networks.onnx_export import INPUT, to_onnx
from genets.structure import Block, Structure

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")

MASTER = Structure.parse("Conv3x16s2 XX3x16 BL3x32s2r0.5*2 DW3x32s2r3 Conv1x64 @16")
PIECES = [
    BlockProbe(0, Block("XX", 5), 16, 24, 1, 8, 3),
    BlockProbe(1, Block("BL", 3, 0.25), 24, 16, 2, 7, 1),
    BlockProbe(2, Block("DW", 5, 6), 16, 16, 1, 8, 1),
]


def run(content: bytes, images: torch.Tensor) -> np.ndarray:
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {INPUT: images.numpy()})
    return result


def compare(net: nn.Module, shape: tuple[int, ...]) -> None:
    folded = fold_batchnorm(net).float()
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    content = plain_onnx(folded, shape)
    assert content is not None
    onnx.checker.check_model(onnx.load_from_string(content), full_check=True)
    with torch.no_grad():
        expected = folded(images)
    result = run(content, images)
    assert result == pytest.approx(expected.numpy(), rel=1e-4, abs=1e-5)
    assert result == pytest.approx(run(to_onnx(folded, images), images), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("piece", PIECES, ids=lambda p: f"{p.block}s{p.stride}*{p.depth}")
def test_pieces(piece: BlockProbe) -> None:
    compare(piece.network(), (3, piece.input_width, piece.resolution, piece.resolution))


def test_whole_networks_and_their_ends() -> None:
    compare(build_for_timing(MASTER, 5), (2, 3, 16, 16))
    compare(StemOrHeadProbe("stem", 3, 24, 16).network(5), (2, 3, 16, 16))
    compare(StemOrHeadProbe("head", 24, 40, 2).network(5), (2, 24, 2, 2))


@torch.no_grad()
def test_the_operators_are_those_of_torchs_exporter() -> None:
    """Otherwise the probes of a table would not add up to the latencies of `genets measure`."""
    net = build_for_timing(MASTER, 5).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d | nn.Linear):
            module.bias.fill_(0.1)  # torch leaves biases out that are all zero
    folded, images = fold_batchnorm(net), torch.zeros(2, 3, 16, 16)
    content = plain_onnx(folded, tuple(images.shape))
    assert content is not None
    assert operators(content) == operators(to_onnx(folded, images))


def operators(content: bytes) -> list[tuple]:
    """Each operator with its attributes that are not defaults and the shapes of its constants."""
    graph = onnx.load_from_string(content).graph
    constants = {constant.name: tuple(constant.dims) for constant in graph.initializer}
    ours = ("kernel_shape", "strides", "pads", "dilations", "group", "transB", "keepdims")
    return [
        (
            node.op_type,
            [constants.get(name) for name in node.input],
            sorted(str(attribute) for attribute in node.attribute if attribute.name in ours),
        )
        for node in graph.node
    ]


def test_a_value_added_to_itself_and_a_padded_average() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.pool = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.AvgPool2d(3, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.pool(self.layer(x))
            return x + x

    compare(Twice(), (2, 3, 7, 7))


def test_half_precision_weights() -> None:
    content = plain_onnx(nn.Sequential(nn.Conv2d(3, 4, 1).half()), (2, 3, 4, 4))
    assert content is not None
    (images,) = onnx.load_from_string(content).graph.input
    assert images.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16


class Branching(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize(
    "layer",
    [
        nn.SiLU(),
        nn.Conv2d(4, 4, 3, padding="same"),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"),
        nn.AvgPool2d(2, divisor_override=3),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(2),
        Branching(),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_anything_else_is_left_to_torch(layer: nn.Module) -> None:
    assert plain_onnx(nn.Sequential(nn.Conv2d(3, 4, 1), layer).eval(), (2, 3, 8, 8)) is None


def test_a_sum_with_a_number_is_left_to_torch() -> None:
    class Plus(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1

    assert plain_onnx(nn.Sequential(Plus(3, 4, 1)).eval(), (2, 3, 8, 8)) is None


def test_the_graph_names_its_ends() -> None:
    content = plain_onnx(nn.Sequential(nn.Conv2d(3, 4, 1)), (2, 3, 8, 8))
    assert content is not None
    graph = onnx.load_from_string(content).graph
    assert [value.name for value in (*graph.input, *graph.output)] == ["images", "logits"]
    assert re.fullmatch(r"Conv", graph.node[0].op_type)
