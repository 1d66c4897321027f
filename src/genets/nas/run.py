"""The search from end to end: its phases in order, each stored in the study as it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from genets.core.errors import GenetsError, InfeasibleBudgetError, SettingsError, StudyError
from genets.data import ImageData, load_data
from genets.latency import Budget, Target
from genets.nas.candidates.export import hand_over
from genets.nas.candidates.training import confirmations_before
from genets.nas.context import OnEvent, SearchContext
from genets.nas.phases import (
    accuracy_model,
    latency_of,
    read_score,
    trained_master,
    trained_winner,
)
from genets.nas.rounds import round_at, round_results, search_rounds
from genets.nas.selection.fastest import check_feasible
from genets.nas.selection.resolutions import left_out, resolution_of
from genets.nas.selection.selecting import keep_selected
from genets.nas.settings.settings import SearchSettings
from genets.nas.study.records import Candidate, RoundResult, SearchResult
from genets.nas.study.study import FAILURE, INFEASIBLE, Study
from genets.nas.trials.workers import training_device
from genets.nas.warnings import (
    master_doubts,
    measuring_doubts,
    round_doubts,
    study_warnings,
    table_doubts,
)
from genets.networks import load_blocks
from genets.networks.onnx_export import check_export_installed
from genets.training import Score, evaluate
from genets.training.teacher import TeacherNetwork

if TYPE_CHECKING:
    from torch import nn

    from genets.nas.accuracy.model import AccuracyModel


def search(
    settings: SearchSettings,
    out: str | Path,
    *,
    workers: int | None = None,
    on_event: OnEvent | None = None,
) -> SearchResult:
    """Find, train, measure and hand over the best network within the budget.

    out: the study's folder; one that was interrupted goes on where it stopped.
    workers: processes for trials; None means one for each core on a CPU, one on a GPU.
    Raises GenetsError, and InfeasibleBudgetError if the budget cannot be kept.
    """
    # Before the folder is made, so that a wrong name does not leave a study behind.
    if workers is not None and workers < 1:
        raise SettingsError(f"workers must be at least 1, not {workers}")
    _check_space(settings)
    settings.target.check()
    device = training_device(settings.training_device)
    check_export_installed()
    data = load_data(settings.data, settings.resolution, seed=settings.seed, device=device)
    _check_resolutions(settings)
    with Study.create_or_resume(out, settings) as study, _failure_noted(study):
        _check_same_data(study, data)
        for file in settings.own_blocks:
            load_blocks(file).copy_to(study.folder)
        session = SearchContext(study, data.num_classes, workers=workers, on_event=on_event)
        return _search(session, data)


def _check_space(settings: SearchSettings) -> None:
    """Raise SettingsError where there is nothing to choose."""
    around = settings.space.design_space().around(settings.structure)
    if around.size == len(around.resolutions):
        raise SettingsError(
            "the design space holds one structure, the MasterNet's own; give space.blocks more "
            "blocks, or a wider space.width_range, stem_width_range, head_width_range or "
            "depth_change"
        )


def _check_resolutions(settings: SearchSettings) -> None:
    """Raise DataError where the data cannot be had so small or so large."""
    for resolution in {*settings.space.resolutions[:1], *settings.space.resolutions[-1:]}:
        load_data(settings.data, resolution, seed=settings.seed, check=False)


@contextmanager
def _failure_noted(study: Study) -> Iterator[None]:
    """Keeps the sentence that a search ends with in the study, for its report."""
    (study.folder / f"{FAILURE}.json").unlink(missing_ok=True)
    try:
        yield
    except GenetsError as error:
        infeasible = isinstance(error, InfeasibleBudgetError)
        if infeasible:
            error.args = (f"{error}; a larger budget may be given for the same study",)
        with suppress(StudyError):  # a full disk must not hide what went wrong
            study.save_json(FAILURE, {"sentence": str(error), INFEASIBLE: infeasible})
        raise


def select(
    folder: str | Path,
    budget: str,
    *,
    target: Target | None = None,
    resolution: int | None = None,
    on_event: OnEvent | None = None,
) -> Candidate:
    """Another budget or target from the trials of a study, without any training.

    A relative budget such as 0.5x is relative to the MasterNet on that target.
    resolution: one of the study's, as trials cannot tell which is best; by default the winner's,
        or the MasterNet's where there is no winner yet.
    Raises GenetsError, and InfeasibleBudgetError if the budget cannot be kept.
    """
    return select_top(
        folder,
        budget,
        1,
        target=target,
        resolution=resolution,
        on_event=on_event,
    )[0]


def select_top(
    folder: str | Path,
    budget: str,
    top: int,
    *,
    target: Target | None = None,
    resolution: int | None = None,
    on_event: OnEvent | None = None,
) -> list[Candidate]:
    """Up to `top` alternatives of other block types, the best first; see `select`.

    Fewer where no more types keep the budget. Each is measured, and within it.
    """
    if top < 1:
        raise GenetsError(f"top must be at least 1, not {top}")
    wanted = Budget.parse(budget)
    with Study.open(folder) as study:
        target = (target or study.settings.target).resolved()
        target.check()
        score = study.load_json("master", read_score)
        num_classes = study.load_json("data", lambda record: len(record["class_names"]))
        if not study.results() or score is None or num_classes is None:
            raise GenetsError(f"study {study.folder} has no trials yet; run its search first")
        session = SearchContext(study, num_classes, on_event=on_event)
        model = _latest_model(session, score)
        resolution = resolution_of(session, resolution)
        table, measured = latency_of(session, target)
        return keep_selected(session, wanted, table, measured, model, top, resolution=resolution)


def _latest_model(session: SearchContext, master: Score) -> AccuracyModel:
    """Of the last round that has got to its selection; it knows all that was confirmed since.

    master: the first MasterNet's score.
    """
    there = round_at(session, selected=True)
    confirmed = confirmations_before(session, there.number + 1)
    results = session.study.results(there.number)
    return accuracy_model(session.in_round(there), results, master, confirmed)


def _search(session: SearchContext, data: ImageData) -> SearchResult:
    settings = session.settings
    table, measured = latency_of(session, settings.target)
    budget = Budget.parse(settings.budget)
    check_feasible(session.around, budget, table, measured.measure)
    master_net, master_score = trained_master(session, data)
    selected, model = search_rounds(session, master_score, budget, table, measured)
    winner_data = data
    if selected.structure.resolution != data.resolution:
        resolution = selected.structure.resolution
        winner_data = load_data(
            settings.data, resolution, seed=settings.seed, device=session.device, check=False
        )
        if winner_data.broken and data.broken:
            winner_data.broken.reasons |= data.broken.reasons  # they were named
    teacher = TeacherNetwork(master_net, data.resolution, data.mean, data.std, winner_data)
    teacher.to(session.device)
    winner_net = trained_winner(session, winner_data, selected.structure, teacher)
    with session.phase("hand-over"):
        scored = ((master_net, data), (winner_net, winner_data))
        rounds = round_results(session, master_score)
        return _handed_over(session, selected, model, scored, rounds)


def _handed_over(
    session: SearchContext,
    selected: Candidate,
    model: AccuracyModel,
    scored: tuple[tuple[nn.Module, ImageData], tuple[nn.Module, ImageData]],
    rounds: tuple[RoundResult, ...],
) -> SearchResult:
    """scored: MasterNet and winner, here, and only here, on the test split of their images."""
    tell = session.tell("hand-over")
    tell(0, 1)
    scores = [_scores(evaluate(net, data.test, device=session.device)) for net, data in scored]
    confirmed = tuple({one.structure: one for each in rounds for one in each.confirmed}.values())
    warned = table_doubts(selected.table_rmspe) + measuring_doubts(selected)
    warned += master_doubts(session.settings, selected, rounds[0].score, confirmed)
    for each in rounds:
        warned += round_doubts(each.number, each.master, each.confirmed)
    warned += study_warnings(model, session.settings, session.study.folder)
    result = SearchResult(
        selected=selected,
        master=scores[0],
        winner=scores[1],
        trials_done=sum(each.trials_done for each in rounds),
        trials_failed=sum(each.trials_failed for each in rounds),
        folder=session.study.folder,
        files={},
        seconds=session.seconds,
        warnings=(*left_out(session.around, selected, confirmed), *warned),
        confirmed=confirmed,
        metric=session.settings.metric,
        rounds=rounds if session.settings.rounds > 1 else (),
    )
    result = hand_over(result, *scored[1])
    tell(1, 1)
    return result


def _check_same_data(study: Study, data: ImageData) -> None:
    """Raise StudyError if the images are not those that the study began with.

    Other images would be cut into other splits: what was trained on could be scored on.
    """
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    now = {
        "class_names": list(data.class_names),
        **{name: len(split) for name, split in splits.items()},
        "files": data.fingerprint,
    }
    before = study.load_json("data", dict)
    if before is None:
        study.save_json("data", now)
        return
    changed = [
        f"{name}: {before.get(name)} then, {value} now"
        for name, value in now.items()
        if before.get(name) != value
    ]
    if changed:
        raise StudyError(
            f"the images in {data.name} have changed since study {study.folder} began "
            f"({'; '.join(changed)}); begin another study"
        )


def _scores(score: Score) -> dict[str, float]:
    return {"top1": score.top1, "cross_entropy": score.cross_entropy}
