"""Another budget or target from the trials of a study: only measuring, no training."""

from __future__ import annotations

import math
from pathlib import Path
from types import NoneType

import torch

from genets.core.errors import GenetsError, check_type
from genets.core.gpu import check_one_kind
from genets.core.log import get_logger, log_to_file
from genets.core.progress import OnProgress, PhaseTimer
from genets.latency import Budget, Target
from genets.latency.budget import DEFAULT_WAIT_MINUTES
from genets.nas.context import SearchContext
from genets.nas.laboratory import Laboratory
from genets.nas.round_start import current_round
from genets.nas.rounds import fit_model
from genets.nas.selection.budget_search import BudgetSearch, attempt_text
from genets.nas.study import layout
from genets.nas.study.records import Candidate
from genets.nas.study.study import Study

_log = get_logger(__name__)


def select(
    folder: str | Path,
    budget: str,
    *,
    target: Target | None = None,
    resolution: int | None = None,
    wait_minutes: float = DEFAULT_WAIT_MINUTES,
    on_event: OnProgress | None = None,
) -> Candidate:
    """Select a structure for another budget or target from the trials of a study.

    Nothing is trained. For a new target, the latency table is built first.

    Args:
        folder: The study.
        budget: Such as "0.2ms", "150us" or "0.5x"; a relative budget is relative to the MasterNet
            on that target.
        target: By default the study's own.
        resolution: One of the study's, because trials cannot show which is best; by default the
            winner's, or the MasterNet's where there is no winner yet.
        wait_minutes: The longest wait for a calm device.
        on_event: Called with the progress of each phase.

    Returns:
        The best predicted structure whose measured latency meets the budget.

    Raises:
        GenetsError: An argument has a wrong type, or the folder is no study, or it has no trials
            yet.
        InfeasibleBudgetError: No structure meets the budget.
        BusyDeviceError: The device stayed busy, so no measurement could decide on the budget.
    """
    check_type("budget", budget, str, "a text such as '0.5x'")
    allowed = "None or a Target, such as genets.Target(device='cpu')"
    check_type("target", target, (Target, NoneType), allowed)
    return select_top(
        folder, budget, 1,
        target=target, resolution=resolution, wait_minutes=wait_minutes, on_event=on_event,
    )[0]  # fmt: skip


def select_top(
    folder: str | Path,
    budget: str,
    top: int,
    *,
    target: Target | None = None,
    resolution: int | None = None,
    wait_minutes: float = DEFAULT_WAIT_MINUTES,
    on_event: OnProgress | None = None,
    lab: Laboratory | None = None,
) -> list[Candidate]:
    """Select up to `top` structures, each with other block types, the best predicted first.

    Fewer are given where no other types meet the budget. Each is measured, and within the budget.
    See `select` for the other arguments and the errors.
    """
    if top < 1:
        raise GenetsError(f"top must be at least 1, not {top}")
    asked = Budget.parse(budget)
    with Study.open(folder) as study, log_to_file(study.folder / layout.LOG):
        _log.info("select: budget %s, target %s", budget, (target or study.settings.target).name)
        (target or study.settings.target).resolved().check()
        check_one_kind(torch, (target or study.settings.target).device)
        score, num_classes = study.master_score(), study.num_classes()
        if not study.results() or score is None or num_classes is None:
            raise GenetsError(f"study {study.folder} has no trials yet; run its search first")
        context = SearchContext(
            study, num_classes, budget=asked, target=target, lab=lab,
            wait_minutes=wait_minutes, on_event=on_event, timer=unstored_timer(),
        )  # fmt: skip
        # The model of the last round that has selected, with everything that was trained since.
        here = context.in_round(current_round(context, selected=True))
        number = here.round.number
        ended = (*study.screened_elsewhere(number), *study.screened(number))
        screened = {each.structure: each for each in ended if each.status == "done"}.values()
        scored = [*study.trained_before(number + 1), *screened]
        model, pixels = fit_model(here, score, scored), _check_resolution(context, resolution)
        at_pixels = pixels or context.master.resolution
        structures = [s for each in scored if (s := each.structure).resolution == at_pixels]
        search = BudgetSearch(context, model, pixels, screened=structures)
        with context.phase("selection"):
            report, detail = context.report("selection"), attempt_text(context, top)
            selected = search.run(top, lambda done, total: report(done, total, detail))
        for candidate in selected:
            _log.info("selected: %s, %.4g ms per image", candidate.structure, candidate.measured_ms)
        return selected


def unstored_timer() -> PhaseTimer:
    """Make the timer of a selection, which leaves the times of the search as they are."""
    return PhaseTimer({}, lambda seconds: None)


def _check_resolution(context: SearchContext, asked: int | None) -> int | None:
    """Give the resolution to select at; None where the study has only one.

    Raises GenetsError where the study does not have the resolution that was asked for.
    """
    resolutions = context.space.resolutions
    if asked is not None and asked not in resolutions:
        raise GenetsError(
            f"resolution must be one of the study's, {', '.join(map(str, resolutions))}, "
            f"not {asked}"
        )
    if len(resolutions) == 1:
        return None
    if asked is not None:
        return asked
    winners = [winner for each in context.study.each_budget() if (winner := each.selected())]
    # Of several winners, the one whose budget is nearest to the budget that is asked for.
    nearest = min(winners, key=lambda winner: _distance(winner, context.budget), default=None)
    return nearest.structure.resolution if nearest else context.master.resolution


def _distance(winner: Candidate, budget: Budget) -> float:
    """The difference between the winner's budget and another one, in steps of a factor e."""
    return abs(math.log(winner.budget_ms / budget.ms_per_image(winner.master_ms)))
