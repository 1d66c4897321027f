"""The warnings of a study, listed once for the screen, for `result.json` and for the page."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from genets.latency.predictor.table import LARGE_ERROR
from genets.nas.accuracy.bayes import BayesEffects
from genets.nas.accuracy.model import AccuracyModel
from genets.nas.accuracy.undecided import MAX_MORE_TRIALS, UndecidedChoice, trials_to_settle
from genets.nas.faults import study_faults
from genets.nas.settings.settings import SearchSettings
from genets.nas.snapshot import Snapshot
from genets.nas.study.records import Candidate, TrainedCandidate
from genets.nas.study.rival_records import RivalResult
from genets.nas.trials.plan import plan_more_trials
from genets.structure import SearchSpace, Structure
from genets.training.score import Metric, Score, comparable, metric_score

LEAST_SHOWN = 0.0005  # the least difference of two shares that is not shown as 0.0 points
MAX_TIMES_PREDICTED = 1.5

NOTHING_SCREENED = (
    "no structure was screened, because none at the MasterNet's resolution is predicted to meet "
    "the budget; the trials alone predict which structures are good, and a search with a larger "
    "--trials-per-super-block has more of them"
)
ALL_SCREENINGS_FAILED = (
    "the training of every screened structure failed, so the trials alone predict which structures "
    "are good; study.log has the reasons, and a new search screens structures again"
)


def list_warnings(study: Snapshot) -> list[str]:
    """List the conclusions that the trials and measurements of a study do not support.

    Args:
        study: The content of the study, which may be unfinished.

    Returns:
        One sentence for each warning.
    """
    of_budgets = {
        each.budget: winner_warnings(each)
        + rival_warnings(each.rivals, each.winner_score, study.settings.metric)
        for each in study.each_budget
    }
    return join_warnings(of_budgets) + study_warnings(study)


def study_warnings(study: Snapshot) -> list[str]:
    """List the warnings for every budget: about rounds, trials, measurements and faults."""
    warnings = []
    for each in study.rounds:
        warnings += round_warnings(each.number, each.master, each.confirmed)
    if study.settings.screen:
        unscreened = [each for each in study.rounds if each.selected and not each.has_screened]
        reasons = [
            ALL_SCREENINGS_FAILED if each.screened else NOTHING_SCREENED for each in unscreened
        ]
        warnings += dict.fromkeys(reasons)
    if study.model is not None and len(study.results) < study.planned:
        warnings += study.model.warnings()
    elif study.model is not None:
        screened = study.latest.has_screened
        warnings += trial_warnings(study.model, study.settings, study.folder, screened=screened)
    elif study.results:
        warnings.append(f"no accuracy model can be fitted: {study.model_failure}")
    return warnings + _noise_warnings(study) + study_faults(study)


def balance_cure(settings: SearchSettings) -> str:
    """The options that make all classes count the same; empty where a setting does so already."""
    tables = ["master_training", "final_training"]
    if settings.from_scratch:
        tables.append("trial_training")
    is_weighted = any(getattr(settings, each).class_weights == "balanced" for each in tables)
    if is_weighted or settings.metric is Metric.BALANCED_ACCURACY:
        return ""
    weighted = " ".join(f"--set {each}.class_weights=balanced" for each in tables)
    return f"--metric balanced_accuracy, or {weighted}, or both"


def join_warnings(of_budgets: Mapping[str, Sequence[str]]) -> list[str]:
    """Join the warnings of several budgets; a warning of some budgets alone names its budget."""
    joined = {
        warning if all(warning in each for each in of_budgets.values())
        else f"budget {budget}: {warning}": None
        for budget, warnings in of_budgets.items()
        for warning in warnings
    }  # fmt: skip
    return list(joined)


def winner_warnings(study: Snapshot) -> list[str]:
    """List the warnings about the winner of one budget; none before there is a winner."""
    if study.selected is None:
        return []
    warnings = []
    if not study.settings.from_scratch and study.selected.structure == study.settings.structure:
        compared = ", and no candidate is better on the validation images" * bool(study.confirmed)
        warnings.append(
            f"the winner is the trained MasterNet itself: it meets the budget{compared}"
        )
    warnings += missing_resolutions(study.around, study.selected, study.confirmed)
    warnings += table_warnings(study.selected.table_rmspe)
    warnings += measurement_warnings(study.selected)
    if study.master_score is not None:
        warnings += master_warnings(
            study.settings, study.selected, study.master_score, study.confirmed
        )
    return warnings


def rival_warnings(
    rivals: Sequence[RivalResult], winner: Score | None, metric: Metric
) -> list[str]:
    """Say which rivals within the budget are better than the winner.

    Args:
        rivals: The rivals of one budget.
        winner: The score of the winner on the test split; None before there is one.
        metric: The metric of the study. Cross-entropy is not compared, because it depends on how
            sure a network is.
    """
    warnings = []
    for rival in rivals:
        if rival.status != "done" or rival.test is None or winner is None:
            continue
        better = _better_scores(rival, rival.test, winner, metric)
        if not better:
            continue
        sure = rival.difference is not None and rival.difference.low > 0
        warnings.append(
            f"{rival_subject(rival)} at {rival.measured_ms:.4g} ms per image, "
            f"{'is' if sure else 'may be'} better than the winner: {', and '.join(better)}; "
            f"its trained network is in {rival.folder} of the study"
        )
    return warnings


def rival_subject(rival: RivalResult) -> str:
    """The words with which each warning about a rival begins."""
    return f"the rival {rival.name}, which meets the budget"


def _better_scores(rival: RivalResult, score: Score, winner: Score, metric: Metric) -> list[str]:
    """The scores on the test split by which a rival is better than the winner, in words."""
    difference, better = rival.difference, []
    more = score.top1 - winner.top1 if difference is None else difference.top1
    if more >= LEAST_SHOWN:
        interval = "its interval is not known, because the two were not scored on the same images"
        if difference is not None:
            ends = f"{100 * difference.low:+.1f} to {100 * difference.high:+.1f} points"
            interval = f"95 % interval {ends}, paired over {difference.images} test images"
        better.append(f"its test top-1 is {100 * more:.1f} points higher ({interval})")
    metrics = [Metric.TOP1]
    if metric is Metric.BALANCED_ACCURACY:
        metrics.append(metric)
        better += _higher_share("", score, winner, metric)
    if score.quantised is not None and winner.quantised is not None:
        for each in metrics:
            better += _higher_share(" in int8", score.quantised, winner.quantised, each)
    return better


def _higher_share(words: str, score: Score, other: Score, metric: Metric) -> list[str]:
    """A part of a sentence where the first of two scores is higher.

    words: The words behind the name of the metric.
    """
    own, others = metric_score(score, metric), metric_score(other, metric)
    if own is None or others is None or own - others < LEAST_SHOWN:
        return []
    return [f"its test {metric.label}{words} is {100 * (own - others):.1f} points higher"]


def missing_resolutions(
    space: SearchSpace, winner: Candidate, trained: Sequence[TrainedCandidate]
) -> list[str]:
    """Name the resolutions without a trained candidate, as no structure met the budget there."""
    present = {winner.structure.resolution, *(each.structure.resolution for each in trained)}
    return [
        f"the search found no structure at {resolution} pixels that meets the budget, so it "
        "trained no candidate at this resolution"
        for resolution in space.resolutions
        if resolution not in present
    ]


def table_warnings(rmspe: float) -> list[str]:
    """Warn of a latency table whose errors are so large that it hardly led the selection."""
    if rmspe <= LARGE_ERROR:
        return []
    return [
        f"the latency table errs by {rmspe:.0%} (RMSPE) on networks that were not used to make it, "
        "so the search may have missed better structures; search again, in another folder, while "
        "nothing else runs on the device"
    ]


def measurement_warnings(winner: Candidate) -> list[str]:
    """Warn where the winner's measured latency is far from the prediction."""
    times = winner.measured_ms / winner.predicted_ms
    if 1 / MAX_TIMES_PREDICTED < times < MAX_TIMES_PREDICTED:
        return []
    return [
        f"the measured latency of the winner, {winner.measured_ms:.4g} ms per image, is "
        f"{times:.2g} times the prediction of the latency table; other programs probably used the "
        "device while the latency table was made, or while the winner was measured; measure the "
        "winner again with genets measure before you trust either number"
    ]


