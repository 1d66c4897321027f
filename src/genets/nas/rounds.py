"""The rounds of a search: trials, selection and confirmation around one MasterNet after another.

A linear model of trials holds near the MasterNet only. So a further round moves the MasterNet to
the best candidate that was trained so far, takes trials around it there, and selects and confirms
again. The rounds end where no candidate is better than the MasterNet, or with their number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from genets.core.errors import InfeasibleBudgetError
from genets.latency import Budget, LatencyTable
from genets.nas.accuracy.model import AccuracyModel
from genets.nas.candidates.training import (
    best_confirmed,
    confirm,
    confirm_job,
    confirmations_before,
    stored_confirmations,
)
from genets.nas.context import SearchContext
from genets.nas.phases import accuracy_model, run_trials
from genets.nas.round import CANDIDATES, Round, Start, file_of, moved
from genets.nas.selection.measured import MeasuredNetworks
from genets.nas.selection.resolutions import keep_at_each
from genets.nas.study.records import Candidate, RoundResult
from genets.training import Score


def search_rounds(
    session: SearchContext,
    master: Score,
    budget: Budget,
    table: LatencyTable,
    measured: MeasuredNetworks,
) -> tuple[Candidate, AccuracyModel]:
    """The structure to hand over, and the model that the last round selected by.

    master: the first MasterNet's score. Begins with the round that the study is in: what was
    decided in those before is stored. Raises InfeasibleBudgetError in the first round.
    """
    study, rounds = session.study, session.settings.rounds
    here = session.in_round(round_at(session))
    while True:
        number = here.round.number
        results = run_trials(here)
        model = accuracy_model(here, results, master, confirmations_before(session, number))
        selected = study.load_json("selected", Candidate.from_json)
        if selected is not None:
            return selected, model
        candidates = _candidates(here, budget, table, measured, model)
        if rounds == len(candidates) == 1:
            selected = candidates[0]
        else:
            best = _best(here, candidates)
            if number < rounds and _is_better_placed(here, best, master, budget, measured):
                study.begin_round(number + 1, best)
                here = session.in_round(round_at(session))
                continue
            selected = best.selected
        study.save_json("selected", selected.to_json())
        return selected, model


def round_at(session: SearchContext, *, selected: bool = False) -> Round:
    """The round that the study is in; if `selected`, the last that has got to its selection.

    The first where none has. Raises StudyError.
    """
    starts = session.study.starts()
    number = len(starts) + 1
    while selected and number > 1 and not _has_candidates(session, number):
        number -= 1
    if number == 1:
        return session.round
    start = starts[number - 2]
    weights = confirm_job(session).weights_of(start.structure)
    return Round(number, moved(session.around, start.structure), weights, start)


def _has_candidates(session: SearchContext, number: int) -> bool:
    return (session.study.folder / f"{file_of(number, CANDIDATES)}.json").exists()


def _candidates(
    session: SearchContext,
    budget: Budget,
    table: LatencyTable,
    measured: MeasuredNetworks,
    model: AccuracyModel,
) -> list[Candidate]:
    """What keeps the budget, the best predicted first; in a later round its MasterNet does."""
    start, name = session.round.start, session.round.file(CANDIDATES)
    found = session.study.load_json(name, read_candidates)
    if found is None:
        try:
            found = keep_at_each(session, budget, table, measured, model)
        except InfeasibleBudgetError:
            if start is None:
                raise
            found = [start.selected]
        session.study.save_json(name, [candidate.to_json() for candidate in found])
    return found


def _best(session: SearchContext, candidates: Sequence[Candidate]) -> Start:
    """The best on validation images of the candidates and the MasterNet of a later round."""
    metric, start = session.settings.metric, session.round.start
    confirmed = confirm(session, candidates)
    best = best_confirmed(confirmed, metric)
    found = Start(
        next(candidate for candidate in candidates if candidate.structure == best),
        next(one for one in confirmed if one.structure == best),
    )
    return start if start and start.value(metric) >= found.value(metric) else found


def _is_better_placed(
    session: SearchContext, best: Start, master: Score, budget: Budget, measured: MeasuredNetworks
) -> bool:
    """Whether trials around `best` tell more of what is looked for than those that there are.

    They do unless the MasterNet itself keeps the budget and is at least as good.
    """
    if session.round.start is not None:
        return best != session.round.start
    if best.structure == session.master:
        return False
    metric = session.settings.metric
    own = metric.oriented(master.value(metric))
    keeps = measured.measure([session.master])[session.master].keeps(budget)
    return not keeps or best.value(metric) > own


def read_candidates(record: Any) -> list[Candidate]:
    """Raises ValueError where there is none."""
    candidates = [Candidate.from_json(row) for row in record]
    if not candidates:
        raise ValueError("it names no candidate")
    return candidates


def round_results(session: SearchContext, master: Score) -> tuple[RoundResult, ...]:
    """What each round came to, the first one first."""
    study = session.study
    starts: list[Start | None] = [None, *study.starts()]
    found = []
    for number, start in enumerate(starts, start=1):
        results = study.results(number)
        candidates = study.load_json(file_of(number, CANDIDATES), read_candidates) or []
        structures = [candidate.structure for candidate in candidates]
        score = start.confirmed if start else master
        assert score.top1 is not None
        assert score.cross_entropy is not None
        found.append(
            RoundResult(
                number=number,
                master=start.structure if start else session.master,
                score={"top1": score.top1, "cross_entropy": score.cross_entropy},
                trials_done=sum(r.status == "done" for r in results),
                trials_failed=sum(r.status == "failed" for r in results),
                candidates=tuple(candidates),
                # Not those of a selection from fewer trials.
                confirmed=tuple(c for c in stored_confirmations(session, number)
                                if c.structure in structures),
            )
        )  # fmt: skip
    return tuple(found)
