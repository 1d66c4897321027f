"""Weights files: lossless, never written partly, and refused in one sentence."""

import pytest
import torch
from torch import nn

from genets.core.errors import GenetsError
from genets.networks import build, load, load_weights, save_weights
from genets.structure import zoo

MASTER = zoo["master_small"]


@pytest.fixture
def net(randomise) -> nn.Module:
    return randomise(build(MASTER, 10))


def refused(net: nn.Module, path) -> str:
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with pytest.raises(GenetsError) as error:
        load_weights(net, path)
    assert all(v.equal(before[k]) for k, v in net.state_dict().items())
    assert "\n" not in str(error.value)
    return str(error.value)


def test_round_trip(net, tmp_path) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(net.to(memory_format=torch.channels_last), path, {"notation": str(MASTER)})
    other = build(MASTER, 10)
    assert load_weights(other, path) == {"notation": str(MASTER)}
    own = other.state_dict()
    assert all(v.equal(own[k]) for k, v in net.state_dict().items())
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


def test_a_failed_write_keeps_the_old_file(net, tmp_path, monkeypatch) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(net, path, {"version": "1"})
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(GenetsError, match=r"cannot write weights .*: No space left on device"):
        save_weights(net, path, {"version": "2"})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


def test_missing(net, tmp_path) -> None:
    assert refused(net, tmp_path / "no.safetensors").startswith("no weights file ")


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_truncated(net, tmp_path, kept: int) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(net, path, {})
    path.write_bytes(path.read_bytes()[:kept])
    assert "truncated or not a safetensors file" in refused(net, path)


def test_not_safetensors(net, tmp_path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_text("hello, I am no safetensors file at all")
    assert "truncated or not a safetensors file" in refused(net, path)


def test_foreign(net, tmp_path) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(nn.Linear(2, 2), path, {})
    message = refused(net, path)
    assert "are not of this network: it lacks final_conv.bn.bias, final_conv.bn.num" in message
    assert " more and it has unknown bias, weight" in message


def test_other_shapes(net, tmp_path) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(build(MASTER, 4), path, {})
    assert refused(net, path).endswith(
        "are of another network: head.fc.bias has shape (4,), this network needs (10,)"
    )


def test_load_a_results_folder(net, tmp_path) -> None:
    MASTER.save(tmp_path / "structure.toml")
    save_weights(net, tmp_path / "weights.safetensors", {"num_classes": "10"})
    loaded = load(tmp_path)
    assert not loaded.training
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert loaded(images).equal(net(images))


def test_load_one_channel(tmp_path) -> None:
    MASTER.save(tmp_path / "structure.toml")
    metadata = {"num_classes": "10", "in_channels": "1"}
    save_weights(build(MASTER, 10, 1), tmp_path / "weights.safetensors", metadata)
    assert load(tmp_path).stem.conv.in_channels == 1


@pytest.mark.parametrize("metadata", [{}, {"num_classes": "ten"}, {"num_classes": "-1"},
                                      {"num_classes": "9" * 5000}])  # fmt: skip
def test_load_needs_a_class_count(net, tmp_path, metadata: dict[str, str]) -> None:
    MASTER.save(tmp_path / "structure.toml")
    save_weights(net, tmp_path / "weights.safetensors", metadata)
    with pytest.raises(GenetsError, match="must state num_classes as a number, not '"):
        load(tmp_path)


def test_load_without_a_folder(tmp_path) -> None:
    with pytest.raises(GenetsError, match="there is no results folder"):
        load(tmp_path / "absent")
    MASTER.save(tmp_path / "structure.toml")
    with pytest.raises(GenetsError, match="no weights file"):
        load(tmp_path)
