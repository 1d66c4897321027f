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

# Names of earlier versions.
Candidate, Row = ComparedNetwork, ComparisonRow
find_candidate, find_candidates = find_network, find_networks

__all__ = [
    "SET_NAMES",
    "Candidate",
    "ComparedNetwork",
    "Comparison",
    "ComparisonRow",
    "OnProgress",
    "Progress",
    "RankCorrelation",
    "Row",
    "SpeedUp",
    "Timing",
    "compare",
    "find_candidate",
    "find_candidates",
    "find_network",
    "find_networks",
    "findings",
    "frontier",
    "rank_correlation",
    "run_note",
    "speed_ups",
]
