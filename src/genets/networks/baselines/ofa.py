"""OFANets (Cai et al., 2020) from the facts in `ofa.json`, built with timm's classes."""

from __future__ import annotations

from functools import partial
from typing import Any

from timm.models._efficientnet_blocks import SqueezeExcite
from timm.models._efficientnet_builder import decode_arch_def, round_channels
from timm.models.efficientnet import EfficientNet
from timm.models.mobilenetv3 import MobileNetV3
from torch import nn

from genets.networks.baselines.facts import facts

ACTIVATIONS = {"relu": "_nre", "relu6": "_nr6", "h_swish": "_nhs"}


def build_ofa(name: str, num_classes: int) -> nn.Module:
    """The network of a paper name: OFANet-595M, -482M, -389M, -11ms or -9ms."""
    net = facts("ofa")[name]
    build = _mobilenet_v3 if net["family"] == "MobileNetV3" else _proxyless
    return build(net, num_classes)


def _mobilenet_v3(net: dict[str, Any], num_classes: int) -> nn.Module:
    """Those found for FLOPs. Two convolutions after the last block, the second after pooling."""
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
        # Its width is of the expanded width, rounded as channels are; ReLU in every block.
        se_layer=partial(
            SqueezeExcite,
            gate_layer="hard_sigmoid",
            force_act_layer=nn.ReLU,
            rd_round_fn=round_channels,
        ),
        drop_rate=dropout["p"],
    )


def _proxyless(net: dict[str, Any], num_classes: int) -> nn.Module:
    """Those found for the latency of a V100: ReLU6, no squeeze-and-excitation."""
    return EfficientNet(
        decode_arch_def(_arch_def(net)),
        num_classes=num_classes,
        stem_size=net["stem"]["out"],
        num_features=net["head"][0]["out"],
        act_layer=nn.ReLU6,
        norm_layer=partial(nn.BatchNorm2d, eps=net["bn_eps"]),
    )


def _arch_def(net: dict[str, Any]) -> list[list[str]]:
    """A list for each block: within a list timm gives only the first its stride."""
    return [[_block(block)] for block in net["blocks"]]


def _block(block: dict[str, Any]) -> str:
    kind = "ds" if block["expand"] == 1 else f"ir_e{block['expand']}"
    squeeze = "_se0.25" if block["se"] else ""
    kernel, stride, width = block["kernel"], block["stride"], block["out"]
    return f"{kind}_r1_k{kernel}_s{stride}_c{width}{squeeze}{ACTIVATIONS[block['act']]}"
