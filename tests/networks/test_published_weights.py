"""The files of the paper's authors: their names and networks, compared with ours.

`PlainNet` states again how the authors' modules are nested, which is what names their tensors.
"""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from genets.core.errors import GenetsError
from genets.networks import build
from genets.networks.weights import load_tensors, published_names, tensors_for, with_our_names
from genets.structure import Structure, zoo

# As GENet_small.txt, GENet_normal.txt and GENet_large.txt have them: in, out, kernel, stride,
# expansion, blocks; and the widths of stem and head.
PLAIN = {
    "genet_light": (13, 1920, [
        ("KXKX", 13, 48, 3, 2, 1.0, 1), ("KXKX", 48, 48, 3, 2, 1.0, 3),
        ("K1KXK1", 48, 384, 3, 2, 0.25, 7), ("K1DWK1", 384, 560, 3, 2, 3.0, 2),
        ("K1DWK1", 560, 256, 3, 1, 3.0, 1),
    ]),
    "genet_normal": (32, 2560, [
        ("KXKX", 32, 128, 3, 2, 1.0, 1), ("KXKX", 128, 192, 3, 2, 1.0, 2),
        ("K1KXK1", 192, 640, 3, 2, 0.25, 6), ("K1DWK1", 640, 640, 3, 2, 3.0, 4),
        ("K1DWK1", 640, 640, 3, 1, 3.0, 1),
    ]),
    "genet_large": (32, 2560, [
        ("KXKX", 32, 128, 3, 2, 1.0, 1), ("KXKX", 128, 192, 3, 2, 1.0, 2),
        ("K1KXK1", 192, 640, 3, 2, 0.25, 6), ("K1DWK1", 640, 640, 3, 2, 3.0, 5),
        ("K1DWK1", 640, 640, 3, 1, 3.0, 4),
    ]),
}  # fmt: skip


class Holder(nn.Module):
    """One layer, under the name `netblock`."""

    def __init__(self, layer):
        super().__init__()
        self.netblock = layer

    def forward(self, x):
        return self.netblock(x)


class SuperBlock(nn.Module):
    def __init__(self, kind, fan_in, width, kernel, stride, expansion, blocks):
        super().__init__()
        self.conv_list, self.shortcut_list = nn.ModuleList(), nn.ModuleList()
        inner = round(width * expansion)
        for number in range(blocks):
            step = stride if number == 0 else 1
            here = fan_in if number == 0 else width
            groups = inner if kind == "K1DWK1" else 1
            convs = (
                [(here, inner, kernel, step, 1), (inner, width, kernel, 1, 1)]
                if kind == "KXKX"
                else [
                    (here, inner, 1, 1, 1),
                    (inner, inner, kernel, step, groups),
                    (inner, width, 1, 1, 1),
                ]
            )
            layers = [layer for conv in convs for layer in (*conv_bn(*conv), nn.ReLU())]
            self.conv_list.append(nn.Sequential(*layers[:-1]))
            same = step == 1 and here == width
            shortcut = [] if same else conv_bn(here, width, 1, step, 1)
            self.shortcut_list.append(nn.Sequential(*shortcut))

    def forward(self, x):
        for block, shortcut in zip(self.conv_list, self.shortcut_list, strict=True):
            x = F.relu(block(x) + shortcut(x))
        return x


def conv_bn(fan_in, width, kernel, stride, groups):
    conv = nn.Conv2d(
        fan_in, width, kernel, stride, padding=(kernel - 1) // 2, groups=groups, bias=False
    )
    return conv, nn.BatchNorm2d(width)


class PlainNet(nn.Module):
    def __init__(self, name, classes):
        super().__init__()
        stem, head, super_blocks = PLAIN[name]
        first, last = conv_bn(3, stem, 3, 2, 1), conv_bn(super_blocks[-1][2], head, 1, 1, 1)
        self.module_list = nn.ModuleList(
            [
                *map(Holder, first),
                nn.ReLU(),
                *(SuperBlock(*facts) for facts in super_blocks),
                *map(Holder, last),
                nn.ReLU(),
            ]
        )
        self.fc_linear = nn.Linear(head, classes)

    def forward(self, x):
        for module in self.module_list:
            x = module(x)
        return self.fc_linear(x.mean((2, 3)))


@pytest.mark.parametrize("name", PLAIN)
def test_every_name_has_its_counterpart(name):
    with torch.device("meta"):
        ours, theirs = build(zoo[name]).state_dict(), PlainNet(name, 1000).state_dict()
    names = published_names(ours)
    assert names.keys() == theirs.keys()
    assert sorted(names.values()) == sorted(ours)
    assert all(ours[names[n]].shape == tensor.shape for n, tensor in theirs.items())


def test_names_that_the_authors_files_have():
    own = build(zoo["genet_light"]).state_dict()
    names = published_names(own)
    for theirs, ours in {
        "module_list.0.netblock.weight": "stem.conv.weight",
        "module_list.1.netblock.running_mean": "stem.bn.running_mean",
        "module_list.3.conv_list.0.3.weight": "stages.0.0.conv2_kxk.conv.weight",
        "module_list.5.conv_list.6.7.bias": "stages.2.6.conv3_1x1.bn.bias",
        "module_list.6.shortcut_list.0.1.running_var": "stages.3.0.shortcut.bn.running_var",
        "module_list.9.netblock.num_batches_tracked": "final_conv.bn.num_batches_tracked",
        "fc_linear.bias": "head.fc.bias",
    }.items():
        assert names[theirs] == ours


@pytest.fixture
def published(randomise):
    torch.manual_seed(0)
    return randomise(PlainNet("genet_light", 5)).eval()


@pytest.mark.parametrize("form", ["as published", "plain", "half"])
def test_logits_are_those_of_the_authors_network(published, tmp_path, form):
    path = tmp_path / "GENet_small.pth"
    state = published.state_dict()
    if form == "half":
        published.half().float()
        state = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    torch.save(state if form == "plain" else {"state_dict": state, "epoch": 480}, path)
    net = build(zoo["genet_light"], 5).eval()
    load_tensors(net, tensors_for(net, path), path)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(net(images), published(images), rtol=1e-4, atol=1e-4)


def test_another_genet_is_refused(published, tmp_path):
    path = tmp_path / "GENet_small.pth"
    torch.save({"state_dict": published.state_dict()}, path)
    for other, sentence in (
        (zoo["genet_normal"], r"lacks stages.3.2.*unknown module_list.4.conv_list.2.0"),
        (zoo["genet_light"].scale_width(2), "are of another network: .* has shape"),
        (Structure.parse("Conv3x8s2 XX3x8 DW3x8r2 Conv1x16 @8"), "unknown module_list"),
    ):
        net = build(other, 5)
        with pytest.raises(GenetsError, match=sentence):
            load_tensors(net, tensors_for(net, path), path)


def test_other_files_keep_their_names():
    tensors = {"stem.conv.weight": torch.zeros(1), "mine": torch.ones(1)}
    assert with_our_names(tensors, ["stem.conv.weight"]) == tensors
