"""DFNets (Li et al., 2019) from the facts in `df.json`, built with timm's residual blocks."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import Any

from timm.layers.classifier import ClassifierHead
from timm.layers.conv_bn_act import ConvNormAct
from timm.models.resnet import BasicBlock, Bottleneck, downsample_conv
from torch import nn

from genets.networks.baselines.facts import facts

# Caffe's epsilon (df.json). timm's annotations want a class where a partial does as well.
NORM: Any = partial(nn.BatchNorm2d, eps=1e-4)


def build_df(name: str, num_classes: int) -> nn.Module:
    """The network of a paper name: DFNet-1, DFNet-2 or DFNet-2a.

    Two stride-2 convolutions and no max-pool, and widths that change at stride 1: timm's
    ResNet class cannot express these, its blocks can.
    """
    net = facts("df")[name]
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["stem"] = nn.Sequential(*(_conv(conv) for conv in net["stem"]))
    for stage in net["stages"]:
        layers[stage["name"]] = nn.Sequential(*(_block(block) for block in stage["blocks"]))
    layers["head"] = ClassifierHead(net["classifier"]["in"], num_classes)
    network = nn.Sequential(layers)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network


def _conv(conv: dict[str, Any]) -> nn.Module:
    return ConvNormAct(
        conv["in"], conv["out"], conv["kernel"], stride=conv["stride"], norm_layer=NORM
    )


def _block(block: dict[str, Any]) -> nn.Module:
    width_in, width, stride = block["in"], block["out"], block["stride"]
    shortcut = None  # the identity
    if block["projection"]:
        shortcut = downsample_conv(width_in, width, kernel_size=1, stride=stride, norm_layer=NORM)
    if block["type"] == "basic":
        return BasicBlock(width_in, width, stride, shortcut, norm_layer=NORM)
    planes = width // Bottleneck.expansion
    # timm's inner width is planes * base_width / 64.
    base_width = 64 * block["mid"] // planes
    return Bottleneck(width_in, planes, stride, shortcut, base_width=base_width, norm_layer=NORM)
