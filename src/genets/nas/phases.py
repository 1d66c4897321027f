"""The phases of a search up to its trials, and the last one; each stored in the study as it ends.

Selection is in `selecting`, confirmation in `confirmation`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from genets.core.errors import GenetsError, StudyError, TargetError
from genets.data import ImageData
from genets.latency import LatencyTable, Target
from genets.latency.predictor.storage import TableSettings
from genets.nas.accuracy.model import AccuracyModel
from genets.nas.candidates.training import confirm_job
from genets.nas.context import SearchContext
from genets.nas.selection.measured import MeasuredNetworks
from genets.nas.study.records import TrainedCandidate, Trial, TrialResult
from genets.nas.trials.plan import GROUP_SIZE, group_trials, plan_trials
from genets.nas.trials.runner import TrialJob
from genets.nas.trials.workers import EXECUTORS
from genets.networks import load_weights, save_weights
from genets.networks.own_blocks import where_loaded
from genets.structure import Structure, format_super_block
from genets.training import Score, evaluate

if TYPE_CHECKING:
    from torch import nn


def latency_of(session: SearchContext, target: Target) -> tuple[LatencyTable, MeasuredNetworks]:
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


def trained_master(session: SearchContext, data: ImageData) -> tuple[nn.Module, Score]:
    """The trained MasterNet, and its score on the validation split."""
    study = session.study
    net = session.fresh_network(session.master, "master")
    score = study.load_json("master", read_score)
    if score is not None:
        load_weights(net, study.master_weights)
        return net, score
    recipe = session.settings.master_training.recipe()
    with session.phase("MasterNet training"):
        session.train(net, data, recipe, "MasterNet training")
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


def run_trials(session: SearchContext) -> list[TrialResult]:
    """The results of a round's trials; those that are missing are run and recorded as they end."""
    settings, study, number = session.settings, session.study, session.round.number
    planned = plan_trials(
        session.round.around,
        settings.trials_per_super_block,
        settings.controls_per_super_block,
        seed=settings.seed,
        sampling=settings.sampling,
        grown_from=session.study.grown_from,
    )
    missing = study.missing(planned, number, retry_failed=not study.is_selected(number))
    if missing:
        with session.phase("trials"):
            _run_trials(session, missing, len(planned))
    return study.results(number)


def _run_trials(session: SearchContext, missing: Sequence[Trial], planned: int) -> None:
    settings = session.settings
    job = TrialJob(
        master=session.round.master,
        master_weights=session.round.weights,
        data=settings.data,
        recipe=settings.trial_training.recipe(),
        thaw=settings.trial_training.thaw,
        seed=settings.seed,
        device=session.device,
        readers=session.readers,
        own_blocks=where_loaded(settings.own_blocks),
    )
    tell, done = session.tell("trials"), planned - len(missing)
    tell(done, planned)
    groups = group_trials(missing, 1 if settings.trials == "separate" else GROUP_SIZE)
    for result in EXECUTORS["inline"](job, groups, session.workers):
        session.study.record(result, session.round.number)
        done += 1
        tell(done, planned, format_super_block(result.trial.super_block))


def accuracy_model(
    session: SearchContext,
    results: Sequence[TrialResult],
    master: Score,
    confirmed: Sequence[TrainedCandidate] = (),
) -> AccuracyModel:
    """Fitted to a round's trials, and to structures that were trained from scratch.

    master: the first MasterNet's score; a later one has that of its confirmation.
    """
    metric, start = session.settings.metric, session.round.start
    return AccuracyModel.fit(
        session.round.master,
        results,
        start.score(metric) if start else master.value(metric),
        metric=metric,
        form=session.settings.regression,
        confirmed=confirmed,
    )


def trained_winner(
    session: SearchContext, data: ImageData, structure: Structure, teacher: nn.Module
) -> nn.Module:
    """The winner, trained from scratch with the MasterNet as its teacher.

    data: at the winner's resolution.
    Where the candidates were trained as long as that, it is trained already.
    """
    path = session.study.winner_weights
    net = session.fresh_network(structure, "final")
    if path.exists():
        load_weights(net, path)
        return net
    recipe = session.settings.final_training.recipe()
    job = confirm_job(session)
    confirmed = job.weights_of(structure)
    if job.recipe == recipe and confirmed.exists():
        load_weights(net, confirmed)
    else:
        with session.phase("final training"):
            session.train(net, data, recipe, "final training", teacher)
    save_weights(net, path, {"structure": str(structure)})
    return net


def read_score(record: Any) -> Score:
    return Score(**record)
