"""Targets, budgets, the clock and the latency predictor.

Names are imported from their files when they are first used: targets and budgets are words, which
need no PyTorch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from genets.lazy import lazy_names

if TYPE_CHECKING:
    from genets.latency.budget import Budget
    from genets.latency.clock import PROTOCOLS
    from genets.latency.engines import ENGINES
    from genets.latency.measurement import Measurement, measure, measure_interleaved
    from genets.latency.table import LatencyTable, WholeNetwork
    from genets.latency.table_file import TableSettings
    from genets.latency.target import Target

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
    "PROTOCOLS": "clock",
    "Budget": "budget",
    "LatencyTable": "table",
    "Measurement": "measurement",
    "TableSettings": "table_file",
    "Target": "target",
    "WholeNetwork": "table",
    "measure": "measurement",
    "measure_interleaved": "measurement",
}


__getattr__ = lazy_names(__name__, _FILE_OF)


def __dir__() -> list[str]:
    return __all__
