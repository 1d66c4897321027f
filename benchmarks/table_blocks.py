"""The block types of public tables: the identity, and the inverted residual of MobileNets.

`MB` is MobileNetV2's block (Sandler et al. 2018); the ratio is that of inner width and input width.
`MBSE` adds the squeeze-and-excitation of MnasNet (Tan et al. 2019).
"""

from functools import partial
from typing import Any

from timm.models._efficientnet_blocks import InvertedResidual, SqueezeExcite
from torch import nn

import genets


def identity(in_chs: int, out_chs: int, stride: int, layers: Any, **options: Any) -> nn.Module:
    """An identity; where the width or the resolution changes, a 1x1 convolution."""
    if in_chs == out_chs and stride == 1:
        return nn.Identity()
    placed = {name: options[name] for name in ("device", "dtype")}
    conv: nn.Module = layers.conv_norm_act(
        in_chs, out_chs, 1, stride=stride, apply_act=False, **placed
    )
    return conv


def inverted_residual(
    in_chs: int,
    out_chs: int,
    kernel_size: int,
    stride: int,
    bottle_ratio: float,
    layers: Any,
    squeeze: bool,
    **options: Any,
) -> nn.Module:
    squeeze_excite: Any = partial(SqueezeExcite, rd_ratio=0.25) if squeeze else None
    return InvertedResidual(
        in_chs,
        out_chs,
        kernel_size,
        stride,
        exp_ratio=bottle_ratio,
        act_layer=layers.act,
        se_layer=squeeze_excite,
        device=options["device"],
        dtype=options["dtype"],
    )


genets.register_block("Identity", identity)
for name, with_squeeze in (("MB", False), ("MBSE", True)):
    block = partial(inverted_residual, squeeze=with_squeeze)
    genets.register_block(name, block, ratios=(1, 8))
