"""A teacher gets its own normalisation and resolution, whatever its student gets."""

import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from genets.core.errors import GenetsError
from genets.data import load_digits
from genets.networks import build, save_weights
from genets.structure import Structure
from genets.training import Listener, RunRecipe, RunSettings
from genets.training.teacher import TeacherNetwork, load_teacher
from genets.training.train_network import train_network

NETWORK = "Conv3x8s2 XX3x16s2 XX3x16 Conv1x32 @16"


class Echo(nn.Module):
    def forward(self, images):
        return images


def test_the_same_normalisation_and_size_pass_untouched():
    data = load_digits(16)
    images = next(iter(data.validation.batches(4)))[0]
    teacher = TeacherNetwork(Echo(), 16, data.mean, data.std, data)
    assert torch.equal(teacher(images), images)


def test_other_normalisation_and_size():
    data = load_digits(16)
    images = next(iter(data.validation.batches(4)))[0].double()
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    teacher = TeacherNetwork(Echo(), 24, mean, std, data).double()
    pixels = images * data.std[0] + data.mean[0]
    expected = (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    expected = F.interpolate(expected, (24, 24), mode="bicubic", antialias=True)
    assert torch.allclose(teacher(images), expected, atol=1e-5)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("teacher")
    settings = RunSettings(
        network=NETWORK, data="digits", resolution=24, recipe=RunRecipe(epochs=1, batch_size=128)
    )
    return train_network(settings, out, device="cpu").results


def test_a_teacher_runs_at_its_own_resolution(trained, tmp_path):
    teacher = load_teacher(str(trained), load_digits(16))
    assert (teacher.resolution, teacher.training) == (24, False)
    recipe = RunRecipe(epochs=1, batch_size=256, soft_label_weight=0.5)
    losses = []
    for folder in ("", str(trained)):
        settings = RunSettings(network=NETWORK, data="digits", recipe=recipe, teacher=folder)
        listener = Listener(epoch=lambda record, epochs: losses.append(record.loss))
        train_network(settings, tmp_path / f"run{bool(folder)}", device="cpu", listener=listener)
    assert losses[0] != losses[1]


def test_a_named_teacher_with_a_weights_file(trained, tmp_path):
    net = load_teacher(str(trained), load_digits(16)).net
    plain = tmp_path / "teacher.pth"
    torch.save(net.state_dict(), plain)
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    own = load_teacher(str(trained), load_digits(16))
    for file in (plain, trained / "weights.safetensors"):
        teacher = load_teacher(NETWORK.replace("@16", "@24"), load_digits(16), str(file))
        # A plain file knows no mean: that of the digits at 16 pixels is almost that at 24.
        assert torch.allclose(teacher(images), own(images), atol=1e-4)
        assert not teacher.training
    own_file = str(trained / "weights.safetensors")
    assert load_teacher(NETWORK, load_digits(16), own_file).resolution == 24
    recipe = RunRecipe(epochs=1, batch_size=256)
    settings = RunSettings(network=NETWORK, data="digits", recipe=recipe, teacher=NETWORK,
                           teacher_weights=str(plain))  # fmt: skip
    result = train_network(settings, tmp_path / "run", device="cpu")
    stored = json.loads((result.results / "result.json").read_text())["settings"]
    assert (stored["teacher"], stored["teacher_weights"]) == (NETWORK, str(plain))


def test_unsuitable_weights_of_a_teacher_are_refused(trained, tmp_path):
    torch.save(build(Structure.parse(NETWORK), 3).state_dict(), tmp_path / "three.pth")
    with pytest.raises(GenetsError, match=r"three\.pth' are for 3 classes, not for 10"):
        load_teacher(NETWORK, load_digits(16), str(tmp_path / "three.pth"))
    recipe = RunRecipe(epochs=1)
    for teacher in ("", str(trained)):
        with pytest.raises(
            GenetsError, match="teacher_weights need the name of a network as teacher"
        ):
            RunSettings(network=NETWORK, data="digits", recipe=recipe, teacher=teacher,
                        teacher_weights="three.pth")  # fmt: skip


def test_other_classes_are_refused(tmp_path):
    structure = Structure.parse(NETWORK)
    structure.save(tmp_path / "structure.toml")
    names = {"num_classes": "3", "class_names": json.dumps(["a", "b", "c"])}
    save_weights(build(structure, 3), tmp_path / "weights.safetensors", names)
    with pytest.raises(GenetsError, match=r"has 3 classes and digits has 10"):
        load_teacher(str(tmp_path), load_digits(16))
