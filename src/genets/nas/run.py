"""The search from end to end: its phases in order, each stored in the study as it ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genets.data import ImageData, load_data
from genets.errors import GenetsError, InfeasibleBudgetError, SettingsError, StudyError
from genets.latency import Budget, Target
from genets.nas.cautious import check_caution
from genets.nas.confirmation import best_confirmed, confirm, stored_confirmations
from genets.nas.hand_over import hand_over
from genets.nas.phases import (
    accuracy_model,
    latency_of,
    read_score,
    run_trials,
    trained_master,
    trained_winner,
)
from genets.nas.promise import check_feasible
from genets.nas.result import SearchResult, Selected
from genets.nas.selecting import keep_selected
from genets.nas.session import OnEvent, Session, training_device
from genets.nas.settings import SearchSettings
from genets.nas.study import FAILURE, INFEASIBLE, Study
from genets.networks import load_blocks
from genets.networks.onnx_export import check_export_installed
from genets.training import Score, evaluate

if TYPE_CHECKING:
    from torch import nn

    from genets.nas.regression import AccuracyModel
    from genets.nas.trial import TrialResult


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
    training_device(settings.training_device)
    check_export_installed()
    data = load_data(settings.data, settings.resolution, seed=settings.seed)
    with Study.create_or_resume(out, settings) as study, _failure_noted(study):
        _check_same_data(study, data)
        for file in settings.own_blocks:
            load_blocks(file).copy_to(study.folder)
        session = Session(study, data.num_classes, workers=workers, on_event=on_event)
        return _search(session, data)


def _check_space(settings: SearchSettings) -> None:
    """Raise SettingsError where there is nothing to choose."""
    if settings.space.design_space().around(settings.structure).size == 1:
        raise SettingsError(
            "the design space holds one structure, the MasterNet's own; give space.blocks more "
            "blocks, or a wider space.width_range or space.depth_change"
        )


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
    caution: float = 0.0,
    on_event: OnEvent | None = None,
) -> Selected:
    """Another budget or target from the trials of a study, without any training.

    A relative budget such as 0.5x is relative to the MasterNet on that target.
    caution: standard deviations that are taken off each structure's predicted change of value
        before the best is chosen; see `cautious`.
    Raises GenetsError, and InfeasibleBudgetError if the budget cannot be kept.
    """
    return select_top(folder, budget, 1, target=target, caution=caution, on_event=on_event)[0]


def select_top(
    folder: str | Path,
    budget: str,
    top: int,
    *,
    target: Target | None = None,
    caution: float = 0.0,
    on_event: OnEvent | None = None,
) -> list[Selected]:
    """Up to `top` alternatives of other block types, the best first; see `select`.

    Fewer where no more types keep the budget. Each is measured, and within it.
    """
    if top < 1:
        raise GenetsError(f"top must be at least 1, not {top}")
    wanted = Budget.parse(budget)
    with Study.open(folder) as study:
        target = (target or study.settings.target).resolved()
        target.check()
        results, score = study.results(), study.load_json("master", read_score)
        num_classes = study.load_json("data", lambda record: len(record["class_names"]))
        if not results or score is None or num_classes is None:
            raise GenetsError(f"study {study.folder} has no trials yet; run its search first")
        session = Session(study, num_classes, on_event=on_event)
        model = accuracy_model(session, results, score)
        check_caution(caution, model)
        table, measured = latency_of(session, target)
        return keep_selected(session, wanted, table, measured, model, top, caution)


def _search(session: Session, data: ImageData) -> SearchResult:
    study, settings = session.study, session.settings
    table, measured = latency_of(session, settings.target)
    budget = Budget.parse(settings.budget)
    check_feasible(session.around, budget, table, measured.measure)
    master_net, master_score = trained_master(session, data)
    results = run_trials(session)
    model = accuracy_model(session, results, master_score)
    selected = study.load_json("selected", Selected.from_json)
    if selected is None:
        candidates = study.load_json("candidates", _read_candidates)
        if candidates is None:
            candidates = keep_selected(session, budget, table, measured, model, settings.confirm)
            study.save_json("candidates", [candidate.to_json() for candidate in candidates])
        selected = _chosen(session, candidates)
        study.save_json("selected", selected.to_json())
    winner_net = trained_winner(session, data, selected.structure, master_net)
    with session.phase("hand-over"):
        return _handed_over(session, data, selected, model, (master_net, winner_net), results)


def _handed_over(
    session: Session,
    data: ImageData,
    selected: Selected,
    model: AccuracyModel,
    nets: tuple[nn.Module, nn.Module],
    results: Sequence[TrialResult],
) -> SearchResult:
    """nets: the MasterNet and the winner, scored here, and only here, on the test split."""
    tell = session.tell("hand-over")
    tell(0, 1)
    scores = [_scores(evaluate(net, data.test, device=session.device)) for net in nets]
    result = SearchResult(
        selected=selected,
        master=scores[0],
        winner=scores[1],
        trials_done=sum(r.status == "done" for r in results),
        trials_failed=sum(r.status == "failed" for r in results),
        folder=session.study.folder,
        files={},
        seconds=session.seconds,
        warnings=tuple(model.warnings()),
        confirmed=tuple(stored_confirmations(session)),
    )
    result = hand_over(result, nets[1], data)
    tell(1, 1)
    return result


def _chosen(session: Session, candidates: Sequence[Selected]) -> Selected:
    """The best on validation images, where there is a choice."""
    if len(candidates) == 1:
        return candidates[0]
    best = best_confirmed(confirm(session, candidates), session.settings.response)
    return next(candidate for candidate in candidates if candidate.structure == best)


def _read_candidates(record: Any) -> list[Selected]:
    candidates = [Selected.from_json(row) for row in record]
    if not candidates:
        raise ValueError("it names no candidate")
    return candidates


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
