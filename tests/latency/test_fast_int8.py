"""The int8 files without calibration against those of ONNX Runtime's calibrated quantisation."""

import numpy as np
import pytest
import torch
from torch import nn

from genets.core.errors import TargetError
from genets.latency import ENGINES, Target
from genets.latency.engines.base import normal_images
from genets.latency.engines.fast_onnx import plain_onnx, quantise_without_calibration
from genets.latency.engines.onnx_quantise import quantise
from genets.latency.predictor.probes import BlockProbe, build_for_timing
from genets.networks import fold_batchnorm
from genets.networks.onnx_export import INPUT, to_onnx
from genets.structure import Block, Structure

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")

WHOLE = Structure.parse("Conv3x16s2 XX3x16 BL3x32s2r0.5*2 DW3x32s2r3 Conv1x64 @16")
SWISH = nn.Sequential(
    nn.Conv2d(3, 8, 3), nn.SiLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 49, 8), nn.Sigmoid()
)
CASES = {
    "whole": (build_for_timing(WHOLE, 5), (2, 3, 16, 16)),
    "piece": (BlockProbe(2, Block("DW", 5, 6), 16, 16, 1, 8, 3).network(), (2, 16, 8, 8)),
    "not plain": (SWISH.eval(), (2, 3, 16, 16)),
}


def written(name: str) -> tuple[bytes, tuple[int, ...]]:
    network, shape = CASES[name]
    folded = fold_batchnorm(network).float()
    plain = plain_onnx(folded, shape)
    assert (plain is None) == (name == "not plain")
    return plain or to_onnx(folded, torch.zeros(shape)), shape


def layers(content: bytes) -> list[tuple]:
    """Each operator with its outputs, attributes, and the type and shape of its constants."""
    model = onnx.load_from_string(content)
    constants = {c.name: (c.data_type, tuple(c.dims)) for c in model.graph.initializer}
    return [
        (
            node.op_type,
            tuple(node.output),
            tuple(constants.get(name, name) for name in node.input),
            tuple(sorted(str(attribute) for attribute in node.attribute)),
        )
        for node in model.graph.node
    ]


def zero_points(content: bytes) -> dict[str, bool]:
    """Whether each uint8 zero point is zero, because kernels may then do less work."""
    model = onnx.load_from_string(content)
    return {
        constant.name: not onnx.numpy_helper.to_array(constant).any()
        for constant in model.graph.initializer
        if constant.name.endswith("zero_point") and constant.data_type == onnx.TensorProto.UINT8
    }


@pytest.mark.parametrize("provider", ["cpu", "tensorrt"])
@pytest.mark.parametrize("name", CASES)
def test_the_same_graph_as_with_calibration(name, provider) -> None:
    model, shape = written(name)
    calibrated, how = quantise(model, [normal_images(shape)], provider)
    quick, quick_how = quantise_without_calibration(model, provider)
    assert layers(quick) == layers(calibrated)
    assert {key: quick_how[key] for key in ("weights", "activations")} == {
        key: how[key] for key in ("weights", "activations")
    }
    assert quick_how["ranges_from"] == "nothing"
    onnx.checker.check_model(onnx.load_from_string(quick), full_check=True)


def test_zero_points_are_zero_after_relu_alone() -> None:
    model, shape = written("piece")
    calibrated, quick = (
        quantise(model, [normal_images(shape)], "cpu"),
        quantise_without_calibration(model, "cpu"),
    )
    result = zero_points(quick[0])
    assert result == zero_points(calibrated[0])
    assert set(result.values()) == {True, False}


@pytest.mark.parametrize("name", CASES)
def test_it_runs_and_computes_something(name) -> None:
    model, shape = written(name)
    content, _ = quantise_without_calibration(model, "cpu")
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {INPUT: normal_images(shape).numpy()})
    assert np.isfinite(result).all()
    assert result.any()


def test_a_record_says_that_the_ranges_mean_nothing() -> None:
    target = Target(engine="onnxruntime", precision="int8", batch_size=2, threads=1)
    with ENGINES["onnxruntime"].open(target):
        prepared = ENGINES["onnxruntime"].prepare(CASES["whole"][0], target, 16, latency_only=True)
    assert prepared.quantisation is not None
    assert (prepared.quantisation["ranges_from"], prepared.quantisation["images"]) == ("nothing", 0)


@pytest.mark.parametrize("provider", ["cpu", "tensorrt"])
def test_a_file_that_cannot_be_quantised(provider, monkeypatch) -> None:
    from onnxruntime.quantization import QDQQuantizer

    def fail(self: object) -> None:
        raise KeyError("operator Odd")

    monkeypatch.setattr(QDQQuantizer, "quantize_model", fail)
    model, shape = written("piece")
    for make in (
        lambda: quantise_without_calibration(model, provider),
        lambda: quantise(model, [normal_images(shape)], provider),
    ):
        with pytest.raises(TargetError, match=r"ONNX Runtime cannot quantise .*operator Odd"):
            make()
