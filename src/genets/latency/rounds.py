"""Rounds: many networks timed in turn, over and over, so that drift can be told from cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from genets.latency.clock import warm_up
from genets.latency.engines import DeviceClock, Run
from genets.latency.statistics import Array

Key = TypeVar("Key", bound=Hashable)

MIN_ROUNDS = 3
MAX_ROUNDS = 10
# Without untimed runs a piece of 1 ms came out 6 % too slow and one of 10 ms right, so that sums
# of small pieces meant nothing.
UNTIMED_S = 0.005
SAMPLES = 5  # of one visit; their median counts
NEIGHBOURS = 31  # visits that tell the speed of the device at one moment
SWEEPS = 3
SAME_SPEED = 0.07


def time_in_rounds(
    clock: DeviceClock,
    runs: Mapping[Key, Run],
    *,
    rng: np.random.Generator,
    time_limit_s: float,
    on_progress: Callable[[float], None],
    before: Mapping[Key, Run] | None = None,
) -> dict[Key, float]:
    """Seconds of one run of each network, drift taken out.

    In a round every network is visited once, in random order. time_limit_s: from MIN_ROUNDS
    on, no round starts that would probably end later. before: what is done, untimed, before
    each single run of these networks; the others run many times in a row.
    """
    keys = list(runs)
    warm_up(clock, runs[keys[0]])
    visited: list[int] = []
    seconds: list[float] = []
    spent = 0.0
    for done in range(1, MAX_ROUNDS + 1):
        for which in rng.permutation(len(keys)):
            key = keys[which]
            per_run, cost = _visit(clock, runs[key], (before or {}).get(key))
            visited.append(which)
            seconds.append(per_run)
            spent += cost
            on_progress(min(1.0, spent / time_limit_s))
        if done >= MIN_ROUNDS and spent * (done + 1) / done > time_limit_s:
            break
    on_progress(1.0)
    return dict(zip(keys, without_drift(np.array(visited), np.array(seconds)), strict=True))


def without_drift(visited: NDArray[np.int_], seconds: Array) -> list[float]:
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
    return [float(value) for value in np.exp(chosen)]


def _medians(values: Array, visited: NDArray[np.int_], count: int) -> Array:
    """(count,) of each network; NaN for one without a visit."""
    groups = (values[visited == which] for which in range(count))
    return np.array([np.median(group) if len(group) else math.nan for group in groups])


def _visit(clock: DeviceClock, run: Run, before: Run | None) -> tuple[float, float]:
    """Seconds of one run; and the seconds that it took to find out."""
    per_run = max(clock.time_runs(run, 1), 1e-9)
    spent = per_run
    if per_run < UNTIMED_S:
        count = math.ceil((UNTIMED_S - per_run) / per_run)
        spent += clock.time_runs(run, count)
    count = 1 if before else max(1, math.ceil(clock.min_window_s / per_run))
    windows = []
    for _ in range(SAMPLES):
        if before:
            spent += clock.time_runs(before, 1)
        windows.append(clock.time_runs(run, count))
    return max(float(np.median(windows)) / count, 1e-9), spent + sum(windows)
