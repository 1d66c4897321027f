"""Rounds: many networks timed in turn, over and over, against a reference that tells the drift."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

import numpy as np

from genets.latency.clock import warm_up
from genets.latency.engines import DeviceClock, Run

Key = TypeVar("Key", bound=Hashable)

GROUP_S = 0.1  # the reference is timed anew after this long
WARM_S = 3e-3  # of untimed runs before the timed ones
MIN_ROUNDS = 2
MAX_ROUNDS = 10


def time_in_rounds(
    clock: DeviceClock,
    runs: Mapping[Key, Run],
    reference: Run,
    *,
    rng: np.random.Generator,
    time_limit_s: float,
    on_progress: Callable[[float], None],
) -> tuple[dict[Key, float], list[float]]:
    """Time of each network over that of the reference; and the reference's own times, seconds.

    In a round every network is timed once, in random order, with the reference in between.
    The times of one group are divided by the mean of the reference before and after it, so
    that a device that slows down for a while slows both down. The median over the rounds is
    taken. time_limit_s: from MIN_ROUNDS on, no round starts that would probably end later.
    """
    warm_up(clock, reference)
    samples: dict[Key, list[float]] = {key: [] for key in runs}
    references: list[float] = []
    keys, spent = list(runs), 0.0
    for done in range(1, MAX_ROUNDS + 1):
        order = [keys[k] for k in rng.permutation(len(keys))]
        before, _ = _time_warm(clock, reference)
        while order:
            group, order, seconds = _time_group(clock, runs, order)
            after, _ = _time_warm(clock, reference)
            for key, per_run in group.items():
                samples[key].append(2 * per_run / (before + after))
            references.append(after)
            before, spent = after, spent + seconds
            on_progress(min(1.0, spent / time_limit_s))
        if done >= MIN_ROUNDS and spent * (done + 1) / done > time_limit_s:
            break
    on_progress(1.0)
    return {key: float(np.median(values)) for key, values in samples.items()}, references


def _time_warm(clock: DeviceClock, run: Run) -> tuple[float, float]:
    """Seconds of one run, warm; and the seconds that it took to find out.

    Some hundred other networks had the caches before this one: untimed, a piece of 1 ms comes
    out 6 % too slow and one of 10 ms right, and a sum of small pieces means nothing.
    """
    spent = first = clock.time_runs(run, 1)
    if first < WARM_S:
        spent += clock.time_runs(run, math.ceil((WARM_S - first) / max(first, 1e-9)))
    count = max(1, math.ceil(clock.min_window_s / max(first, 1e-9)))
    window = clock.time_runs(run, count)
    return window / count, spent + window


def _time_group(
    clock: DeviceClock, runs: Mapping[Key, Run], order: list[Key]
) -> tuple[dict[Key, float], list[Key], float]:
    """Time from the front of `order` for GROUP_S; what was timed, what is left, and seconds."""
    group: dict[Key, float] = {}
    spent = 0.0
    for place, key in enumerate(order):
        group[key], cost = _time_warm(clock, runs[key])
        spent += cost
        if spent >= GROUP_S:
            return group, order[place + 1 :], spent
    return group, [], spent
