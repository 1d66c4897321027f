"""Exported files: their outputs and their contract."""

import errno
import json

import numpy as np
import pytest
import torch

from genets.core.errors import TargetError
from genets.latency import ENGINES, Target
from genets.latency.engines import openvino_engine
from genets.latency.export import Images, export_network
from genets.networks import build
from genets.structure import Structure

pytest.importorskip("onnxruntime")

SMALL = Structure.parse("Conv3x8s2 XX3x8 DW3x8r2 Conv1x16 @8")
IMAGES = Images((0.5, 0.5, 0.5), (0.2, 0.2, 0.2), ("cat", "dog"))
ONNX = Target(engine="onnxruntime", batch_size=2, threads=1)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return build(SMALL, 2)


def test_a_stranger_can_run_it_from_the_contract_alone(network, tmp_path) -> None:
    import onnxruntime

    folder = tmp_path / "new" / "deploy"
    returned = export_network(network, ONNX, 8, folder, IMAGES, facts={"network": "mine"})
    contract = json.loads((folder / "contract.json").read_text())
    assert contract == json.loads(json.dumps(returned))
    assert sorted(p.name for p in folder.iterdir()) == ["contract.json", "network.onnx"]
    assert contract["network"] == "mine"
    assert contract["class_names"] == ["cat", "dog"]
    assert contract["quantisation"] is None
    assert contract["largest_difference_when_loaded_again"] == 0

    assert contract["settings"]["session"] == {
        "inter_op_num_threads": 1, "intra_op_num_threads": ONNX.threads
    }  # fmt: skip

    fed = contract["input"]
    session = onnxruntime.InferenceSession(
        folder / contract["files"][0], providers=contract["settings"]["providers"]
    )
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3))
    mean, std = np.array(fed["mean"]), np.array(fed["std"])
    images = ((pixels / 255 - mean) / std).transpose(0, 3, 1, 2).astype(fed["dtype"])
    assert list(images.shape) == fed["shape"]
    (logits,) = session.run([contract["output"]["name"]], {fed["name"]: images})
    with torch.no_grad():
        expected = network.eval()(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-5)


def test_openvino_files(network, tmp_path) -> None:
    openvino = pytest.importorskip("openvino")
    target = Target(engine="openvino", batch_size=2, threads=1)
    contract = export_network(network, target, 8, tmp_path, Images())
    assert contract["files"] == ["network.xml", "network.bin"]
    assert contract["input"]["mean"] is None
    assert contract["settings"]["INFERENCE_PRECISION_HINT"] == "f32"
    (images,) = openvino.Core().read_model(tmp_path / "network.xml").inputs
    assert (images.any_name, list(images.shape)) == ("images", [2, 3, 8, 8])


def test_engines_without_files_leave_no_folder(network, tmp_path) -> None:
    with pytest.raises(TargetError, match="engine torch writes no files; onnxruntime and openvi"):
        export_network(network, Target(batch_size=1, threads=1), 8, tmp_path / "a", IMAGES)
    assert not list(tmp_path.iterdir())


def test_int8_needs_images(network, tmp_path) -> None:
    target = Target(engine="onnxruntime", precision="int8")
    with pytest.raises(TargetError, match="precision int8 needs calibration images"):
        export_network(network, target, 8, tmp_path, IMAGES)


def test_a_place_that_cannot_be_written(network, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TargetError, match=r"cannot write into '.*file'"):
        export_network(network, ONNX, 8, tmp_path / "file", IMAGES)


def test_a_full_disk_under_openvino_files(network, tmp_path, monkeypatch) -> None:
    pytest.importorskip("openvino")

    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(openvino_engine, "write_atomic", full)
    target = Target(engine="openvino", batch_size=2, threads=1)
    with pytest.raises(TargetError, match=r"cannot write into '.*ir': No space left on device"):
        export_network(network, target, 8, tmp_path / "ir", IMAGES)
    assert not list((tmp_path / "ir").iterdir())


def test_files_that_compute_something_else(network, tmp_path, monkeypatch) -> None:
    files = type(ENGINES["onnxruntime"]).prepare

    def damaged(self, *arguments):
        prepared = files(self, *arguments)
        monkeypatch.setattr(type(prepared.files), "load", lambda *_: lambda x: x[:, :2, 0, 0])
        return prepared

    monkeypatch.setattr(type(ENGINES["onnxruntime"]), "prepare", damaged)
    with pytest.raises(TargetError, match="give logits that differ by"):
        export_network(network, ONNX, 8, tmp_path, IMAGES)
    assert not (tmp_path / "contract.json").exists()
