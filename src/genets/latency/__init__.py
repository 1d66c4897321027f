"""Targets, budgets, measured latencies and the latency predictor.

Each name is imported from its file at its first use, because Target and Budget need no PyTorch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from genets.core.lazy import lazy_names

if TYPE_CHECKING:
    from genets.latency.budget import Budget
    from genets.latency.engines import ENGINES
    from genets.latency.predictor.builder import WholeNetwork
    from genets.latency.predictor.storage import TableSettings
    from genets.latency.predictor.table import LatencyTable
    from genets.latency.target import Target
    from genets.latency.timing.clock import PROTOCOLS
    from genets.latency.timing.measurement import Measurement, measure, measure_interleaved

__all__ = [
    "ENGINES",
    "PROTOCOLS",
    "Budget",
    "LatencyTable",
    "Measurement",
    "TableSettings",
    "Target",
    "WholeNetwork",
    "measure",
    "measure_interleaved",
]

_FILE_OF = {
    "ENGINES": "engines",
    "PROTOCOLS": "timing.clock",
    "Budget": "budget",
    "LatencyTable": "predictor.table",
    "Measurement": "timing.measurement",
    "TableSettings": "predictor.storage",
    "Target": "target",
    "WholeNetwork": "predictor.builder",
    "measure": "timing.measurement",
    "measure_interleaved": "timing.measurement",
}


__getattr__ = lazy_names(__name__, _FILE_OF)


def __dir__() -> list[str]:
    return __all__
