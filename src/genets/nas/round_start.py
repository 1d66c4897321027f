"""The start of a round: its MasterNet, the weights of this MasterNet, and its search space."""

from __future__ import annotations

from dataclasses import replace

from genets.core.errors import StudyError
from genets.nas.candidates.training import make_candidate_job
from genets.nas.context import Round, SearchContext
from genets.structure import SearchSpace, Structure


def current_round(context: SearchContext, *, selected: bool = False) -> Round:
    """Give the round that the study is in.

    Args:
        context: In the first round.
        selected: Whether to give the last round that has selected its candidates instead, or the
            first round if none has.

    Raises:
        StudyError: A file is damaged, or a MasterNet is outside the search space.
    """
    number = context.study.round_numbers[-1]
    while selected and number > 1 and not context.study.has_candidates(number):
        number -= 1
    return round_of(context, number)


def round_of(context: SearchContext, number: int) -> Round:
    """Give a round that has begun, by its number from 1. Raises StudyError; see `current_round`."""
    if number == 1:
        return Round(1, context.space, context.study.master_weights)
    start = context.study.starts()[number - 2]
    weights = make_candidate_job(context).weights_path(start.structure)
    return Round(number, move_space(context.space, start.structure), weights, start)


def move_space(first: SearchSpace, master: Structure) -> SearchSpace:
    """Move the MasterNet, but not the space, because the latency table covers that space alone.

    Raises StudyError where `master` is no structure of the space.
    """
    is_inside = master.indices == first.master.indices and all(
        master.stage(index) in first.choices(index) for index in master.indices
    )
    if not is_inside:
        raise StudyError(
            f"the MasterNet of a later round must be of the study's design space, not {master}"
        )
    return replace(first, master=master, origin=first.master)
