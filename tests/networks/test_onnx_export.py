"""ONNX files: ONNX Runtime computes the same outputs as torch."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import genets
from genets.core.errors import GenetsError
from genets.networks import build, export_onnx
from genets.structure import zoo

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture
def net(randomise) -> nn.Module:
    return randomise(build(zoo["master_small"], 10))


def test_equal_outputs_at_any_batch_size_and_no_printing(net, tmp_path, capfd) -> None:
    path = tmp_path / "net.onnx"
    net.train()
    difference = export_onnx(net, path, 32)
    assert capfd.readouterr() == ("", "")
    assert net.training
    assert [p.name for p in tmp_path.iterdir()] == ["net.onnx"]
    session = onnxruntime.InferenceSession(path)
    net.eval()
    for batch_size in (1, 5):
        images = torch.randn(batch_size, 3, 32, 32, generator=torch.Generator().manual_seed(3))
        (logits,) = session.run(["logits"], {"images": images.numpy()})
        expected = net(images).detach().numpy()
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5 * abs(expected).max())
    assert 0 <= difference < 1e-4 * abs(expected).max()
    operators = {node.op_type for node in onnx.load(path).graph.node}
    assert "BatchNormalization" not in operators
    assert "Conv" in operators


def test_the_file_says_nothing_about_this_machine(net, tmp_path) -> None:
    export_onnx(net, tmp_path / "net.onnx", 32)
    model = onnx.load(tmp_path / "net.onnx")
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    content = (tmp_path / "net.onnx").read_bytes()
    for place in (str(Path(torch.__file__).parents[1]), str(Path(genets.__file__).parent), ".py"):
        assert place.encode() not in content


def test_fixed_batch_size(net, tmp_path) -> None:
    path = tmp_path / "net.onnx"
    export_onnx(net, path, 32, batch_size=1)
    (images,) = onnxruntime.InferenceSession(path).get_inputs()
    assert images.shape == [1, 3, 32, 32]


def test_missing_extra(net, tmp_path, monkeypatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else find(name)
    )
    with pytest.raises(GenetsError) as error:
        export_onnx(net, tmp_path / "net.onnx", 32)
    assert str(error.value) == (
        "ONNX export needs the package onnxruntime; in the clone of genets: pip install ."
    )


class Awkward(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * float(np.asarray(x.sum().item()).item())


def test_a_network_that_torch_cannot_export(tmp_path) -> None:
    # torch 2.6 exports it, as another network.
    refused = "torch cannot export this network to ONNX: |differs from torch"
    with pytest.raises(GenetsError, match=refused) as error:
        export_onnx(Awkward(), tmp_path / "net.onnx", 8)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_missing_folder(net, tmp_path) -> None:
    with pytest.raises(GenetsError, match=r"cannot write ONNX file .*: its folder does not exist"):
        export_onnx(net, tmp_path / "absent" / "net.onnx", 32)
