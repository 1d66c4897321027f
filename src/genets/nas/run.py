"""The search from end to end: its phases in order, each stored in the study as it ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genets.data import ImageData, load_data
from genets.errors import GenetsError, SettingsError, StudyError, TargetError
from genets.latency import Budget, LatencyTable, Target
from genets.latency.table_file import TableSettings
from genets.nas.cautious import check_caution
from genets.nas.executors import EXECUTORS
from genets.nas.fine_tuning import TrialJob
from genets.nas.hand_over import hand_over
from genets.nas.measured import MeasuredNetworks
from genets.nas.planning import group_trials, plan_trials
from genets.nas.promise import check_feasible
from genets.nas.regression import AccuracyModel
from genets.nas.result import SearchResult, Selected
from genets.nas.selecting import keep_selected
from genets.nas.session import OnEvent, Session, training_device
from genets.nas.settings import SearchSettings
from genets.nas.study import Study
from genets.nas.trial import Trial, TrialResult
from genets.networks import load_weights, save_weights
from genets.networks.onnx_export import check_export_installed
from genets.structure import Structure, format_super_block
from genets.training import Score, evaluate

if TYPE_CHECKING:
    from torch import nn

FAILURE = "failure"  # why the last run of a search stopped


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
    settings.target.check()
    training_device(settings.training_device)
    check_export_installed()
    data = load_data(settings.data, settings.resolution, seed=settings.seed)
    with Study.create_or_resume(out, settings) as study, _failure_noted(study):
        _check_same_data(study, data)
        session = Session(study, data.num_classes, workers=workers, on_event=on_event)
        return _search(session, data)


@contextmanager
def _failure_noted(study: Study) -> Iterator[None]:
    """Keeps the sentence that a search ends with in the study, for its report."""
    (study.folder / f"{FAILURE}.json").unlink(missing_ok=True)
    try:
        yield
    except GenetsError as error:
        with suppress(StudyError):  # a full disk must not hide what went wrong
            study.save_json(FAILURE, {"sentence": str(error)})
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
        results, score = study.results(), study.load_json("master", _read_score)
        num_classes = study.load_json("data", lambda record: len(record["class_names"]))
        if not results or score is None or num_classes is None:
            raise GenetsError(f"study {study.folder} has no trials yet; run its search first")
        session = Session(study, num_classes, on_event=on_event)
        model = _accuracy_model(session, results, score)
        check_caution(caution, model)
        table, measured = _latency(session, target)
        return keep_selected(session, wanted, table, measured, model, top, caution)


def _search(session: Session, data: ImageData) -> SearchResult:
    study, settings = session.study, session.settings
    table, measured = _latency(session, settings.target)
    budget = Budget.parse(settings.budget)
    check_feasible(session.around, budget, table, measured.measure)
    master_net, master_score = _trained_master(session, data)
    results = _trials(session)
    model = _accuracy_model(session, results, master_score)
    selected = study.load_json("selected", Selected.from_json)
    if selected is None:
        selected = keep_selected(session, budget, table, measured, model)[0]
        study.save_json("selected", selected.to_json())
    winner_net = _trained_winner(session, data, selected.structure, master_net)
    tell = session.tell("hand-over")
    tell(0, 1)
    with session.phase("hand-over"):
        result = SearchResult(
            selected=selected,
            master=_scores(evaluate(master_net, data.test, device=session.device)),
            winner=_scores(evaluate(winner_net, data.test, device=session.device)),
            trials_done=sum(r.status == "done" for r in results),
            trials_failed=sum(r.status == "failed" for r in results),
            folder=study.folder,
            files={},
            seconds=session.seconds,
            warnings=tuple(model.warnings()),
        )
        result = hand_over(result, winner_net, data)
    tell(1, 1)
    return result


def _latency(session: Session, target: Target) -> tuple[LatencyTable, MeasuredNetworks]:
    """The latency table of a target, and the networks measured on it so far."""
    folder, num_classes = session.study.latency_folder, session.num_classes
    path = folder / f"{target.name}.json"
    measured = MeasuredNetworks(
        folder / f"{target.name}-measured.json",
        session.master,
        target,
        num_classes,
        session.settings.measure_seconds,
    )
    with session.phase("latency table"):
        if path.exists():
            expected = TableSettings(session.around, target, num_classes)
            try:
                table = LatencyTable.load(path, expected)
            except TargetError as error:
                raise StudyError(f"{error}; remove {folder} to have it measured here") from error
        else:
            tell = session.tell("latency table")
            table = LatencyTable.build(
                session.master,
                session.around,
                target,
                num_classes,
                seed=session.settings.seed,
                time_limit_s=session.settings.table_seconds,
                on_progress=lambda share: tell(round(100 * share), 100),
            )
            table.save(path)
        measured.measure([session.master])
    return table, measured


def _trained_master(session: Session, data: ImageData) -> tuple[nn.Module, Score]:
    """The trained MasterNet, and its score on the validation split."""
    study = session.study
    net = session.fresh_network(session.master, "master")
    score = study.load_json("master", _read_score)
    if score is not None:
        load_weights(net, study.master_weights)
        return net, score
    recipe = session.settings.master_training.recipe()
    with session.phase("MasterNet training"):
        session.train(net, data.train, recipe, "MasterNet training")
        score = evaluate(net, data.validation, device=session.device)
        _check_learned(score, data.num_classes)
        save_weights(net, study.master_weights, {"structure": str(session.master)})
        study.save_json("master", asdict(score))
    return net, score


def _check_learned(score: Score, num_classes: int) -> None:
    """A MasterNet at chance level has nothing to teach and no trial would mean anything."""
    chance = 1 / num_classes
    if score.top1 < chance + 0.1 * (1 - chance):
        raise GenetsError(
            f"the MasterNet did not learn: {score.top1:.1%} of the validation images are right, "
            f"where guessing gives {chance:.1%}; check the data, or give it more "
            "epochs, in another study folder"
        )


def _trials(session: Session) -> list[TrialResult]:
    """The results of all trials; those that are missing are run and recorded as they end."""
    settings = session.settings
    planned = plan_trials(
        session.around,
        settings.trials_per_super_block,
        settings.controls_per_super_block,
        seed=settings.seed,
    )
    missing = session.study.missing(planned, retry_failed=not session.study.is_selected)
    if missing:
        with session.phase("trials"):
            _run_trials(session, missing, len(planned))
    return session.study.results()


def _run_trials(session: Session, missing: Sequence[Trial], planned: int) -> None:
    settings = session.settings
    job = TrialJob(
        master=session.master,
        master_weights=session.study.master_weights,
        data=settings.data,
        recipe=settings.trial_training.recipe(),
        thaw=settings.trial_training.thaw,
        seed=settings.seed,
        device=session.device,
    )
    tell, done = session.tell("trials"), planned - len(missing)
    tell(done, planned)
    for result in EXECUTORS["inline"](job, group_trials(missing), session.workers):
        session.study.record(result)
        done += 1
        tell(done, planned, format_super_block(result.trial.super_block))


def _accuracy_model(
    session: Session, results: Sequence[TrialResult], master: Score
) -> AccuracyModel:
    response = session.settings.response
    return AccuracyModel.fit(
        session.master,
        results,
        getattr(master, response),
        response=response,
        form=session.settings.regression,
    )


def _trained_winner(
    session: Session, data: ImageData, structure: Structure, teacher: nn.Module
) -> nn.Module:
    """The winner, trained from scratch with the MasterNet as its teacher."""
    path = session.study.winner_weights
    net = session.fresh_network(structure, "final")
    if path.exists():
        load_weights(net, path)
        return net
    recipe = session.settings.final_training.recipe()
    with session.phase("final training"):
        session.train(net, data.train, recipe, "final training", teacher)
        save_weights(net, path, {"structure": str(structure)})
    return net


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


def _read_score(record: Any) -> Score:
    return Score(**record)


def _scores(score: Score) -> dict[str, float]:
    return {"top1": score.top1, "cross_entropy": score.cross_entropy}
