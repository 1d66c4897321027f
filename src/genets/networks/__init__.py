"""Networks: from a structure or a name to a torch network with its weights.

    build.py         a structure becomes a timm ByobNet
    source.py        any NETWORK text becomes a network with its weights
    folder_name.py   whether a NETWORK text is a results folder or a name
    weights.py       files of weights: ours, other programs', the authors'
    weights_facts.py known facts about the training of weights
    count.py         parameters and multiply-adds
    fuse.py          batch normalisation folded into convolutions
    surgery.py       networks cut into parts; weights copied between networks
    inheritance.py   weights that a network inherits from a MasterNet of another structure
    channels.py      numbers of channels that all structures around a MasterNet share
    random_weights.py  weights for timing
    onnx_export.py   export to ONNX
    own_blocks.py    block types that users register
    block_layers.py  the convolutions of such block types
    baselines/       the networks to compare with
    registry.py      the zoo under timm's names

Importing this package registers the zoo with timm: `timm.create_model("genet_large")`.
"""

import genets.networks.registry  # noqa: F401
from genets.networks.build import build
from genets.networks.count import Count, count
from genets.networks.fuse import fold_batchnorm
from genets.networks.onnx_export import export_onnx
from genets.networks.own_blocks import load_blocks, register_block
from genets.networks.source import NetworkSource, load, resolve_network
from genets.networks.weights import load_weights, save_weights

__all__ = [
    "Count",
    "NetworkSource",
    "build",
    "count",
    "export_onnx",
    "fold_batchnorm",
    "load",
    "load_blocks",
    "load_weights",
    "register_block",
    "resolve_network",
    "save_weights",
]
