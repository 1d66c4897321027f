"""The universal inverted bottleneck of MobileNetV4 (Qin et al., 2024), in two of its forms.

ExtraDW: depth-wise k x k, 1x1, depth-wise k x k, 1x1.
ConvNext: depth-wise k x k, 1x1, 1x1, as in ConvNeXt.
The width between the two 1x1 convolutions is ratio times the input width of the block.

    genets --own-blocks examples/uib_blocks.py search --data digits --budget 0.5x \
        --blocks XX3,DW3r3,ExtraDW3r4,ConvNext5r4 --out runs/uib
"""

from functools import partial

from timm.models._efficientnet_blocks import UniversalInvertedResidual

import genets


def uib(in_chs, out_chs, kernel_size, stride, bottle_ratio, layers, drop_path_rate, device, dtype,
        inner, **unused):  # fmt: skip
    """Build one block; `inner` adds a depth-wise layer between the two 1x1 convolutions."""
    return UniversalInvertedResidual(
        in_chs,
        out_chs,
        dw_kernel_size_start=kernel_size,
        dw_kernel_size_mid=kernel_size if inner else 0,
        stride=stride,
        exp_ratio=bottle_ratio,
        act_layer=layers.act,
        drop_path_rate=drop_path_rate,
        layer_scale_init_value=None,  # MobileNetV4's convolutional networks have none
        device=device,
        dtype=dtype,
    )


for name, inner in (("ExtraDW", True), ("ConvNext", False)):
    genets.register_block(name, partial(uib, inner=inner), ratios=(1, 8))
