"""Rounds: many networks timed in turn, over and over, so that drift can be told from cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

import numpy as np

from genets.latency.clock import bring_back, warm_up
from genets.latency.engines import DeviceClock, Run
from genets.latency.statistics import Array

Key = TypeVar("Key", bound=Hashable)

MIN_ROUNDS = 3
MAX_ROUNDS = 10


def time_in_rounds(
    clock: DeviceClock,
    runs: Mapping[Key, Run],
    *,
    rng: np.random.Generator,
    time_limit_s: float,
    on_progress: Callable[[float], None],
) -> dict[Key, float]:
    """Seconds of one run of each network, drift taken out.

    In a round every network is timed once, in random order. time_limit_s: from MIN_ROUNDS on,
    no round starts that would probably end later.
    """
    keys = list(runs)
    warm_up(clock, runs[keys[0]])
    rounds: list[Array] = []
    spent = 0.0
    for done in range(1, MAX_ROUNDS + 1):
        seconds = np.empty(len(keys))
        for which in rng.permutation(len(keys)):
            seconds[which], cost = _time_warm(clock, runs[keys[which]])
            spent += cost
            on_progress(min(1.0, spent / time_limit_s))
        rounds.append(seconds)
        if done >= MIN_ROUNDS and spent * (done + 1) / done > time_limit_s:
            break
    on_progress(1.0)
    return dict(zip(keys, without_drift(np.array(rounds)).tolist(), strict=True))


def without_drift(seconds: Array) -> Array:
    """(networks,) from (rounds, networks): medians over rounds, at the median speed of a round.

    How much slower a round was than usual is the median over its networks: no single
    reference network is steady enough (its own noise came out as an error of 5 %).
    """
    logarithm = np.log(seconds)
    drift = np.median(logarithm - np.median(logarithm, axis=0), axis=1, keepdims=True)
    return np.asarray(np.exp(np.median(logarithm - drift, axis=0) + np.median(drift)))


def _time_warm(clock: DeviceClock, run: Run) -> tuple[float, float]:
    """Seconds of one run, warm; and the seconds that it took to find out.

    Without the untimed runs a piece of 1 ms came out 6 % too slow and one of 10 ms right, so
    that sums of small pieces meant nothing.
    """
    spent, per_run = bring_back(clock, run)
    count = max(1, math.ceil(clock.min_window_s / per_run))
    window = clock.time_runs(run, count)
    return max(window / count, 1e-9), spent + window
