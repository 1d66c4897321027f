"""A search at several resolutions (paper, section 4.2, Searching for Resolution).

The pseudo-gradients of the trials, which are made at the MasterNet's resolution, serve every
resolution. So under the same budget the best structures of each are selected independently.
Which resolution is best no trial tells: candidates of each are trained and scored at their own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from genets.core.errors import GenetsError, InfeasibleBudgetError
from genets.latency import Budget, LatencyTable
from genets.nas.accuracy.model import AccuracyModel
from genets.nas.context import SearchContext
from genets.nas.selection.budget_search import OnRound
from genets.nas.selection.measured import MeasuredNetworks
from genets.nas.selection.selecting import keep_selected
from genets.nas.study.records import Candidate, TrainedCandidate
from genets.structure import SearchSpace


def keep_at_each(
    session: SearchContext,
    budget: Budget,
    table: LatencyTable,
    measured: MeasuredNetworks,
    model: AccuracyModel,
) -> list[Candidate]:
    """The candidates of a search, by resolution, and of each the best predicted first.

    As many of each: the best of more would be better for that alone. A resolution at which
    nothing keeps the budget has none. Raises InfeasibleBudgetError where none has any.
    """
    resolutions, confirm = session.around.resolutions, session.settings.confirm
    if len(resolutions) == 1:
        return keep_selected(session, budget, table, measured, model, confirm)
    each = math.ceil(confirm / len(resolutions))
    found: list[Candidate] = []
    faults: list[InfeasibleBudgetError] = []
    for number, resolution in enumerate(resolutions):
        told = _told(session, number)
        try:
            found += keep_selected(
                session,
                budget,
                table,
                measured,
                model,
                each,
                resolution=resolution,
                on_round=told,
            )
        except InfeasibleBudgetError as error:
            faults.append(error)
    if not found:
        raise min(faults, key=lambda error: error.fastest_ms or math.inf)
    return found


def _told(session: SearchContext, number: int) -> OnRound:
    """Progress of one resolution as part of that of all; number: from 0."""
    tell, resolutions = session.tell("verification"), session.around.resolutions
    detail = f"{resolutions[number]} pixels"
    return lambda done, total: tell(number * total + done, len(resolutions) * total, detail)


def left_out(
    around: SearchSpace, selected: Candidate, confirmed: Sequence[TrainedCandidate]
) -> list[str]:
    """One sentence for each resolution of which the winner had no rival, as none was in time."""
    seen = {selected.structure.resolution, *(one.structure.resolution for one in confirmed)}
    return [
        f"no structure at {resolution} pixels was found to keep the budget, so none was trained"
        for resolution in around.resolutions
        if resolution not in seen
    ]


def resolution_of(session: SearchContext, asked: int | None) -> int | None:
    """The one to select at; None where the study has one alone.

    By default the winner's, which training chose. Raises GenetsError for one it has not.
    """
    known = session.around.resolutions
    if asked is not None and asked not in known:
        raise GenetsError(
            f"resolution must be one of the study's, {', '.join(map(str, known))}, not {asked}"
        )
    if len(known) == 1:
        return None
    selected = session.study.load_json("selected", Candidate.from_json)
    master = session.master.resolution
    return asked or (selected.structure.resolution if selected else master)
