"""A model of 24, 256 and 1,000 workers: the schedule of the trials, and the load of the driver.

Run from the repository: python benchmarks/worker_model.py [--study RUN] [--workers 24 256 1000].
Writes results/worker_model.json. Nothing here runs on so many workers. The groups of trials, their
order and the schedule are those of a search (`nas/workers/schedule.py`), and events take the place
of time: a worker computes a group, and the driver handles one result after the other.

    trials      those of a search from genet_normal at the scale of the paper (preset `paper`)
    durations   of the stored trials of `trial_cost`, alone and in groups; with --study those of a
                study, whose groups are taken to share nothing
    driver      the time to write a trial into the database of a study, and to give a group to a
                worker through a pipe; measured here

The trials on digits take seconds, so the same is computed for trials that take 100 times as long.
`bound_s` is the least time that any schedule needs: all work divided by the workers, or the longest
trial. `efficiency` is the work of the trials, in groups of four, divided by workers times time, and
`of_bound` is the bound divided by the time. `search` has the groups of a search, which are smaller
towards the end; `equal_groups` has groups of four; `enough_trials` is the smallest plan, by
doubling, that meets the target of the efficiency.
"""

from __future__ import annotations

import argparse
import heapq
import json
import multiprocessing
import pickle
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np

from conditions import ROOT, add_tiny_option, write_result
from genets.nas.new_study import settings_at
from genets.nas.settings.settings import SearchSettings
from genets.nas.snapshot import Snapshot
from genets.nas.study.records import Trial, TrialResult
from genets.nas.study.trial_database import TrialDatabase
from genets.nas.trials.plan import GROUP_SIZE, group_trials, plan_trials
from genets.nas.workers.monitor import Monitor
from genets.nas.workers.schedule import Schedule, TimeLimit
from genets.training import Score
from trial_runs import read_trials

LONGER = 100.0
WORKERS = {24: 0.95, 256: 0.90, 1000: 0.85}  # the targets of the efficiency
STORED = ROOT / "benchmarks" / "results" / "trials_digits.jsonl"
MAX_DOUBLINGS = 7  # of the trials, to find out how many suffice
EPOCHS = 6  # of the stored trials that give the durations
Group = tuple[Trial, ...]


@dataclass(frozen=True)
class Durations:
    """How long trials take, by stage from the first to the last.

    Attributes:
        own_s: The times that trials of a stage take alone, without the shared part.
        shared_s: The time of each group of a stage, whatever its number of trials.
    """

    own_s: tuple[tuple[float, ...], ...]
    shared_s: tuple[float, ...]

    @classmethod
    def of(cls, alone: Sequence[TrialResult], grouped: Sequence[TrialResult]) -> Durations:
        """Split the times by trials that ran alone and in full groups."""
        own, shared = [], []
        for index in sorted({each.trial.index for each in alone}):
            times = [each.seconds for each in alone if each.trial.index == index]
            together = fmean(each.seconds for each in grouped if each.trial.index == index)
            part = (fmean(times) - together) * GROUP_SIZE / (GROUP_SIZE - 1)
            part = min(max(0.0, part), 0.9 * min(times))
            own.append(tuple(seconds - part for seconds in times))
            shared.append(part)
        return cls(tuple(own), tuple(shared))

    def longer(self, times: float) -> Durations:
        """The durations of trials that take so many times as long."""
        own = (tuple(times * seconds for seconds in stage) for stage in self.own_s)
        return Durations(tuple(own), tuple(times * seconds for seconds in self.shared_s))

    def draw(self, trials: Sequence[Trial]) -> Callable[[Group], float]:
        """Draw the time of each trial from its stage, and give the function of a group's time."""
        random = np.random.default_rng(0)
        stages = sorted({trial.index for trial in trials})
        scale = (len(self.own_s) - 1) / max(1, len(stages) - 1)
        place = {index: round(number * scale) for number, index in enumerate(stages)}
        own = {trial: float(random.choice(self.own_s[place[trial.index]])) for trial in trials}
        return lambda group: (
            self.shared_s[place[group[0].index]] + sum(own[trial] for trial in group)
        )


