"""Rounds: many networks timed in turn, over and over, against a reference that tells the drift."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from genets.latency.clock import warm_up
from genets.latency.engines import DeviceClock, Run

Key = TypeVar("Key", bound=Hashable)

GROUP_S = 0.1  # the reference is timed anew after this long
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
        before = _Timing.of(clock, reference)
        while order:
            group, order, seconds = _time_group(clock, runs, order)
            after = _Timing.of(clock, reference)
            for key, timing in group.items():
                samples[key].append(2 * timing.best_s / (before.best_s + after.best_s))
            references.append(after.warm_s)
            before, spent = after, spent + seconds
            on_progress(min(1.0, spent / time_limit_s))
        if done >= MIN_ROUNDS and spent * (done + 1) / done > time_limit_s:
            break
    on_progress(1.0)
    return {key: float(np.median(values)) for key, values in samples.items()}, references


@dataclass(frozen=True, slots=True)
class _Timing:
    """Two windows. best_s: the shorter, per run. warm_s: the second, per run."""

    best_s: float
    warm_s: float
    spent_s: float

    @classmethod
    def of(cls, clock: DeviceClock, run: Run) -> _Timing:
        # The first window also brings the network's data back into the caches.
        first = clock.time_runs(run, 1)
        count = max(1, math.ceil(clock.min_window_s / max(first, 1e-9)))
        window = clock.time_runs(run, count)
        return cls(min(first, window / count), window / count, first + window)


def _time_group(
    clock: DeviceClock, runs: Mapping[Key, Run], order: list[Key]
) -> tuple[dict[Key, _Timing], list[Key], float]:
    """Time from the front of `order` for GROUP_S; what was timed, what is left, and seconds."""
    group: dict[Key, _Timing] = {}
    spent = 0.0
    for place, key in enumerate(order):
        group[key] = _Timing.of(clock, runs[key])
        spent += group[key].spent_s
        if spent >= GROUP_S:
            return group, order[place + 1 :], spent
    return group, [], spent
