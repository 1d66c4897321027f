"""The names of the phases of a search, such as `selection, 0.5x` and `trials, round 2`."""

from __future__ import annotations

PHASES = (
    "latency table",
    "budget check",
    "MasterNet training",
    "trials",
    "screening",
    "selection",
    "candidate training",
    "final training",
    "export",
)

# The phases that a search of several budgets runs once for each budget.
PHASES_OF_BUDGET = (
    "budget check", "screening", "selection", "candidate training", "final training", "export",
)  # fmt: skip

RIVALS = "rivals"  # a phase of a search that has rivals


def phase_name(phase: str, *, round_number: int = 1, budget: str = "") -> str:
    """Give the name of a phase in a round, or for a budget.

    Args:
        phase: One of `PHASES`, or `RIVALS`.
        round_number: Counted from 1. A search of several budgets has one round.
        budget: The budget of several; empty in a search of one budget.
    """
    assert phase in (*PHASES, RIVALS), phase
    if budget and phase in PHASES_OF_BUDGET:
        return f"{phase}, {budget}"
    return phase if round_number == 1 else f"{phase}, round {round_number}"


def phase_of(name: str) -> str:
    """Give the phase from its name: without the round or the budget."""
    return name.partition(", ")[0]