@dataclass(frozen=True)
class Outcome:
    """What a model of a search gave.

    Attributes:
        seconds: Until the last result is written.
        computing_s: The sum of the times in which workers compute.
        driver_s: The time in which the driver is busy.
    """

    seconds: float
    computing_s: float
    driver_s: float


def simulate(
    groups: Sequence[Group],
    seconds_of: Callable[[Group], float],
    workers: int,
    *,
    record_s: float = 0.0,
    send_s: float = 0.0,
) -> Outcome:
    """Run groups with the schedule of a search.

    As in a search, the driver gives a free worker its next group before it writes the results.

    Args:
        groups: The groups in the order of the search.
        seconds_of: The time of a group in a worker.
        workers: The number of workers.
        record_s: The time of the driver for each trial that has ended.
        send_s: The time of the driver for each group that it gives to a worker.
    """
    now = driver_free = driver_s = computing_s = 0.0
    limit = TimeLimit(min_seconds=np.inf, clock=lambda: now)
    schedule: Schedule[Trial, TrialResult] = Schedule(None, groups, Monitor(), limit)  # type: ignore[arg-type]
    ends: list[tuple[float, int, Any]] = []

    def give(number: int) -> None:
        nonlocal driver_free, driver_s, computing_s
        if schedule.has_waiting:
            driver_free, driver_s = driver_free + send_s, driver_s + send_s
            group = schedule.take()
            took = seconds_of(group.items)
            computing_s += took
            heapq.heappush(ends, (driver_free + took, number, group))

    for number in range(workers):
        give(number)
    while ends:
        end, number, group = heapq.heappop(ends)
        now = driver_free = max(end, driver_free)
        schedule.end(group)
        give(number)
        handling = record_s * len(group.items)
        driver_free, driver_s = driver_free + handling, driver_s + handling
    return Outcome(driver_free, computing_s, driver_s)


def describe(
    trials: Sequence[Trial],
    seconds_of: Callable[[Group], float],
    workers: int,
    driver: dict[str, float],
    *,
    equal_groups: bool = False,
) -> dict[str, Any]:
    """The figures of one number of workers. equal_groups: groups of four up to the end."""
    groups = group_trials(trials, workers=1 if equal_groups else workers)
    outcome = simulate(groups, seconds_of, workers, **driver)
    ideal = simulate(groups, seconds_of, workers)
    usual_s = sum(map(seconds_of, group_trials(trials, GROUP_SIZE)))
    longest_s = max(seconds_of((trial,)) for trial in trials)
    bound_s = max(usual_s / workers, longest_s)
    return {
        "groups": len(groups),
        "seconds": outcome.seconds,
        "bound_s": bound_s,
        "efficiency": usual_s / (workers * outcome.seconds),
        "of_bound": bound_s / outcome.seconds,
        "efficiency_without_driver": usual_s / (workers * ideal.seconds),
        "driver_load": outcome.driver_s / outcome.seconds,
        "commits_per_second": len(trials) / outcome.seconds,
        "bottleneck": name_bottleneck(
            is_slow=outcome.seconds > 1.1 * ideal.seconds,
            is_short=longest_s > usual_s / workers,
            is_coarse=len(groups) < min(workers, len(trials)),
        ),
    }


def name_bottleneck(*, is_slow: bool, is_short: bool, is_coarse: bool) -> str:
    """Name what costs most of the time.

    Args:
        is_slow: Whether the driver makes the search longer by more than a tenth.
        is_short: Whether the longest trial takes longer than the share of a worker of all work.
        is_coarse: Whether there are fewer groups than workers, and groups of several trials.
    """
    if is_slow:
        return "driver"
    if is_coarse:
        return "groups: fewer than workers"
    return "trials: too few for so many workers" if is_short else "the last groups"


