"""Exported files: their outputs and their contract."""

import errno
import json

import numpy as np
import pytest
import torch
from torch import nn

from genets.core.errors import TargetError
from genets.core.image_facts import Preprocessing
from genets.core.output_folder import MARKER
from genets.latency import ENGINES, Target
from genets.latency.engines import openvino_engine
from genets.latency.export import TrainingImages, export_network
from genets.networks import build
from genets.structure import Structure

pytest.importorskip("onnxruntime")

SMALL = Structure.parse("Conv3x8s2 XX3x8 DW3x8r2 Conv1x16 @8")
PREPROCESSING = Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2), crop_pct=0.8)
IMAGES = TrainingImages(PREPROCESSING, ("cat", "dog"))
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
    assert sorted(p.name for p in folder.iterdir()) == [
        MARKER, "contract.json", "network.onnx", "predict.py"
    ]  # fmt: skip
    assert contract["network"] == "mine"
    assert contract["class_names"] == ["cat", "dog"]
    assert contract["quantisation"] is None
    assert contract["largest_difference_when_loaded_again"] == 0

    assert contract["settings"]["session"] == {
        "inter_op_num_threads": 1, "intra_op_num_threads": ONNX.threads
    }  # fmt: skip

    fed = contract["input"]
    assert (fed["shape"], contract["batch_dimension"]) == (["N", 3, 8, 8], "free")
    assert (fed["resize"]["pixels"], fed["resize"]["interpolation"]) == (10, "bicubic")
    session = onnxruntime.InferenceSession(
        folder / contract["files"][0], providers=contract["settings"]["providers"]
    )
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3))
    mean, std = np.array(fed["mean"]), np.array(fed["std"])
    images = ((pixels / 255 - mean) / std).transpose(0, 3, 1, 2).astype(fed["dtype"])
    assert list(images.shape[1:]) == fed["shape"][1:]
    with torch.no_grad():
        expected = network.eval()(torch.from_numpy(images)).numpy()
    for count in (1, 2):  # a single photograph, too
        (logits,) = session.run([contract["output"]["name"]], {fed["name"]: images[:count]})
        np.testing.assert_allclose(logits, expected[:count], rtol=1e-3, atol=1e-5)


def test_the_files_that_are_measured(network, tmp_path) -> None:
    import onnxruntime

    contract = export_network(network, ONNX, 8, tmp_path, IMAGES, batch_dimension="both")
    assert contract["files"] == ["network.onnx"]
    assert contract["measured"]["files"] == ["network-batch2.onnx"]
    assert contract["measured"]["batch_size"] == 2
    shapes = {
        name: onnxruntime.InferenceSession(tmp_path / name).get_inputs()[0].shape
        for name in ("network.onnx", "network-batch2.onnx")
    }
    assert shapes["network-batch2.onnx"] == [2, 3, 8, 8]
    assert isinstance(shapes["network.onnx"][0], str), "the name of a free dimension"
    only = export_network(network, ONNX, 8, tmp_path / "only", IMAGES, batch_dimension="fixed")
    assert (only["files"], only["input"]["shape"]) == (["network.onnx"], [2, 3, 8, 8])
    measured = (tmp_path / "network-batch2.onnx").read_bytes()
    assert (tmp_path / "only" / "network.onnx").read_bytes() == measured


class FixedNumber(nn.Module):
    """Works for two images only."""

    def forward(self, images):
        return images.mean((2, 3)) + torch.zeros(2, 3)


def test_a_network_for_one_number_of_images(tmp_path) -> None:
    sentence = "any number of images .*--batch-dimension fixed|cannot run this network"
    with pytest.raises(TargetError, match=sentence):
        export_network(FixedNumber(), ONNX, 8, tmp_path, IMAGES)
    contract = export_network(FixedNumber(), ONNX, 8, tmp_path, IMAGES, batch_dimension="fixed")
    assert contract["batch_dimension"] == "fixed"


class Unlike(nn.Module):
    """Gives other logits where a converter runs it."""

    def forward(self, images):
        return images.mean((2, 3)) * (2 if torch.compiler.is_compiling() else 1)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("batch_dimension", ["free", "fixed"])
def test_a_conversion_that_changes_the_network(tmp_path, engine, batch_dimension) -> None:
    pytest.importorskip(engine)
    target = Target(engine=engine, batch_size=2, threads=1)
    with pytest.raises(TargetError, match=f"that {engine} made gives logits that differ by"):
        export_network(Unlike(), target, 8, tmp_path / "a", IMAGES, batch_dimension=batch_dimension)
    assert not list(tmp_path.iterdir())


def test_openvino_files(network, tmp_path) -> None:
    pytest.importorskip("openvino")
    target = Target(engine="openvino", batch_size=2, threads=1)
    contract = export_network(
        network, target, 8, tmp_path, TrainingImages(), batch_dimension="both"
    )
    assert contract["files"] == ["network.xml", "network.bin"]
    assert (contract["input"]["mean"], contract["input"]["resize"]) == (None, None)
    assert contract["settings"]["INFERENCE_PRECISION_HINT"] == "f32"
    core = openvino_engine._core()
    (images,) = core.read_model(tmp_path / "network-batch2.xml").inputs
    assert (images.any_name, list(images.shape)) == ("images", [2, 3, 8, 8])
    (images,) = core.read_model(tmp_path / "network.xml").inputs
    assert images.partial_shape[0].is_dynamic
    # By default OpenVINO runs bf16 where the CPU has it.
    run = core.compile_model(core.read_model(tmp_path / "network.xml"), "CPU", contract["settings"])
    for count in (1, 3):
        assert run(np.zeros((count, 3, 8, 8), np.float32))[0].shape == (count, 2)


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
    assert [path.name for path in (tmp_path / "ir").iterdir()] == [MARKER]


def test_files_that_compute_something_else(network, tmp_path, monkeypatch) -> None:
    files = type(ENGINES["onnxruntime"]).prepare

    def damaged(self, *arguments, **options):
        prepared = files(self, *arguments, **options)
        monkeypatch.setattr(type(prepared.files), "load", lambda *_: lambda x: x[:, :2, 0, 0])
        return prepared

    monkeypatch.setattr(type(ENGINES["onnxruntime"]), "prepare", damaged)
    with pytest.raises(TargetError, match="give logits that differ by"):
        export_network(network, ONNX, 8, tmp_path, IMAGES)
    assert not (tmp_path / "contract.json").exists()
