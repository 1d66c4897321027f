"""Which convolutions stand for the stages of a network."""

import pytest
import timm
import torch
from torch import nn

from genets.analysis.rank.layers import last_layers
from genets.core.errors import GenetsError
from genets.networks import build
from genets.networks.baselines import baselines
from genets.structure import Structure, zoo


def on_meta(make):
    with torch.device("meta"):
        return make()


def facts(net, resolution=224, ends=None):
    found = last_layers(net, resolution, ends)
    return [(layer.name, layer.reduction, layer.kind) for layer in found]


@pytest.mark.parametrize(
    ("name", "blocks"), [("resnet18", (2, 2, 2, 2)), ("resnet34", (3, 4, 6, 3))]
)
def test_the_paper_s_networks_have_four_stages_of_full_convolutions(name, blocks):
    net = on_meta(lambda: timm.create_model(name))
    assert facts(net) == [
        (f"layer{number}.{depth - 1}.conv2", 2 ** (number + 1), "full")
        for number, depth in enumerate(blocks, start=1)
    ]


def test_resnet_152_has_bottlenecks():
    net = on_meta(lambda: timm.create_model("resnet152"))
    assert [(name, kind) for name, _, kind in facts(net)] == [
        ("layer1.2.conv2", "bottleneck"), ("layer2.7.conv2", "bottleneck"),
        ("layer3.35.conv2", "bottleneck"), ("layer4.2.conv2", "bottleneck"),
    ]  # fmt: skip


def test_profiling_132_by_resolution_and_by_super_block():
    structure = zoo["profiling_132"]
    net = on_meta(lambda: build(structure))
    kernels = [tuple(layer.conv.weight.shape) for layer in last_layers(net, 224)]
    assert kernels == [(width, width, 3, 3) for width in (32, 48, 128, 2048)]
    ends = [f"stages.{number}" for number in range(len(structure.super_blocks))]
    found = last_layers(net, 224, ends)
    assert [layer.conv.out_channels for layer in found] == [
        stage.width for stage in structure.super_blocks
    ]
    assert [layer.reduction for layer in found] == [4, 8, 16, 16, 32, 32, 32, 32]


def test_block_types_are_told_apart():
    net = on_meta(lambda: build(zoo["genet_large"]))
    ends = [f"stages.{number}" for number in range(5)]
    assert [kind for _, _, kind in facts(net, 256, ends)] == [
        "full", "full", "bottleneck", "depth-wise", "depth-wise",
    ]  # fmt: skip
    grouped = on_meta(lambda: timm.create_model("regnety_004"))
    assert {kind for _, _, kind in facts(grouped)} == {"grouped"}
    expanding = on_meta(lambda: timm.create_model("tf_efficientnetv2_b0"))
    assert facts(expanding)[1] == ("blocks.1.1.conv_exp", 4, "full")


def test_a_deep_stem_is_no_stage():
    net = on_meta(lambda: timm.create_model("resnet50d"))
    assert facts(net)[0] == ("layer1.2.conv2", 4, "bottleneck")


def test_without_feature_info_resolutions_are_the_stages():
    net = baselines["DFNet-1"].network()
    assert facts(net) == [("res2.2.conv2", 8, "full"), ("res3.2.conv2", 16, "full"),
                          ("res4.3.conv2", 32, "full")]  # fmt: skip
    plain = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1),
        nn.Conv2d(4, 8, 3, 2, padding=1), nn.Conv2d(8, 8, (1, 3), padding=(0, 1)),
    )  # fmt: skip
    assert facts(plain, 16) == [("1", 1, "full"), ("4", 2, "full")]


def test_the_network_stays_as_it_was():
    net = build(Structure.parse("Conv3x8s2 XX3x8s2 XX3x8s2 Conv1x8 @16"), 10).train()
    net.stages[0].eval()
    modes = [module.training for module in net.modules()]
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    last_layers(net, 16)
    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert not any(module._forward_hooks for module in net.modules())


def test_networks_without_such_convolutions_are_refused():
    net = on_meta(lambda: timm.create_model("vit_tiny_patch16_224"))
    with pytest.raises(GenetsError, match="no convolution with a kernel above 1 after its stem"):
        last_layers(net, 224)
    with pytest.raises(GenetsError, match="does not run at resolution 8: "):
        last_layers(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(5, 2)), 8)
