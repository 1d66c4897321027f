"""The candidates of a round at each resolution of the search space."""

from __future__ import annotations

import math
from collections.abc import Sequence

from genets.core.errors import InfeasibleBudgetError
from genets.core.progress import Report
from genets.nas.accuracy.model import AccuracyModel
from genets.nas.context import SearchContext
from genets.nas.selection.budget_search import (
    BudgetSearch,
    OnAttempt,
    attempt_text,
    make_candidate,
)
from genets.nas.settings.final_training import candidates_at_each
from genets.nas.study.records import Candidate
from genets.structure import Structure


def select_at_each_resolution(
    context: SearchContext,
    model: AccuracyModel,
    trained: Sequence[Structure] = (),
    screened: Sequence[Structure] = (),
    measured: Sequence[Structure] = (),
) -> list[Candidate]:
    """Select the candidates of a round, by resolution (section 4.2, Searching for Resolution).

    The trials are run at the MasterNet's resolution, and their pseudo-gradients serve every
    resolution. They do not show which resolution is best, so candidates of each resolution are
    selected, and trained later.

    Args:
        context: In the round of the candidates.
        model: Predicts accuracy.
        trained: Trained candidates that meet the budget.
        screened: Structures that were screened.
        measured: Structures that were measured before; their latencies correct the table.

    Returns:
        The same number per resolution, because the best of a larger group would win by chance;
        none where no structure of a resolution meets the budget, or all that do are trained. The
        best predicted comes first.

    Raises:
        InfeasibleBudgetError: No structure of any resolution meets the budget.
    """
    resolutions = context.space.resolutions
    several = len(resolutions) > 1
    top = candidates_at_each(context.settings.confirm, len(resolutions))
    report = context.report("selection")
    candidates: list[Candidate] = []
    faults: list[InfeasibleBudgetError] = []
    with context.phase("selection"):
        for number, resolution in enumerate(resolutions):
            of_resolution = [s for s in trained if s.resolution == resolution]
            asked = resolution if several else None
            screened_here = [s for s in screened if s.resolution == resolution]
            search = BudgetSearch(context, model, asked, of_resolution, screened_here, measured)
            detail = f"{resolution} pixels, " * several + attempt_text(context, top)
            on_attempt = _as_part(report, number, len(resolutions), detail)
            try:
                candidates += search.find_candidates(top, on_attempt)
            except InfeasibleBudgetError as error:
                faults.append(error)
    if faults and not candidates:
        raise min(faults, key=lambda error: error.fastest_ms or math.inf)
    return candidates


def take_trained(
    context: SearchContext, model: AccuracyModel, trained: Sequence[Structure]
) -> list[Candidate]:
    """Make candidates of trained structures whose stored latencies meet the budget.

    The result is ordered by resolution and then by prediction.
    """
    best_first = sorted(trained, key=lambda each: model.predict(each).order, reverse=True)
    by_resolution = sorted(best_first, key=lambda each: each.resolution)
    return [make_candidate(context, model, structure) for structure in by_resolution]


def _as_part(report: Report, number: int, count: int, detail: str) -> OnAttempt:
    """Report the attempts of one resolution, by its number from 0, as a part of all."""
    return lambda done, total: report(number * total + done, count * total, detail)
