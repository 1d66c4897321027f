"""Rounds: many networks timed in turn, over and over, so that drift can be told from cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from genets.latency.engines import DeviceClock, Run
from genets.latency.timing.clock import warm_up
from genets.latency.timing.statistics import Array

Key = TypeVar("Key", bound=Hashable)

MIN_ROUNDS = 3
MAX_ROUNDS = 10
# Caches and frequencies that another network left behind would count as part of a short run.
UNTIMED_S = 0.005
SAMPLES = 5  # of one visit; their median counts
# Fewer where they take longer than this; a single run so long is a sample by itself: it notices
# neither the timer nor what the caches held.
VISIT_S = 0.05
NEIGHBOURS = 31  # visits that tell the speed of the device at one moment
SWEEPS = 3
SAME_SPEED = 0.07
AGAIN_ROUNDS = 3  # at most, for what is contradictory
AGAIN_VISITS = 2  # of one network in each of them
AGAIN_SHARE = 0.5  # of the time of all others; when it has passed, no such round starts


@dataclass(frozen=True, slots=True)
class Timed:
    """seconds: of one run. error: standard error of their logarithm, that is, as a share."""

    seconds: float
    error: float


def time_in_rounds(
    clock: DeviceClock,
    runs: Mapping[Key, Run],
    *,
    rng: np.random.Generator,
    time_limit_s: float,
    on_progress: Callable[[float], None],
    before: Mapping[Key, Run] | None = None,
    contradictory: Callable[[Mapping[Key, Timed]], Collection[Key]] = lambda _: (),
) -> dict[Key, Timed]:
    """The time of one run of each network, drift taken out.

    In a round every network is visited once, in random order. time_limit_s: from MIN_ROUNDS
    on, no round starts that would probably end later. before: what is done, untimed, before
    each single run of these networks; the others run many times in a row. contradictory: those whose
    times cannot be; they are visited again, AGAIN_ROUNDS times at most, after the limit.
    """
    rounds = _Rounds(clock, runs, before or {}, rng)
    warm_up(clock, next(iter(runs.values())))
    for done in range(1, MAX_ROUNDS + 1):
        rounds.visit(runs, lambda spent_s: on_progress(min(1.0, spent_s / time_limit_s)))
        if done >= MIN_ROUNDS and rounds.spent_s * (done + 1) / done > time_limit_s:
            break
    limit_s = rounds.spent_s + AGAIN_SHARE * max(rounds.spent_s, time_limit_s)
    for _ in range(AGAIN_ROUNDS):
        again = list(contradictory(rounds.times()))
        if not again or rounds.spent_s > limit_s:
            break
        rounds.visit_again(again)
    on_progress(1.0)
    return rounds.times()


class _Rounds(Generic[Key]):
    """What was visited, in the order of time."""

    def __init__(
        self,
        clock: DeviceClock,
        runs: Mapping[Key, Run],
        before: Mapping[Key, Run],
        rng: np.random.Generator,
    ) -> None:
        self.clock, self.runs, self.before, self.rng = clock, runs, before, rng
        self.number = {key: number for number, key in enumerate(runs)}
        self.visited: list[int] = []
        self.seconds: list[float] = []
        self.spent_s = 0.0

    def visit(self, keys: Collection[Key], tell: Callable[[float], None]) -> None:
        """Each of `keys` once, in random order."""
        listed = list(keys)
        for which in self.rng.permutation(len(listed)):
            key = listed[which]
            per_run, cost = _visit(self.clock, self.runs[key], self.before.get(key))
            self.visited.append(self.number[key])
            self.seconds.append(per_run)
            self.spent_s += cost
            tell(self.spent_s)

    def visit_again(self, keys: list[Key]) -> None:
        """Among as many others: they alone would be taken for a change of the device's speed."""
        others = [key for key in self.runs if key not in set(keys)]
        for _ in range(AGAIN_VISITS):
            chosen = self.rng.permutation(len(others))[: len(keys)]
            self.visit([*keys, *(others[which] for which in chosen)], lambda _: None)

    def times(self) -> dict[Key, Timed]:
        found = without_drift(np.array(self.visited), np.array(self.seconds))
        return dict(zip(self.runs, found, strict=True))


def without_drift(visited: NDArray[np.int_], seconds: Array) -> list[Timed]:
    """Median seconds of each network, at the speed that the device had most of the time.

    visited: (visits,) which network, from 0, in the order of time. seconds: (visits,).

    Other users of the machine make it a third slower for seconds or minutes, and not for all
    networks alike. The speed at a moment is what the visits around it have in common. Visits at
    another speed than usual count only for networks that have no others.
    """
    logarithm = np.log(seconds)
    count = int(visited.max()) + 1
    drift = np.zeros_like(logarithm)
    for _ in range(SWEEPS):
        typical = _medians(logarithm - drift, visited, count)
        drift = median_filter(logarithm - typical[visited], NEIGHBOURS, mode="nearest")
        drift -= np.median(drift)
    usual = np.abs(drift) <= SAME_SPEED
    at_any_speed = _medians(logarithm - drift, visited, count)
    at_usual = _medians((logarithm - drift)[usual], visited[usual], count)
    chosen = np.where(np.isnan(at_usual), at_any_speed, at_usual)
    errors = _errors(np.abs(logarithm - drift - chosen[visited]), visited, count)
    return [Timed(*pair) for pair in zip(np.exp(chosen).tolist(), errors.tolist(), strict=True)]


def _errors(deviations: Array, visited: NDArray[np.int_], count: int) -> Array:
    """(count,) standard errors of medians of normal values, from median absolute deviations.

    The deviations of few visits may be small by chance: at least what is common is assumed.
    """
    spread = 1.4826 * _medians(deviations, visited, count)
    spread = np.maximum(spread, np.median(spread))
    return np.asarray(math.sqrt(math.pi / 2) * spread / np.sqrt(np.bincount(visited)))


def _medians(values: Array, visited: NDArray[np.int_], count: int) -> Array:
    """(count,) of each network; NaN for one without a visit."""
    groups = (values[visited == which] for which in range(count))
    return np.array([np.median(group) if len(group) else math.nan for group in groups])


def _visit(clock: DeviceClock, run: Run, before: Run | None) -> tuple[float, float]:
    """Seconds of one run; and the seconds that it took to find out."""
    per_run = max(clock.time_runs(run, 1), 1e-9)
    spent = per_run
    if per_run >= VISIT_S:
        return per_run, spent
    if per_run < UNTIMED_S:
        count = math.ceil((UNTIMED_S - per_run) / per_run)
        spent += clock.time_runs(run, count)
    count = 1 if before else max(1, math.ceil(clock.min_window_s / per_run))
    windows = []
    for _ in range(min(SAMPLES, math.ceil(VISIT_S / per_run))):
        if before:
            spent += clock.time_runs(before, 1)
        windows.append(clock.time_runs(run, count))
    return max(float(np.median(windows)) / count, 1e-9), spent + sum(windows)