def master_warnings(
    settings: SearchSettings,
    winner: Candidate,
    master_score: Score,
    confirmed: Sequence[TrainedCandidate],
) -> list[str]:
    """Warn where the MasterNet meets the budget and is better than the winner.

    Args:
        settings: The settings of the study.
        winner: The winner.
        master_score: The MasterNet's score on the validation split.
        confirmed: The candidates that were trained.
    """
    metric = settings.metric
    trained = next((t for t in confirmed if t.structure == winner.structure), None)
    if trained is None or trained.status != "done" or winner.master_ms > winner.budget_ms:
        return []
    scores = comparable([master_score, trained.score])
    own, score = (each[metric] for each in scores)
    if metric.oriented(own) <= metric.oriented(score):
        return []
    in_int8 = " in int8" * (scores[0] is master_score.quantised)
    return [
        f"the MasterNet, which at {winner.master_ms:.4g} ms per image meets the budget itself, is "
        f"better on the validation images than the winner ({metric.label}{in_int8} {own:.4g} "
        f"after {settings.master_training.epochs} epochs against {score:.4g} after "
        f"{trained.epochs}); train candidates longer, in another folder, or keep the MasterNet"
    ]


def round_warnings(
    number: int, master: Structure, confirmed: Sequence[TrainedCandidate]
) -> list[str]:
    """Warn where a later round had its own MasterNet as the only candidate."""
    if number == 1 or [trained.structure for trained in confirmed] != [master]:
        return []
    return [
        f"round {number} had no candidate except its own MasterNet, so this round brought no "
        "improvement; if the device was busy, other structures may have seemed too slow"
    ]


