"""The faults of a search, in sentences for its end: lost workers, and failed trainings."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from genets.core.errors import counted
from genets.nas.snapshot import Snapshot
from genets.nas.study.records import Fault, TrainedCandidate, TrialResult
from genets.structure import Structure

MAX_FAULTS = 10  # sentences about faults that cost no result, the newest ones
MAX_NAMES = 5  # failed trainings in one sentence


def describe_faults(
    faults: Sequence[Fault],
    results: Iterable[TrialResult],
    screened: Iterable[TrainedCandidate],
    trained: Iterable[TrainedCandidate],
    master: Structure,
) -> list[str]:
    """Describe the faults of a search.

    Args:
        faults: The faults that cost no result, such as lost workers.
        results: The trials.
        screened: The screened structures.
        trained: The candidates.
        master: A structure with the stages of the trials.

    Returns:
        A sentence for each fault, and for each reason of failed trials, structures or candidates.
    """
    shown = faults[-MAX_FAULTS:]
    sentences = [f"on {_utc(each.time)}, {each.sentence}" for each in shown]
    if len(faults) > len(shown):
        sentences.insert(
            0, f"{len(faults)} faults were recorded; the last {len(shown)} are listed here"
        )
    trials: defaultdict[str, list[str]] = defaultdict(list)
    for result in results:
        if result.status == "failed":
            trial = result.trial
            trials[result.reason].append(f"{trial.super_block} in {master.stage_name(trial.index)}")
    return [
        *sentences,
        *_describe(trials, "trial"),
        *_describe(_failed(screened), "screened structure"),
        *_describe(_failed(trained), "candidate"),
    ]


def _failed(trained: Iterable[TrainedCandidate]) -> Mapping[str, Sequence[str]]:
    """The structures whose training failed, by the reason."""
    structures: defaultdict[str, list[str]] = defaultdict(list)
    for candidate in trained:
        if candidate.status == "failed":
            structures[candidate.reason].append(str(candidate.structure))
    return structures


def study_faults(study: Snapshot) -> list[str]:
    """Describe the faults so far in a study; see `describe_faults`."""
    screened = [each for of_round in study.rounds for each in of_round.screened]
    return describe_faults(study.faults, study.results, screened, study.confirmed, study.master)


def _describe(names_of: Mapping[str, Sequence[str]], noun: str) -> list[str]:
    sentences = []
    for reason, names in names_of.items():
        more = len(names) - MAX_NAMES
        listed = ", ".join(names[:MAX_NAMES]) + (f" and {more} more" if more > 0 else "")
        sentences.append(f"{counted(len(names), noun)} failed ({reason}): {listed}")
    return sentences


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%d at %H:%M UTC", time.gmtime(seconds))
