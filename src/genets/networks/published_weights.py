"""The weights that the paper's authors published: GENet_small.pth, _normal.pth and _large.pth.

Their files (github.com/idstcv/GPU-Efficient-Networks) hold the state of the networks that are
`genet_light`, `genet_normal` and `genet_large` here, tensor for tensor, under names of their own:

    module_list.0.netblock, .1.netblock             stem: convolution, batch norm
    module_list.I.conv_list.B.L                     super-block I - 2, block B; L counts its
                                                    convolutions, norms and activations
    module_list.I.shortcut_list.B.0, .1             the block's projection: convolution, norm
    module_list.N.netblock, .N+1.netblock           head: convolution, batch norm
    fc_linear                                       classifier

Position 2 is the stem's activation, so super-blocks begin at 3.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

THEIRS = ("module_list.", "fc_linear.")
FIRST = 3  # position of the first super-block
BLOCK = re.compile(r"stages\.(\d+)\.(\d+)\.(?:shortcut|conv(\d)_\w+)\.(conv|bn)\.(\w+)")


def with_our_names(tensors: Mapping[str, Tensor], own: Iterable[str]) -> dict[str, Tensor]:
    """The tensors of such a file under timm's names; those of any other file as they are.

    own: the names of the network's state. What it does not have keeps its name.
    """
    if not any(name.startswith(THEIRS) for name in tensors):
        return dict(tensors)
    ours = published_names(own)
    return {ours.get(name, name): tensor for name, tensor in tensors.items()}


def published_names(own: Iterable[str]) -> dict[str, str]:
    """By their name ours, for the state of a network of a structure."""
    own = list(own)
    stages = {int(found[1]) for name in own if (found := BLOCK.fullmatch(name))}
    return {_theirs(name, len(stages)): name for name in own}


def _theirs(name: str, super_blocks: int) -> str:
    found = BLOCK.fullmatch(name)
    if found:
        stage, block, number, layer, field = found.groups()
        is_norm = int(layer == "bn")
        where = f"module_list.{FIRST + int(stage)}"
        if number is None:
            return f"{where}.shortcut_list.{block}.{is_norm}.{field}"
        # Convolution, norm, activation; the last activation follows the sum.
        return f"{where}.conv_list.{block}.{3 * (int(number) - 1) + is_norm}.{field}"
    for ours, theirs in (
        ("stem.conv.", "module_list.0.netblock."),
        ("stem.bn.", "module_list.1.netblock."),
        ("final_conv.conv.", f"module_list.{FIRST + super_blocks}.netblock."),
        ("final_conv.bn.", f"module_list.{FIRST + super_blocks + 1}.netblock."),
        ("head.fc.", "fc_linear."),
    ):
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name
