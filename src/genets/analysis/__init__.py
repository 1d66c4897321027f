"""Analyses of latency, rank and MasterNets: the figures and tables of the paper."""

from genets.analysis.comparison.compare import compare
from genets.analysis.comparison.findings import (
    RankCorrelation,
    SpeedUp,
    findings,
    frontier,
    rank_correlation,
    run_note,
    speed_ups,
)
from genets.analysis.comparison.networks import (
    SET_NAMES,
    ComparedNetwork,
    find_network,
    find_networks,
)
from genets.analysis.comparison.rows import Comparison, ComparisonRow, Timing
from genets.core.progress import OnProgress, Progress

__all__ = [
    "SET_NAMES",
    "ComparedNetwork",
    "Comparison",
    "ComparisonRow",
    "OnProgress",
    "Progress",
    "RankCorrelation",
    "SpeedUp",
    "Timing",
    "compare",
    "find_network",
    "find_networks",
    "findings",
    "frontier",
    "rank_correlation",
    "run_note",
    "speed_ups",
]
