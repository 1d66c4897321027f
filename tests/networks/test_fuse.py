"""Folding keeps the outputs, removes batch norms, and does not change the caller's network."""

import copy

import pytest
import timm
import torch
import torchvision
from torch import nn

from genets.networks import build, fold_batchnorm
from genets.structure import Structure, SuperBlock, zoo

STEM = SuperBlock("Conv", 1, 8, 2)
HEAD = SuperBlock("Conv", 1, 24, 1, 1)
BLOCKS = {
    "XX": SuperBlock("XX", 2, 16, 2, 5),
    "BL": SuperBlock("BL", 2, 16, 2, 3, 0.5),
    "DW": SuperBlock("DW", 2, 16, 2, 5, 3),
}


def images(size: int, channels: int = 3) -> torch.Tensor:
    return torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(1))


def relative_change(net: nn.Module, folded: nn.Module, size: int) -> float:
    with torch.inference_mode():
        expected = copy.deepcopy(net).eval()(images(size))
        received = folded(images(size))
    assert expected.std() > 1e-3
    return float((received - expected).abs().max() / expected.abs().max())


def norms(net: nn.Module) -> int:
    return sum(isinstance(m, nn.BatchNorm2d) for m in net.modules())


@pytest.mark.parametrize("name", ["genet_light", "genet_normal", "genet_large", "master_small"])
def test_zoo(name: str, randomise) -> None:
    net = randomise(build(zoo[name], 10))
    folded = fold_batchnorm(net)
    assert type(folded) is type(net)
    assert norms(folded) == 0
    assert relative_change(net, folded, 64) < 1e-5


@pytest.mark.parametrize("type_name", sorted(BLOCKS))
def test_block_types(type_name: str, randomise) -> None:
    block = BLOCKS[type_name]
    net = randomise(build(Structure((STEM, block, block, HEAD), 32), 10))
    folded = fold_batchnorm(net)
    assert norms(folded) == 0
    assert relative_change(net, folded, 32) < 1e-5


TIMM = ["resnet18", "efficientnet_b0", "mobilenetv2_100", "tf_mobilenetv3_small_075", "repvgg_a0"]


@pytest.mark.parametrize("name", TIMM)
def test_timm(name: str, randomise) -> None:
    net = randomise(timm.create_model(name, num_classes=10))
    folded = fold_batchnorm(net)
    assert norms(folded) == 0
    assert relative_change(net, folded, 64) < 1e-5


def test_inside_modules_that_timm_excludes_from_traces(randomise) -> None:
    net = randomise(timm.create_model("efficientvit_b0", num_classes=10))
    folded = fold_batchnorm(net)
    assert norms(folded) == 0
    assert relative_change(net, folded, 64) < 1e-5


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_torchvision(name: str, randomise) -> None:
    net = randomise(torchvision.models.get_model(name, num_classes=10))
    folded = fold_batchnorm(net)
    assert norms(folded) == 0
    assert relative_change(net, folded, 64) < 1e-5


def test_callers_network_is_untouched(randomise) -> None:
    net = randomise(build(zoo["master_small"], 10)).train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    seen: list[str] = []
    net.stages[0].register_forward_hook(lambda *_: seen.append("called"))
    modules = [(name, type(m), m.training) for name, m in net.named_modules()]

    folded = fold_batchnorm(net)

    assert not seen
    assert modules == [(name, type(m), m.training) for name, m in net.named_modules()]
    assert all(v.equal(before[k]) for k, v in net.state_dict().items())
    assert len(net.stages[0]._forward_hooks) == 1
    assert not any(m.training for m in folded.modules())
    own = {p.data_ptr() for p in net.parameters()}
    assert not any(p.data_ptr() in own for p in folded.parameters())


class Twisted(nn.Module):
    """Pairs that must not be folded: used twice, called twice, norm first, hooks, no statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.read_twice, self.n1 = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.called_twice, self.n2 = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.n3, self.norm_first = nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1)
        self.hooked, self.n4 = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.bare, self.n5 = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False)
        self.good, self.n6 = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, affine=False)
        self.hooked.register_forward_pre_hook(_double)

    def forward(self, x: torch.Tensor, scale: torch.Tensor | None = None) -> torch.Tensor:
        y = self.read_twice(x)
        x = self.n1(y) + y
        x = self.n2(self.called_twice(self.called_twice(x)))
        x = self.norm_first(self.n3(x))
        x = self.n4(self.hooked(x))
        x = self.n5(self.bare(x))
        x = self.n6(self.good(x))
        return x if scale is None else x * scale


def _double(module: nn.Module, inputs: tuple[torch.Tensor]) -> torch.Tensor:
    return inputs[0] * 2


def test_unsafe_pairs_stay() -> None:
    net = Twisted().eval()
    for norm in (net.n1, net.n2, net.n3, net.n4, net.n6):
        norm.running_var.fill_(0.3)
        norm.running_mean.fill_(0.2)
    folded = fold_batchnorm(net)
    kept = {name for name, m in folded.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert kept == {"n1", "n2", "n3", "n4", "n5"}
    assert relative_change(net, folded, 4) < 1e-5


class Untraceable(nn.Module):
    """Control flow that depends on values, around parts that can be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x) if x.sum() != 0 else x


def test_parts_of_an_untraceable_network_are_folded(randomise) -> None:
    net = randomise(Untraceable())
    folded = fold_batchnorm(net)
    assert norms(folded) == 0
    assert relative_change(net, folded, 8) < 1e-5
