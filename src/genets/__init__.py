"""genets finds, trains and delivers the most accurate image network for a latency budget.

    import genets
    net = genets.build(genets.zoo["genet_large"], num_classes=1000)
    target = genets.Target(device="cuda", precision="fp16", batch_size=64)
    print(genets.measure(net, target, resolution=256))
    result = genets.search(genets.SearchSettings(data="digits", budget="0.5x"), "runs/mine")

Names are imported from their floors when they are first used, so `import genets` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genets.errors import GenetsError
    from genets.latency import Budget, LatencyTable, Measurement, Target, measure
    from genets.nas.run import search, select
    from genets.nas.settings import SearchSettings
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

_FLOOR_OF = {
    "GenetsError": "genets.errors",
    "Block": "genets.structure",
    "DesignSpace": "genets.structure",
    "Structure": "genets.structure",
    "SuperBlock": "genets.structure",
    "zoo": "genets.structure",
    "build": "genets.networks",
    "count": "genets.networks",
    "export_onnx": "genets.networks",
    "fold_batchnorm": "genets.networks",
    "load": "genets.networks",
    "load_blocks": "genets.networks",
    "register_block": "genets.networks",
    "Budget": "genets.latency",
    "LatencyTable": "genets.latency",
    "Measurement": "genets.latency",
    "Target": "genets.latency",
    "measure": "genets.latency",
    "SearchSettings": "genets.nas.settings",
    "search": "genets.nas.run",
    "select": "genets.nas.run",
}


def __getattr__(name: str) -> Any:
    if name not in _FLOOR_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_FLOOR_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
