"""The warnings of a study: what its trials do not support, and the command that would help."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from genets.nas.accuracy.bayes import BayesEffects
from genets.nas.accuracy.model import AccuracyModel
from genets.nas.accuracy.undecided import MAX_MORE_TRIALS, UndecidedChoice, trials_to_settle
from genets.nas.settings.settings import SearchSettings
from genets.nas.study.records import Candidate, TrainedCandidate
from genets.nas.trials.plan import plan_more_trials
from genets.structure import Structure
from genets.training.score import score_value

POOR_TABLE = 0.2  # RMSPE; on a machine left alone tables err by 2 to 10 %
FAR_OFF = 1.5


def study_warnings(model: AccuracyModel, settings: SearchSettings, folder: Path) -> list[str]:
    """One sentence for each thing that the trials, all of which have ended, do not support.

    Where two blocks are within noise: how many more trials would likely tell them apart, and last
    the command that runs as many as the choices need.
    """
    if model.master != settings.structure:
        return model.warnings()  # of a later round, for which a study takes no more trials
    found, calls = model.trial_warnings(), model.undecided_choices()
    if not calls:
        return found
    needed = _needed(model, settings, calls)
    for call, more in zip(calls, needed, strict=True):
        cure = (
            f"more than {MAX_MORE_TRIALS} more trials per super-block would be needed to settle it"
            if more is None
            else f"about {more} more trials per super-block would settle it"
        )
        found.append(f"{call}; {cure}")
    enough = max((more for more in needed if more is not None), default=0)
    if enough:
        command = (
            f"genets search --out {shlex.quote(str(folder))} "
            f"--trials-per-super-block {settings.trials_per_super_block + enough}"
        )
        found.append(f"to run {enough} more trials for each super-block in this study: {command}")
    return found


def table_doubts(rmspe: float) -> list[str]:
    """A sentence where the latency table errs so much that it hardly led the selection."""
    if rmspe <= POOR_TABLE:
        return []
    return [
        f"the latency table is {rmspe:.0%} off on networks that it never saw, so better structures "
        "may have been passed over; search again, in another folder, while nothing else runs on "
        "the device"
    ]


def measuring_doubts(selected: Candidate) -> list[str]:
    """A sentence where the winner's measured latency is nothing like its predicted one."""
    times = selected.measured_ms / selected.predicted_ms
    if 1 / FAR_OFF < times < FAR_OFF:
        return []
    return [
        f"the winner measured {selected.measured_ms:.4g} ms per image, {times:.2g} times what the "
        "latency table predicts: something else seems to have used the device, while the table was "
        "made or since; measure it again (genets measure) before you trust either"
    ]


def master_doubts(
    settings: SearchSettings,
    selected: Candidate,
    master: Mapping[str, float],
    confirmed: Sequence[TrainedCandidate],
) -> list[str]:
    """A sentence where the MasterNet is within the budget and better than what was selected.

    master: its scores on the validation split, by the name of the metric.
    """
    metric = settings.metric
    winner = next((one for one in confirmed if one.structure == selected.structure), None)
    if winner is None or winner.status != "done" or selected.master_ms > selected.budget_ms:
        return []
    own, score = master[metric], score_value(winner, metric)
    assert score is not None
    if metric.oriented(own) <= metric.oriented(score):
        return []
    return [
        f"the MasterNet, at {selected.master_ms:.4g} ms per image within the budget itself, does "
        f"better on the validation images than the winner ({metric.label} {own:.4g} "
        f"after {settings.master_training.epochs} epochs against {score:.4g} after "
        f"{winner.epochs}); train candidates longer, in another folder, or keep the MasterNet"
    ]


def round_doubts(
    number: int, master: Structure, confirmed: Sequence[TrainedCandidate]
) -> list[str]:
    """A sentence where a later round had nothing to choose from."""
    if number == 1 or [one.structure for one in confirmed] != [master]:
        return []
    return [
        f"the MasterNet that round {number} began with was its only candidate, so the round could "
        "not improve on it; that nothing else seemed to keep the budget may be due to a busy device"
    ]


def _needed(
    model: AccuracyModel, settings: SearchSettings, calls: Sequence[UndecidedChoice]
) -> list[int | None]:
    assert isinstance(model.effects, BayesEffects)
    around = settings.space.design_space().around(model.master)
    done = model.effects.observations.trials
    seed, sampling = settings.seed, settings.sampling
    return trials_to_settle(
        model.effects,
        calls,
        lambda count: plan_more_trials(around, done, count, seed=seed, sampling=sampling),
        step=max(map(len, around.blocks.values())),
    )
