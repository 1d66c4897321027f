"""Builds the networks of the baselines.

Most come from timm and torchvision. Three families are not in timm; their layers are in JSON files
beside this one, and timm's classes build them: DFNets (Li et al., 2019; `df.json`), DNANets (Li et
al., 2020; `dna.json`) and OFANets (Cai et al., 2020; `ofa.json`).
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import cache, partial
from importlib.resources import files
from typing import Any

import timm
from timm.layers.classifier import ClassifierHead
from timm.layers.conv_bn_act import ConvNormAct
from timm.models._efficientnet_blocks import SqueezeExcite
from timm.models._efficientnet_builder import decode_arch_def, round_channels
from timm.models.efficientnet import EfficientNet
from timm.models.mobilenetv3 import MobileNetV3
from timm.models.resnet import BasicBlock, Bottleneck, downsample_conv
from torch import nn

from genets.core.errors import GenetsError
from genets.networks.build import HUB_FILE, build, from_hub
from genets.structure import zoo
from genets.structure.block import check_integer


def build_network(
    name: str, network: str, options: Mapping[str, Any], num_classes: int, pretrained: bool
) -> nn.Module:
    """Build the network of a baseline.

    Args:
        name: The name of the baseline, for messages.
        network: The origin of the network and its name there, as in `baselines.toml`.
        options: Further arguments of torchvision's builder.
        num_classes: The number of logits.
        pretrained: Whether to load published weights.

    Raises:
        GenetsError: `num_classes` is out of range, or there are no published weights.
    """
    check_integer("num_classes", num_classes, 1, 10**7)
    library, _, own_name = network.partition(":")
    if library == "zoo":
        return build(zoo[own_name], num_classes, pretrained=pretrained)
    if library == "timm":
        return _from_timm(name, own_name, num_classes, pretrained)
    if pretrained:
        raise _no_weights(name)
    if library == "torchvision":
        import torchvision

        net: nn.Module = torchvision.models.get_model(own_name, num_classes=num_classes, **options)
        return net
    return FROM_FACTS[library](name, num_classes)


def _from_timm(name: str, own_name: str, num_classes: int, pretrained: bool) -> nn.Module:
    if not pretrained:
        return timm.create_model(own_name, num_classes=num_classes)
    config = timm.get_pretrained_cfg(own_name)
    if config is None or not config.hf_hub_id:
        raise _no_weights(name)
    with from_hub(name, config):
        return timm.create_model(
            own_name,
            pretrained=True,
            num_classes=num_classes,
            pretrained_cfg_overlay={"hf_hub_filename": HUB_FILE},
        )


def _no_weights(name: str) -> GenetsError:
    return GenetsError(f"no pretrained weights of {name} are known; leave pretrained out")


@cache
def facts(family: str) -> dict[str, dict[str, Any]]:
    """The layers of the networks of a family (`dna`, `df`, `ofa`), by paper name.

    The key `conventions` of each JSON file explains the fields.
    """
    text = files(__package__).joinpath(f"{family}.json").read_text(encoding="utf-8")
    return {net["paper_name"]: net for net in json.loads(text)["nets"]}


# Caffe's epsilon (df.json). timm's annotations demand a class, and a partial works as well.
NORM: Any = partial(nn.BatchNorm2d, eps=1e-4)


def build_df(name: str, num_classes: int) -> nn.Module:
    """Build DFNet-1, DFNet-2 or DFNet-2a.

    They have two stride-2 convolutions, no max-pool, and widths that change at stride 1. timm's
    ResNet class cannot express this, but its blocks can.
    """
    net = facts("df")[name]
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["stem"] = nn.Sequential(*(_df_conv(conv) for conv in net["stem"]))
    for stage in net["stages"]:
        layers[stage["name"]] = nn.Sequential(*(_df_block(block) for block in stage["blocks"]))
    layers["head"] = ClassifierHead(net["classifier"]["in"], num_classes)
    network = nn.Sequential(layers)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network


def _df_conv(conv: dict[str, Any]) -> nn.Module:
    return ConvNormAct(
        conv["in"], conv["out"], conv["kernel"], stride=conv["stride"], norm_layer=NORM
    )


def _df_block(block: dict[str, Any]) -> nn.Module:
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


def build_dna(name: str, num_classes: int) -> nn.Module:
    """Build one of DNANet-a to DNANet-d.

    Squeeze-and-excitation is that of timm's EfficientNet: a quarter of the block's input width,
    SiLU, sigmoid gate. In timm's MobileNetV3 it would be a quarter of the expanded width.
    """
    net = facts("dna")[name]
    return EfficientNet(
        decode_arch_def(net["arch_def"]),
        num_classes=num_classes,
        stem_size=net["stem_channels"],
        num_features=net["head_channels"],
        act_layer=nn.SiLU,
        drop_rate=net["training"]["dropout"],
        drop_path_rate=net["training"]["drop_connect"],
    )


ACTIVATIONS = {"relu": "_nre", "relu6": "_nr6", "h_swish": "_nhs"}


def build_ofa(name: str, num_classes: int) -> nn.Module:
    """Build OFANet-595M, -482M, -389M, -11ms or -9ms."""
    net = facts("ofa")[name]
    build = _mobilenet_v3 if net["family"] == "MobileNetV3" else _proxyless
    return build(net, num_classes)


def _mobilenet_v3(net: dict[str, Any], num_classes: int) -> nn.Module:
    """An OFANet that was searched for FLOPs.

    It has two convolutions after the last block, the second of them after the pooling.
    """
    expand, _, mix, dropout, _ = net["head"]
    arch = [*_arch_def(net), [f"cn_r1_k1_s1_c{expand['out']}_nhs"]]
    return MobileNetV3(
        decode_arch_def(arch),
        num_classes=num_classes,
        stem_size=net["stem"]["out"],
        num_features=mix["out"],
        head_bias=mix["bias"],
        act_layer=nn.Hardswish,
        norm_layer=partial(nn.BatchNorm2d, eps=net["bn_eps"]),
        # A share of the expanded width, rounded as channels are; ReLU in every block.
        se_layer=partial(
            SqueezeExcite,
            gate_layer="hard_sigmoid",
            force_act_layer=nn.ReLU,
            rd_round_fn=round_channels,
        ),
        drop_rate=dropout["p"],
    )


def _proxyless(net: dict[str, Any], num_classes: int) -> nn.Module:
    """An OFANet that was searched for latency on a V100: ReLU6, no squeeze-and-excitation."""
    return EfficientNet(
        decode_arch_def(_arch_def(net)),
        num_classes=num_classes,
        stem_size=net["stem"]["out"],
        num_features=net["head"][0]["out"],
        act_layer=nn.ReLU6,
        norm_layer=partial(nn.BatchNorm2d, eps=net["bn_eps"]),
    )


def _arch_def(net: dict[str, Any]) -> list[list[str]]:
    """One list for each block, because timm gives the stride only to the first of a list."""
    return [[_ofa_block(block)] for block in net["blocks"]]


def _ofa_block(block: dict[str, Any]) -> str:
    kind = "ds" if block["expand"] == 1 else f"ir_e{block['expand']}"
    squeeze = "_se0.25" if block["se"] else ""
    kernel, stride, width = block["kernel"], block["stride"], block["out"]
    return f"{kind}_r1_k{kernel}_s{stride}_c{width}{squeeze}{ACTIVATIONS[block['act']]}"


FROM_FACTS: Mapping[str, Callable[[str, int], nn.Module]] = {
    "dna": build_dna,
    "df": build_df,
    "ofa": build_ofa,
}
