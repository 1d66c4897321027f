"""Starting weights: loaded, given a new classifier, or refused in one sentence."""

import pickle
import zipfile
from types import SimpleNamespace

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from genets.core.errors import GenetsError
from genets.networks import build, resolve_network, save_weights
from genets.networks.source import classifier_names
from genets.networks.weights import load_tensors, read_tensors, tensors_for
from genets.structure import zoo
from genets.training.linear_start import linear_classifier
from genets.training.run.inputs import starting_notes

MASTER = zoo["master_small"]


def net_of(classes, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build(MASTER, classes)


def start_from(path, classes, names=()):
    """A network with starting weights, and the messages about them."""
    source = resolve_network(
        "master_small", classes, weights=path, fit="new classifier", class_names=names, seed=0
    )
    data = SimpleNamespace(
        name="photos", num_classes=classes, class_names=names, mean=(0.5,) * 3, std=(0.5,) * 3
    )
    return source.network, [*starting_notes(source, data)]


def same(one, other, but=()):
    return {
        name
        for name, value in one.state_dict().items()
        if not torch.equal(value, other.state_dict()[name])
    } == set(but)


def is_drawn_by_pytorch(layer):
    """Uniform weights within 1 / sqrt(inputs); tests use enough of them to come near it."""
    bound = layer.in_features**-0.5
    return 0.9 * bound < layer.weight.abs().max().item() <= bound


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
    net, notes = start_from(path, 7)
    assert same(net, source)
    assert notes == []


def renamed(prefix):
    return lambda state: {f"{prefix}{name}": tensor for name, tensor in state.items()}


def without_counters(state):
    return {name: tensor for name, tensor in state.items() if "num_batches_tracked" not in name}


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(renamed("module."), id="parallel training"),
        pytest.param(renamed("_orig_mod."), id="torch.compile"),
        pytest.param(renamed("module._orig_mod."), id="both"),
        pytest.param(renamed("_orig_mod.module."), id="both, the other way round"),
        pytest.param(renamed("model."), id="Lightning"),
        pytest.param(
            lambda state: renamed("module.")(state) | {"n_averaged": torch.tensor(9)},
            id="AveragedModel",
        ),
        pytest.param(without_counters, id="no counters of batch norms"),
        pytest.param(
            lambda state: {n: t.half() if t.is_floating_point() else t for n, t in state.items()},
            id="half precision",
        ),
    ],
)
def test_both_formats_take_the_same_tensors(tmp_path, source, change, suffix):
    source.half().float()  # values that float16 holds exactly
    path, tensors = tmp_path / f"w{suffix}", change(source.state_dict())
    save_file(tensors, path) if suffix == ".safetensors" else torch.save(tensors, path)
    net, notes = start_from(path, 7)
    assert same(net, source)
    assert notes == []


def test_a_prefix_of_the_networks_own_names_stays(tmp_path, source):
    wrapped = nn.Sequential()
    wrapped.add_module("model", source)
    save_file(renamed("module.")(wrapped.state_dict()), tmp_path / "w.safetensors")
    tensors = tensors_for(wrapped, tmp_path / "w.safetensors")
    assert tensors.keys() == wrapped.state_dict().keys()


def test_names_of_a_network_that_look_like_those_of_a_checkpoint(tmp_path):
    """timm's VOLO calls its stages `network`."""
    net = nn.Sequential()
    net.add_module("network", nn.Linear(2, 2))
    net.add_module("head", nn.Linear(2, 2))
    state, path = net.state_dict(), tmp_path / "w.safetensors"
    checkpoint = renamed("network.")(state) | {"optimizer.0.step": torch.ones(1)}
    for tensors in (state, checkpoint):
        save_file(tensors, path)
        assert same(net, SimpleNamespace(state_dict=lambda: read_tensors(path)))
    load_tensors(net, tensors_for(net, path), path)


def test_another_number_of_classes(tmp_path, source):
    save_weights(source, tmp_path / "w.safetensors", {})
    fresh = net_of(3)
    net, notes = start_from(tmp_path / "w.safetensors", 3)
    assert torch.equal(net.head.fc.weight, fresh.head.fc.weight)
    assert torch.equal(net.stem.conv.weight, source.stem.conv.weight)
    assert len(notes) == 1
    assert "are for 7 classes: the classifier (head.fc) is new, for 3 classes" in notes[0]


def test_a_new_classifier_of_timm_starts_small(tmp_path):
    name = "test_efficientnet"
    trained = timm.create_model(name, num_classes=7)
    save_weights(trained, tmp_path / "w.safetensors", {})
    assert not is_drawn_by_pytorch(timm.create_model(name, num_classes=5).classifier)
    source = resolve_network(
        f"timm:{name}", 5, weights=tmp_path / "w.safetensors", fit="new classifier"
    )
    assert is_drawn_by_pytorch(source.network.classifier)


