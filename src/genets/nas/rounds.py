"""The rounds of a search: trials, selection and candidates around one MasterNet after another.

A linear model of trials holds near the MasterNet only. So a further round moves the MasterNet to
the best candidate that was trained so far, runs trials around it, and selects and trains
candidates again. The rounds end when no candidate is better than the MasterNet, or with the number
of rounds that was asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

from genets.core.errors import InfeasibleBudgetError
from genets.nas.accuracy.model import AccuracyModel
from genets.nas.accuracy.round_trials import RoundTrials, fit_rounds
from genets.nas.candidates.lost_weights import restore_start
from genets.nas.candidates.screening import screen
from genets.nas.candidates.training import best_trained, train_candidates
from genets.nas.context import SearchContext
from genets.nas.round_start import current_round
from genets.nas.selection.resolutions import select_at_each_resolution, take_trained
from genets.nas.settings.final_training import continues_candidate
from genets.nas.study import layout
from genets.nas.study.records import Candidate, RoundResult, RoundStart, TrainedCandidate
from genets.nas.trials.run import run_trials
from genets.structure import Structure
from genets.training import Score
from genets.training.score import comparable


def search_rounds(context: SearchContext, master: Score) -> Candidate:
    """Run the rounds, from the round that the study is in.

    Args:
        context: In the first round.
        master: The first MasterNet's score.

    Returns:
        The winner.

    Raises:
        InfeasibleBudgetError: No structure meets the budget, in the first round.
    """
    study, rounds = context.study, context.settings.rounds
    while True:
        here = context.in_round(current_round(context))
        if (winner := study.selected()) is not None:
            return winner
        restore_start(here)
        number = here.round.number
        candidates = _select_candidates(here, master)
        if rounds == len(candidates) == 1 and not continues_candidate(context.settings):
            winner = candidates[0]
        else:
            best = _best_candidate(here, candidates)
            if number < rounds and _is_better_start(here, best, master):
                study.begin_round(number + 1, best)
                continue
            winner = best.selected
        study.save_json(layout.SELECTED, winner.to_json())
        return winner


def fit_model(
    context: SearchContext, master: Score, trained: Sequence[TrainedCandidate]
) -> AccuracyModel:
    """Fit the accuracy model of a round.

    Args:
        context: In the round.
        master: The first MasterNet's score.
        trained: Structures that were trained as candidates or screened.
    """
    study = context.study
    masters = study.masters(master)[: context.round.number]
    rounds = [
        RoundTrials(structure, score, tuple(study.results(number)))
        for number, (structure, score) in enumerate(masters, start=1)
    ]
    return fit_rounds(context.settings, rounds, trained)


def _select_candidates(context: SearchContext, master: Score) -> list[Candidate]:
    """Run the trials of a round and select candidates, unless they are stored."""
    study, start, number = context.study, context.round.start, context.round.number
    run_trials(context)
    candidates = study.candidates(number)
    if not candidates:
        trained = study.trained_before(number)
        within = _within(context, trained)

        def fit(screened: Sequence[TrainedCandidate]) -> AccuracyModel:
            return fit_model(context, master, [*trained, *screened])

        screened = screen(context, fit, within)
        model = fit(screened)
        structures = [each.structure for each in screened]
        try:
            measured = study.screening(number).measured
            candidates = select_at_each_resolution(context, model, within, structures, measured)
        except InfeasibleBudgetError:
            if start is None and not within:
                raise
        if start is None:
            selected = {candidate.structure for candidate in candidates}
            is_compared = context.settings.confirm > 1 and not context.settings.from_scratch
            if is_compared and _meets(context, context.master):
                within = [*within, context.master]  # it is trained already
            others = [s for s in dict.fromkeys(within) if s not in selected]
            candidates += take_trained(context, model, others)  # which other budgets have trained
        elif not candidates:
            candidates = [start.selected]  # the MasterNet of a later round meets the budget
        rows = [candidate.to_json() for candidate in candidates]
        study.save_json(layout.in_round(number, layout.CANDIDATES), rows)
    return candidates


def _within(context: SearchContext, trained: Sequence[TrainedCandidate]) -> list[Structure]:
    """The trained structures that meet the budget.

    A MasterNet whose weights are inherited was not trained as a candidate.
    """
    done = (each.structure for each in trained if each.status == "done")
    within = [structure for structure in done if _meets(context, structure)]
    return [s for s in within if context.settings.from_scratch or s != context.master]


def _meets(context: SearchContext, structure: Structure) -> bool:
    """Whether the stored latency of a structure meets the budget."""
    measured = context.latency.measured
    return structure in measured and measured[structure].meets(context.budget)


def _best_candidate(context: SearchContext, candidates: Sequence[Candidate]) -> RoundStart:
    """Train the candidates; the best of them and of a later round's MasterNet is the result."""
    metric, start = context.settings.metric, context.round.start
    best = best_trained(train_candidates(context, candidates), metric)
    if start and best_trained([start.confirmed, best], metric) == start.confirmed:
        return start
    selected = next(c for c in candidates if c.structure == best.structure)
    return RoundStart(selected, best)


def _is_better_start(context: SearchContext, best: RoundStart, master: Score) -> bool:
    """Whether trials around `best` are more useful than the trials of this round.

    They are, unless the MasterNet itself meets the budget and is at least as good.
    """
    if context.round.start is not None:
        return best != context.round.start
    if best.structure == context.master:
        return False
    metric = context.settings.metric
    own, new = (
        metric.oriented(score[metric]) for score in comparable([master, best.confirmed.score])
    )
    measured = context.latency.measure([context.master])[context.master]
    return not measured.meets(context.budget) or new > own


def round_results(context: SearchContext, master: Score) -> tuple[RoundResult, ...]:
    """Give the results of all rounds, in order. master: the first MasterNet's score."""
    study = context.study
    rounds = []
    for number, (structure, score) in enumerate(study.masters(master), start=1):
        results, candidates = study.results(number), study.candidates(number)
        structures = {candidate.structure for candidate in candidates}
        rounds.append(
            RoundResult(
                number=number,
                master=structure,
                score=score,
                trials_done=sum(r.status == "done" for r in results),
                trials_failed=sum(r.status == "failed" for r in results),
                candidates=tuple(candidates),
                # Without the candidates of a selection from fewer trials.
                confirmed=tuple(t for t in study.trained(number) if t.structure in structures),
            )
        )
    return tuple(rounds)