def _noise_warnings(study: Snapshot) -> list[str]:
    warnings = []
    for latency in study.targets:
        measured = latency.measured.values()
        if noisy := sum(each.network.noisy for each in measured):
            warnings.append(
                f"{noisy} of {len(measured)} networks measured on {latency.target.name} are noisy: "
                "the 95 % interval was still too wide when the time limit passed; a noisy network "
                "may still meet the budget"
            )
    return warnings


def trial_warnings(
    model: AccuracyModel, settings: SearchSettings, folder: Path, *, screened: bool = False
) -> list[str]:
    """List the conclusions that the trials do not support, after all trials have ended.

    Where two blocks are within noise, the warning says how many more trials would likely
    distinguish them. The last sentence is the command that runs as many trials as the choices
    need.

    Args:
        model: The accuracy model.
        settings: The settings of the study.
        folder: The folder of the study.
        screened: Whether structures were screened. Then the trials do not decide alone, and no
            choice is named.
    """
    if screened:
        return model.trial_warnings()
    if model.master != settings.structure:
        return model.warnings()  # of a later round, for which a study takes no more trials
    warnings, choices = model.trial_warnings(), model.undecided_choices()
    if not choices:
        return warnings
    needed = _count_needed_trials(model, settings, choices)
    for choice, more in zip(choices, needed, strict=True):
        cure = (
            f"even {MAX_MORE_TRIALS} more trials for each super-block would probably not show it"
            if more is None
            else f"about {more} more trials for each super-block would probably show it"
        )
        warnings.append(f"{choice}; {cure}")
    enough = max((more for more in needed if more is not None), default=0)
    if enough:
        command = (
            f"genets search --out {shlex.quote(str(folder))} "
            f"--trials-per-super-block {settings.trials_per_super_block + enough}"
        )
        warnings.append(f"this command runs {enough} more trials for each super-block: {command}")
    return warnings


def _count_needed_trials(
    model: AccuracyModel, settings: SearchSettings, choices: Sequence[UndecidedChoice]
) -> list[int | None]:
    assert isinstance(model.effects, BayesEffects)
    space = settings.space.design_space().around(model.master)
    done = model.effects.observations.trials
    seed, sampling = settings.seed, settings.sampling
    return trials_to_settle(
        model.effects,
        choices,
        lambda count: plan_more_trials(space, done, count, seed=seed, sampling=sampling),
        step=max(map(len, space.blocks.values())),
    )
