"""genets finds, trains and exports the most accurate image classifier within a latency budget.

    import genets
    net = genets.build(genets.zoo["genet_large"], num_classes=1000)
    target = genets.Target(device="cuda", precision="fp16", batch_size=64)
    print(genets.measure(net, target, resolution=256))
    result = genets.search(data="digits", budget="0.5x", out="runs/mine")

Names are imported from their layers when they are first used, so `import genets` is quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from genets.core.lazy import lazy_names

if TYPE_CHECKING:
    from genets.core.errors import GenetsError as GenetsError
    from genets.latency import Budget as Budget
    from genets.latency import LatencyTable as LatencyTable
    from genets.latency import Measurement as Measurement
    from genets.latency import Target as Target
    from genets.latency import measure as measure
    from genets.nas.plan.search_plan import SearchPlan as SearchPlan
    from genets.nas.plan.search_plan import plan_search as plan_search
    from genets.nas.reselect import select as select
    from genets.nas.result import SearchResult as SearchResult
    from genets.nas.search import search as search
    from genets.nas.settings.settings import SearchSettings as SearchSettings
    from genets.nas.watch.status import SearchStatus as SearchStatus
    from genets.nas.watch.status import read_status as read_status
    from genets.nas.workers.ray_cluster import RayCluster as RayCluster
    from genets.nas.workers.slurm.cluster import SlurmCluster as SlurmCluster
    from genets.networks import export_onnx as export_onnx
    from genets.networks import fold_batchnorm as fold_batchnorm
    from genets.networks import load as load
    from genets.networks import load_blocks as load_blocks
    from genets.networks import register_block as register_block
    from genets.networks.build import build as build
    from genets.networks.count import count as count
    from genets.structure import Block as Block
    from genets.structure import DesignSpace as DesignSpace
    from genets.structure import Structure as Structure
    from genets.structure import SuperBlock as SuperBlock
    from genets.structure import zoo as zoo

__all__, __getattr__ = lazy_names(
    __name__,
    {
        "core.errors": ("GenetsError",),
        "latency": ("Budget", "LatencyTable", "Measurement", "Target", "measure"),
        "nas.plan.search_plan": ("SearchPlan", "plan_search"),
        "nas.reselect": ("select",),
        "nas.result": ("SearchResult",),
        "nas.search": ("search",),
        "nas.settings.settings": ("SearchSettings",),
        "nas.watch.status": ("SearchStatus", "read_status"),
        "nas.workers.ray_cluster": ("RayCluster",),
        "nas.workers.slurm.cluster": ("SlurmCluster",),
        "networks": (
            "export_onnx",
            "fold_batchnorm",
            "load",
            "load_blocks",
            "register_block",
            "build",
            "count",
        ),
        "structure": ("Block", "DesignSpace", "Structure", "SuperBlock", "zoo"),
    },
)
__all__ += ["__version__"]
__version__ = "0.1.0"


def __dir__() -> list[str]:
    return __all__
