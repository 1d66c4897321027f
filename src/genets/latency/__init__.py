"""Targets, budgets, the clock and the latency predictor."""

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
