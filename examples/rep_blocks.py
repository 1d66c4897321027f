"""Re-parameterised blocks: several branches during training, one convolution after it.

RepVGG (Ding et al., 2021): a k x k, a 1x1 and an identity branch.
MobileOne (Vasu et al., 2023): a depth-wise k x k and a 1x1 convolution, each with such branches.

    genets --own-blocks examples/rep_blocks.py search --data digits --budget 0.5x \
        --blocks XX3,DW3r3,RepVGG3,MobileOne3 --out runs/rep
"""

from timm.models.byobnet import MobileOneBlock, RepVggBlock
from torch import nn

import genets

BRANCHES = 2  # of each convolution of a MobileOne block


def mobile_one(in_chs, out_chs, kernel_size, stride, bottle_ratio, group_size, **options):
    """Build both convolutions; in timm's own MobileOne networks each one is a separate block."""
    options["num_conv_branches"] = BRANCHES
    return nn.Sequential(
        MobileOneBlock(in_chs, in_chs, kernel_size, stride, group_size=1, **options),
        MobileOneBlock(in_chs, out_chs, 1, 1, **options),
    )


genets.register_block("RepVGG", RepVggBlock, layers="k x k, 1x1 and identity, merged")
genets.register_block("MobileOne", mobile_one, layers="depth-wise k x k, 1x1, merged")