def describe_all(
    trials: Sequence[Trial], durations: Durations, counts: Sequence[int], driver: dict[str, float]
) -> dict[str, Any]:
    """The figures of all numbers of workers."""
    seconds_of = durations.draw(trials)
    return {
        "work_s": sum(map(seconds_of, group_trials(trials))),
        "shared_s": durations.shared_s,
        "workers": {
            str(count): {
                "target": WORKERS.get(count),
                "search": describe(trials, seconds_of, count, driver),
                "equal_groups": describe(trials, seconds_of, count, driver, equal_groups=True),
                "enough_trials": find_enough(trials, durations, count, driver),
            }
            for count in counts
        },
    }


def find_enough(
    trials: Sequence[Trial], durations: Durations, workers: int, driver: dict[str, float]
) -> dict[str, Any] | None:
    """The figures of the smallest plan, by doubling, that meets the target; None without one."""
    for factor in (2**power for power in range(MAX_DOUBLINGS)):
        more = [replace(trial, repeat=trial.repeat * factor + n)
                for trial in trials for n in range(factor)]  # fmt: skip
        figures = describe(more, durations.draw(more), workers, driver)
        if figures["efficiency"] >= WORKERS.get(workers, 1.0):
            return {"trials": len(more), **figures}
    return None


def measure_driver(times: int) -> dict[str, float]:
    """Measure the times of the driver, in seconds: the medians of many."""
    settings = plan_settings("quick")
    trial = plan(settings)[0]
    score = Score(0.5, 1.0, 100, 0.5, 100.0)
    results = [TrialResult.of(replace(trial, repeat=n), score) for n in range(times)]
    near, far = multiprocessing.Pipe()
    records, sends = [], []
    with tempfile.TemporaryDirectory() as folder:
        database = TrialDatabase(Path(folder) / "trials.sqlite")
        for result in results:
            start = time.perf_counter()
            database.record(pickle.loads(pickle.dumps(result)))
            records.append(time.perf_counter() - start)
            start = time.perf_counter()
            near.send((trial,) * GROUP_SIZE)
            far.recv()
            sends.append(time.perf_counter() - start)
        database.close()
    return {"record_s": median(records), "send_s": median(sends)}


def plan_settings(preset: str) -> SearchSettings:
    """The settings of a search from genet_normal."""
    given = {"data": "digits", "budget": "1x", "master": "genet_normal"}
    return SearchSettings(**settings_at(Path(), preset, given))


def plan(settings: SearchSettings) -> tuple[Trial, ...]:
    space = settings.space.design_space().around(settings.structure)
    counts = settings.trials_per_super_block, settings.controls_per_super_block
    return plan_trials(space, *counts, seed=settings.seed, sampling="balanced")


def find_durations(study: Path | None) -> Durations:
    """The durations of a study, or those of the stored trials of `trial_cost`."""
    if study is not None:
        results = [each for each in Snapshot.read(study).results if each.status == "done"]
        return Durations.of(results, results)
    return Durations.of(*map(stored_trials, ("separate", "together")))


def stored_trials(how: str) -> tuple[TrialResult, ...]:
    for entry in map(json.loads, STORED.read_text().splitlines()):
        settings = entry["settings"]
        training = settings["trial_training"]
        if (settings["trials"], training["epochs"], training["thaw"]) == (how, EPOCHS, "after"):
            return read_trials(entry["trials"])
    raise SystemExit(f"no trials {how} in {STORED}: run benchmarks/trial_cost.py, or give --study")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--study", type=Path, help="a study whose trials give the durations")
    parser.add_argument("--workers", type=int, nargs="+", default=[*WORKERS])
    add_tiny_option(parser)
    options = parser.parse_args()
    durations = find_durations(options.study)
    trials = plan(plan_settings("quick" if options.tiny else "paper"))
    driver = measure_driver(20 if options.tiny else 1000)
    figures: dict[str, Any] = {"trials": len(trials), "driver": driver}
    for name, times in (("measured", 1.0), (f"{LONGER:g}_times_as_long", LONGER)):
        figures[name] = describe_all(trials, durations.longer(times), options.workers, driver)
    if options.tiny:
        print(json.dumps(figures, indent=2))
    else:
        write_result("worker_model", figures)


if __name__ == "__main__":
    main()
