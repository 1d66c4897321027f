"""genets finds, trains and delivers the most accurate image network for a latency budget.

    import genets
    net = genets.build(genets.zoo["genet_large"], num_classes=1000)
    target = genets.Target(device="cuda", precision="fp16", batch_size=64)
    print(genets.measure(net, target, resolution=256))
    result = genets.search(data="digits", budget="0.5x", out="runs/mine")

Names are imported from their floors when they are first used, so `import genets` is quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from genets.core.lazy import lazy_names

if TYPE_CHECKING:
    from genets.core.errors import GenetsError
    from genets.latency import Budget, LatencyTable, Measurement, Target, measure
    from genets.nas.reselect import select
    from genets.nas.search import search
    from genets.nas.settings.settings import SearchSettings
    from genets.networks import (
        export_onnx,
        fold_batchnorm,
        load,
        load_blocks,
        register_block,
    )
    from genets.networks.build import build
    from genets.networks.count import count
    from genets.structure import Block, DesignSpace, Structure, SuperBlock, zoo

__all__ = [
    "Block",
    "Budget",
    "DesignSpace",
    "GenetsError",
    "LatencyTable",
    "Measurement",
    "SearchSettings",
    "Structure",
    "SuperBlock",
    "Target",
    "__version__",
    "build",
    "count",
    "export_onnx",
    "fold_batchnorm",
    "load",
    "load_blocks",
    "measure",
    "register_block",
    "search",
    "select",
    "zoo",
]
__version__ = "0.1.0"

_MODULE_OF = {
    "GenetsError": "core.errors",
    "Block": "structure",
    "DesignSpace": "structure",
    "Structure": "structure",
    "SuperBlock": "structure",
    "zoo": "structure",
    "build": "networks",
    "count": "networks",
    "export_onnx": "networks",
    "fold_batchnorm": "networks",
    "load": "networks",
    "load_blocks": "networks",
    "register_block": "networks",
    "Budget": "latency",
    "LatencyTable": "latency",
    "Measurement": "latency",
    "Target": "latency",
    "measure": "latency",
    "SearchSettings": "nas.settings.settings",
    "search": "nas.search",
    "select": "nas.reselect",
}


__getattr__ = lazy_names(__name__, _MODULE_OF)


def __dir__() -> list[str]:
    return __all__
