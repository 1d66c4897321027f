"""Structures become torch networks; folding, counting, weights, export.

Importing this package registers the zoo with timm: `timm.create_model("genet_large")`.
"""

import genets.networks.registry  # noqa: F401
from genets.networks.build import build
from genets.networks.count import Count, count
from genets.networks.fuse import fold_batchnorm
from genets.networks.onnx_export import export_onnx
from genets.networks.own_blocks import load_blocks, register_block
from genets.networks.source import NamedNetwork, load, resolve_network
from genets.networks.weights import load_weights, save_weights

__all__ = [
    "Count",
    "NamedNetwork",
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
