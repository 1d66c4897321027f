"""Weights to begin with: taken, given another head, or refused in one sentence."""

import pickle

import pytest
import timm
import torch
from torch import nn

from genets.core.errors import GenetsError
from genets.networks import build, save_weights
from genets.networks.weights import read_tensors
from genets.structure import zoo
from genets.training.run_inputs import head_of, start_from

MASTER = zoo["master_small"]


def net_of(classes, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build(MASTER, classes)


def same(one, other, but=()):
    return {
        name
        for name, value in one.state_dict().items()
        if not torch.equal(value, other.state_dict()[name])
    } == set(but)


@pytest.fixture
def source():
    return net_of(7, seed=1)


def wrap(kind, net):
    state = net.state_dict()
    return {
        "plain": state,
        "state_dict": {"epoch": 3, "state_dict": state},
        "model": {"model": {f"module.{name}": value for name, value in state.items()}},
        "ema": {"state_dict": {}, "state_dict_ema": state},
    }[kind]


@pytest.mark.parametrize("kind", ["safetensors", "plain", "state_dict", "model", "ema"])
def test_files_of_tensors(tmp_path, source, kind):
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pth")
    if kind == "safetensors":
        save_weights(source, path, {})
    else:
        torch.save(wrap(kind, source), path)
    net, notes = net_of(7), []
    start_from(net, path, 7, notes.append)
    assert same(net, source)
    assert notes == []


def test_another_number_of_classes(tmp_path, source):
    save_weights(source, tmp_path / "w.safetensors", {})
    net, fresh, notes = net_of(3), net_of(3), []
    start_from(net, tmp_path / "w.safetensors", 3, notes.append)
    assert torch.equal(net.head.fc.weight, fresh.head.fc.weight)
    assert torch.equal(net.stem.conv.weight, source.stem.conv.weight)
    assert len(notes) == 1
    assert "are of 7 classes: the head (head.fc) is made anew for 3" in notes[0]


def test_another_network_is_refused_with_the_first_keys(tmp_path):
    other = timm.create_model("test_resnet", num_classes=7)
    save_weights(other, tmp_path / "w.safetensors", {})
    net, before = net_of(7), net_of(7)
    with pytest.raises(GenetsError, match=r"not of this network: it lacks .* and \d+ more"):
        start_from(net, tmp_path / "w.safetensors", 7, [].append)
    assert same(net, before)


def test_a_head_of_another_network_is_not_called_one_of_other_classes(tmp_path):
    wider = net_of(7).state_dict()
    wider["head.fc.weight"] = torch.zeros(7, 2 * wider["head.fc.weight"].shape[1])
    torch.save(wider, tmp_path / "w.pth")
    notes = []
    with pytest.raises(GenetsError, match=r"of another network: head\.fc\.weight has shape"):
        start_from(net_of(7), tmp_path / "w.pth", 7, notes.append)
    assert notes == []


def test_another_width_is_refused(tmp_path):
    wide = build(MASTER.scale_width(2.0), 7)
    save_weights(wide, tmp_path / "w.safetensors", {})
    with pytest.raises(GenetsError, match=r"are of another network: .* has shape"):
        start_from(net_of(7), tmp_path / "w.safetensors", 7, [].append)


class Evil:
    ran = False

    def __reduce__(self):
        return (setattr, (Evil, "ran", True))


@pytest.mark.parametrize("kind", ["evil", "whole network", "raw pickle", "text", "empty", "list"])
def test_what_is_no_plain_tensors_is_refused(tmp_path, kind):
    path = tmp_path / "w.pth"
    if kind == "evil":
        torch.save({"weight": Evil()}, path)
    elif kind == "whole network":
        torch.save(nn.Linear(2, 2), path)
    elif kind == "raw pickle":
        path.write_bytes(pickle.dumps({"weight": Evil()}))
    elif kind == "list":
        torch.save({"weight": [1, 2]}, path)
    else:
        path.write_text("weights" if kind == "text" else "")
    with pytest.raises(GenetsError, match=r"are refused: no file of plain tensors") as error:
        read_tensors(path)
    assert "\n" not in str(error.value)
    assert not Evil.ran


def test_missing_and_truncated(tmp_path, source):
    with pytest.raises(GenetsError, match="no weights file"):
        read_tensors(tmp_path / "gone.pth")
    path = tmp_path / "w.safetensors"
    save_weights(source, path, {})
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(GenetsError, match="truncated or not a safetensors file"):
        read_tensors(path)


def test_heads():
    assert head_of(net_of(3)) == "head.fc"
    assert head_of(timm.create_model("test_resnet")) == "fc"
    assert head_of(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 5))) == "2"
    assert head_of(nn.Conv2d(1, 1, 1)) is None
