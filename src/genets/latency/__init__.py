"""Targets, budgets, measured latencies and the latency predictor.

Each name is imported from its file at its first use, because Target and Budget need no PyTorch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from genets.core.lazy import lazy_names

if TYPE_CHECKING:
    from genets.latency.budget import Budget as Budget
    from genets.latency.engines import ENGINES as ENGINES
    from genets.latency.predictor.builder import WholeNetwork as WholeNetwork
    from genets.latency.predictor.storage import TableSettings as TableSettings
    from genets.latency.predictor.table import LatencyTable as LatencyTable
    from genets.latency.target import Target as Target
    from genets.latency.timing.clock import PROTOCOLS as PROTOCOLS
    from genets.latency.timing.measurement import Measurement as Measurement
    from genets.latency.timing.measurement import measure as measure
    from genets.latency.timing.measurement import measure_interleaved as measure_interleaved

__all__, __getattr__ = lazy_names(
    __name__,
    {
        "budget": ("Budget",),
        "engines": ("ENGINES",),
        "predictor.builder": ("WholeNetwork",),
        "predictor.storage": ("TableSettings",),
        "predictor.table": ("LatencyTable",),
        "target": ("Target",),
        "timing.clock": ("PROTOCOLS",),
        "timing.measurement": ("Measurement", "measure", "measure_interleaved"),
    },
)


def __dir__() -> list[str]:
    return __all__
