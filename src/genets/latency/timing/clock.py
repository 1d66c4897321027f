"""Clock: when to warm up, how long a sample is, and when to stop."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from genets.core.errors import TargetError, unknown_name
from genets.latency.engines import DeviceClock, Run
from genets.latency.timing.statistics import (
    MIN_SAMPLES,
    Array,
    median,
    median_interval,
    trimmed_mean,
)

WARM_UP_S = 0.2
WARM_UP_LIMIT_S = 2.0
WARM_UP_WINDOWS = 10  # windows that make up WARM_UP_S
WARM_UP_AGREEMENT = 0.01
MAX_SAMPLES = 10_000
BRING_BACK_S = 0.01
LONG_RUN_S = 0.5  # a run so long does not notice what the caches held before it


@dataclass(frozen=True, slots=True)
class Protocol:
    """How many samples are taken and what becomes of them.

    samples: the least number of samples.
    interval_share: go on until both ends of the median's 95 % interval lie within this
        share of the median; None means that `samples` is all.
    fills_window: a sample is as many runs in a row as swamp the timer; else one run.
    estimate: the reported latency, from all samples.
    """

    samples: int
    interval_share: float | None
    fills_window: bool
    estimate: Callable[[Array], float]


PROTOCOLS: dict[str, Protocol] = {
    "genets-1": Protocol(100, 0.01, True, median),
    # Paper, section 3.2: 30 repetitions, highest and lowest 10 % dropped, mean of the rest.
    "paper": Protocol(30, None, False, trimmed_mean),
}


def find_protocol(name: str) -> Protocol:
    """The protocol of that name. Raises TargetError."""
    if name not in PROTOCOLS:
        raise TargetError(unknown_name("protocol", name, PROTOCOLS))
    return PROTOCOLS[name]


@dataclass(slots=True)
class _Timed:
    """One network under the clock."""

    run: Run
    runs_per_sample: int
    samples_s: list[float]  # per run


def warm_up(clock: DeviceClock, run: Run) -> float:
    """Run for at least WARM_UP_S until two windows agree; seconds of one run.

    Gives up waiting for agreement after WARM_UP_LIMIT_S: the samples will show the noise.
    """
    total = per_run = clock.time_runs(run, 1)
    previous = math.inf
    while total < WARM_UP_LIMIT_S:
        count = max(1, math.ceil(WARM_UP_S / WARM_UP_WINDOWS / per_run))
        window = clock.time_runs(run, count)
        total += window
        previous, per_run = per_run, max(window / count, 1e-9)
        agree = abs(per_run - previous) <= WARM_UP_AGREEMENT * previous
        if total >= WARM_UP_S and agree:
            break
    return per_run


def bring_back(clock: DeviceClock, run: Run) -> tuple[float, float]:
    """Untimed runs after another network had the caches; seconds spent, and of a late run."""
    spent = per_run = max(clock.time_runs(run, 1), 1e-9)
    if per_run < BRING_BACK_S:
        count = math.ceil((BRING_BACK_S - per_run) / per_run)
        more = max(clock.time_runs(run, count), 1e-9)
        spent, per_run = spent + more, more / count
    return spent, per_run


def sample_interleaved(
    clock: DeviceClock,
    runs: Mapping[str, Run],
    protocol: Protocol,
    *,
    min_samples: int | None = None,
    time_limit_s: float = 10.0,
    on_progress: Callable[[float], None] | None = None,
) -> dict[str, Array]:
    """Warm up, then take one sample of each in turn, A B A B; seconds per run of each sample.

    min_samples: in place of the protocol's own number.
    time_limit_s: of sampling, for each network; but MIN_SAMPLES are taken (or min_samples, if
        that is less), as fewer give no interval.
    on_progress: told the share of the time limit, or of the least samples, that is done.
    """
    timed = []
    for run in runs.values():
        per_run = warm_up(clock, run)
        count = math.ceil(clock.min_window_s / per_run) if protocol.fills_window else 1
        timed.append(_Timed(run, max(1, count), []))
    spent, wanted = 0.0, protocol.samples if min_samples is None else min_samples
    while timed:
        spent += sum(_sample(clock, one, alone=len(timed) == 1) for one in timed)
        if on_progress is not None:
            in_time, in_number = spent / (time_limit_s * len(timed)), len(timed[0].samples_s)
            on_progress(min(1.0, max(in_time, in_number / wanted)))
        enough = all(_is_enough(one.samples_s, protocol, min_samples) for one in timed)
        late = spent >= time_limit_s * len(timed)
        if enough or (late and len(timed[0].samples_s) >= min(wanted, MIN_SAMPLES)):
            break
    return {name: np.array(one.samples_s) for name, one in zip(runs, timed, strict=True)}


def _sample(clock: DeviceClock, one: _Timed, *, alone: bool) -> float:
    """Add one sample; device seconds spent."""
    long = bool(one.samples_s) and one.samples_s[-1] > LONG_RUN_S
    spent = 0.0 if alone or long else bring_back(clock, one.run)[0]
    window = clock.time_runs(one.run, one.runs_per_sample)
    one.samples_s.append(window / one.runs_per_sample)
    return spent + window


def _is_enough(samples_s: Sequence[float], protocol: Protocol, min_samples: int | None) -> bool:
    count = len(samples_s)
    if count < (protocol.samples if min_samples is None else min_samples):
        return False
    return (
        protocol.interval_share is None
        or count >= MAX_SAMPLES
        or not is_noisy(np.array(samples_s), protocol.interval_share)
    )


def is_noisy(samples: Array, share: float) -> bool:
    """True if an end of the median's 95 % interval is further away than `share` of the median.

    Also with so few samples that they give no such interval.
    """
    if len(samples) < MIN_SAMPLES:
        return True
    low, high = median_interval(samples)
    middle = median(samples)
    return max(high - middle, middle - low) > share * middle
