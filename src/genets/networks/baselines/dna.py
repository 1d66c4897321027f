"""DNANets (Li et al., 2020) from the facts in `dna.json`, built with timm's EfficientNet."""

from __future__ import annotations

from timm.models._efficientnet_builder import decode_arch_def
from timm.models.efficientnet import EfficientNet
from torch import nn

from genets.networks.baselines.facts import facts


def build_dna(name: str, num_classes: int) -> nn.Module:
    """The network of a paper name: DNANet-a to DNANet-d.

    Squeeze-and-excitation is timm's for EfficientNet: a quarter of the width that the block
    reads, SiLU, sigmoid gate. In MobileNetV3's class it would be of the expanded width.
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
