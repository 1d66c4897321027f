"""Analyses of latency, rank and MasterNets: the figures and tables of the paper."""

from genets.analysis.comparison.compare import compare
from genets.analysis.comparison.findings import (
    SpeedUp,
    findings,
    frontier,
    rank_correlation,
    run_note,
    speed_ups,
)
from genets.analysis.comparison.networks import (
    ComparedNetwork,
    find_networks,
)
from genets.analysis.comparison.rows import Comparison, ComparisonRow, Timing

__all__ = [
    "ComparedNetwork",
    "Comparison",
    "ComparisonRow",
    "SpeedUp",
    "Timing",
    "compare",
    "find_networks",
    "findings",
    "frontier",
    "rank_correlation",
    "run_note",
    "speed_ups",
]