@pytest.mark.parametrize(
    ("names", "pair"),
    [("abc", ""), ("", ""), ("abd", "'c' instead of 'd'"), ("acb", "'b' instead of 'c'")],
)
def test_as_many_other_classes(tmp_path, names, pair):
    """Classes in another order are other classes, and unknown names are the same ones."""
    trained, path = net_of(3, seed=1), tmp_path / "w.safetensors"
    save_weights(trained, path, {"class_names": '["a", "b", "c"]'})
    net, notes = start_from(path, 3, tuple(names))
    expected = net_of(3) if pair else trained
    assert torch.equal(net.head.fc.weight, expected.head.fc.weight)
    assert torch.equal(net.stem.conv.weight, trained.stem.conv.weight)
    sentence = f"are for other classes, such as {pair}: the classifier (head.fc) is new"
    assert notes == ([f"weights {str(path)!r} {sentence}"] if pair else [])


def test_another_network_is_refused_with_the_first_keys(tmp_path):
    other = timm.create_model("test_resnet", num_classes=7)
    save_weights(other, tmp_path / "w.safetensors", {})
    path, sentence = tmp_path / "w.safetensors", r"not of this network: it lacks .* and \d+ more"
    with pytest.raises(GenetsError, match=sentence):
        start_from(path, 7)
    net, before = net_of(7), net_of(7)
    with pytest.raises(GenetsError, match=sentence):
        load_tensors(net, tensors_for(net, path), path)
    assert same(net, before)


def test_a_classifier_of_another_width_is_not_mistaken_for_other_classes(tmp_path):
    wider = net_of(7).state_dict()
    wider["head.fc.weight"] = torch.zeros(7, 2 * wider["head.fc.weight"].shape[1])
    torch.save(wider, tmp_path / "w.pth")
    with pytest.raises(GenetsError, match=r"of another network: head\.fc\.weight has shape"):
        start_from(tmp_path / "w.pth", 7)


def test_another_width_is_refused(tmp_path):
    wide = build(MASTER.scale_width(2.0), 7)
    save_weights(wide, tmp_path / "w.safetensors", {})
    with pytest.raises(GenetsError, match=r"are of another network: .* has shape"):
        start_from(tmp_path / "w.safetensors", 7)


class Evil:
    ran = False

    def __reduce__(self):
        return (setattr, (Evil, "ran", True))


KINDS = ["evil", "whole network", "raw pickle", "text", "empty", "list", "damaged pickle"]


@pytest.mark.parametrize("kind", KINDS)
def test_files_with_other_things_than_tensors_are_refused(tmp_path, kind):
    path = tmp_path / "w.pth"
    if kind == "evil":
        torch.save({"weight": Evil()}, path)
    elif kind == "whole network":
        torch.save(nn.Linear(2, 2), path)
    elif kind == "raw pickle":
        path.write_bytes(pickle.dumps({"weight": Evil()}))
    elif kind == "list":
        torch.save({"weight": [1, 2]}, path)
    elif kind == "damaged pickle":  # its first instruction pops from an empty stack
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in (("data.pkl", b"\x80\x02(."), ("version", b"3")):
                archive.writestr(f"w/{name}", content)
    else:
        path.write_text("weights" if kind == "text" else "")
    with pytest.raises(GenetsError, match=r"expected a file that contains only tensors") as error:
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


def test_names_of_classifiers():
    assert classifier_names(net_of(3)) == ("head.fc",)
    assert classifier_names(timm.create_model("test_resnet")) == ("fc",)
    assert classifier_names(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 5))) == ("2",)
    assert classifier_names(nn.Conv2d(1, 1, 1)) == ()


def test_two_classifiers_are_both_new(tmp_path):
    """A distilled network has two, and timm's name of the classifier is then a pair."""
    name, heads = "repvit_m0_9", ("head.head.l", "head.head_dist.l")
    trained, path = timm.create_model(name, num_classes=7), tmp_path / "w.safetensors"
    save_weights(trained, path, {})
    source = resolve_network(f"timm:{name}", 3, weights=path, fit="new classifier")
    assert classifier_names(source.network) == heads
    assert source.num_classes == 7
    new = {f"{head}.{part}" for head in heads for part in ("weight", "bias")}
    kept = {k: v for k, v in trained.state_dict().items() if k not in new}
    assert all(torch.equal(source.network.state_dict()[k], v) for k, v in kept.items())
    assert linear_classifier(source.network) is None
