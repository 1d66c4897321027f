"""The results folder of a search: everything for a deployment, and never less than the weights."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rounds_lab import ClosedFormLaboratory, search, settings

import genets
from genets.data import ImageData, load_digits
from genets.latency import exported_script
from genets.nas.candidates.export import OnnxCheck, export_network
from genets.networks import build
from genets.structure import Structure

WINNER = Structure.parse("Conv3x8s2 XX3x16s2 DW3x16r3 Conv1x16 @8")


def export_winner(folder: Path) -> tuple[torch.nn.Module, ImageData, OnnxCheck]:
    data = load_digits(8, seed=3)
    torch.manual_seed(0)
    net = build(WINNER, 10).eval()
    folder.mkdir(exist_ok=True)
    return net, data, export_network(net, WINNER, data, folder)


def test_the_script_runs_the_exported_network(tmp_path: Path, monkeypatch: Any) -> None:
    pytest.importorskip("onnxruntime")
    net, data, check = export_winner(tmp_path)
    assert check.largest_difference is not None
    assert check.failure == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "contract.json", "network.onnx", "predict.py", "structure.toml", "weights.safetensors"
    ]  # fmt: skip
    contract = json.loads((tmp_path / "contract.json").read_text(encoding="utf-8"))
    assert contract["class_names"] == list("0123456789")
    assert contract["input"]["mean"] == list(data.mean)
    assert contract["input"]["resize"]["pixels"] == 8, "a drawing is not cut"
    monkeypatch.setattr(exported_script, "FOLDER", tmp_path)
    images = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for count in (1, 3):
        logits = exported_script.load_network(contract, count)(images[:count].numpy())
        with torch.inference_mode():
            np.testing.assert_allclose(logits, net(images[:count]), rtol=1e-3, atol=1e-5)


def test_the_weights_know_their_split(tmp_path: Path) -> None:
    from genets.networks import resolve_network

    _, data, _ = export_winner(tmp_path)
    facts = resolve_network(str(tmp_path)).facts
    assert facts.origin == data.origin
    assert facts.origin is not None
    assert facts.origin.seed == 3
    assert facts.preprocessing == data.preprocessing


def test_a_failed_onnx_export_keeps_the_weights(tmp_path: Path, monkeypatch: Any) -> None:
    export_winner(tmp_path)  # an earlier winner, whose files must not stay
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "onnxscript" else find(name)
    )
    net, _, check = export_winner(tmp_path)
    assert check.largest_difference is None
    assert "needs the package onnxscript" in check.failure
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "structure.toml", "weights.safetensors"
    ]  # fmt: skip
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert genets.load(tmp_path)(images).equal(net(images))


class WithoutOnnx(ClosedFormLaboratory):
    """Its networks cannot be exported to ONNX."""

    def export(self, *_: Any) -> OnnxCheck:
        return OnnxCheck(None, "operator aten::odd is not supported")


def test_a_search_ends_with_its_result_where_onnx_fails(tmp_path: Path) -> None:
    asked = settings(rounds=1)
    result = search(asked, tmp_path / "study", WithoutOnnx(asked))
    assert result.warnings[-1] == ("no ONNX file was written: operator aten::odd is not supported")
    assert set(result.files) == {"structure", "weights", "result"}
    record = json.loads(result.files["result"].read_text(encoding="utf-8"))
    assert record["onnx_largest_difference"] is None
    fed = record["input"]
    assert fed["shape"] == ["N", 3, 8, 8]
    assert {"resize", "crop", "exif_orientation", "colours", "bit_depth", "mean"} <= fed.keys()
