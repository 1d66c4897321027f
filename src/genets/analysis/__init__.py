"""What networks and blocks cost on a target, and what that shows."""

from genets.analysis.comparison.compare import OnProgress, Progress, Timing, compare
from genets.analysis.comparison.entries import SET_NAMES, Candidate, find_candidate, find_candidates
from genets.analysis.comparison.findings import (
    RankCorrelation,
    SpeedUp,
    findings,
    frontier,
    rank_correlation,
    run_note,
    speed_ups,
)
from genets.analysis.comparison.rows import Comparison, Row

__all__ = [
    "SET_NAMES",
    "Candidate",
    "Comparison",
    "OnProgress",
    "Progress",
    "RankCorrelation",
    "Row",
    "SpeedUp",
    "Timing",
    "compare",
    "find_candidate",
    "find_candidates",
    "findings",
    "frontier",
    "rank_correlation",
    "run_note",
    "speed_ups",
]
