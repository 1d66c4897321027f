"""Clock: when the warm-up ends, how long a sample is, and when enough samples are taken."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from genets.core.errors import TargetError, unknown_name
from genets.latency.engines.base import DeviceClock, Run
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
REFILL_CACHES_S = 0.01
LONG_RUN_S = 0.5  # for a run of this length, earlier contents of the caches do not matter


@dataclass(frozen=True, slots=True)
class Protocol:
    """How many samples are taken and how the latency follows from them.

    Attributes:
        samples: The minimum number of samples.
        interval_share: Sampling continues until both ends of the median's 95 % interval are
            within this share of the median. None means that `samples` is the exact number.
        fills_window: Whether a sample is the mean of as many runs in a row as make the timer's
            error negligible. Otherwise a sample is one run.
        estimate: Maps all samples to the latency.
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
    """Look up a protocol by its name. Raises TargetError."""
    if name not in PROTOCOLS:
        raise TargetError(unknown_name("protocol", name, PROTOCOLS))
    return PROTOCOLS[name]


@dataclass(slots=True)
class _Sampled:
    """A network and its samples, in seconds per run."""

    run: Run
    runs_per_sample: int
    samples_s: list[float] = field(default_factory=list)


def warm_up(clock: DeviceClock, run: Run) -> float:
    """Run for at least WARM_UP_S, until two windows agree; return the seconds of one run.

    After WARM_UP_LIMIT_S the warm-up ends without agreement; the samples will show the noise.
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


def sample_interleaved(
    clock: DeviceClock,
    runs: Mapping[str, Run],
    protocol: Protocol,
    *,
    min_samples: int | None = None,
    time_limit_s: float = 10.0,
    on_progress: Callable[[float], None] | None = None,
) -> dict[str, Array]:
    """Warm up, then sample the networks in turn, A B A B.

    Args:
        clock: The clock of the device.
        runs: The run of each network, by name.
        protocol: The protocol.
        min_samples: Replaces the protocol's minimum number of samples.
        time_limit_s: Limit of the sampling for each network. At least MIN_SAMPLES samples are
            taken anyway (or `min_samples`, if that is smaller), as fewer give no interval.
        on_progress: Called with the share of the sampling that is done, 0 to 1: the share of the
            time limit or of the minimum number of samples, whichever is larger.

    Returns:
        The samples of each network, in seconds per run.
    """
    networks = []
    for run in runs.values():
        per_run = warm_up(clock, run)
        count = math.ceil(clock.min_window_s / per_run) if protocol.fills_window else 1
        networks.append(_Sampled(run, max(1, count)))
    spent, minimum = 0.0, protocol.samples if min_samples is None else min_samples
    while networks:
        spent += sum(_sample(clock, network, alone=len(networks) == 1) for network in networks)
        count = len(networks[0].samples_s)
        if on_progress is not None:
            on_progress(min(1.0, max(spent / (time_limit_s * len(networks)), count / minimum)))
        late = spent >= time_limit_s * len(networks)
        if all(_is_enough(network.samples_s, protocol, minimum) for network in networks) or (
            late and count >= min(minimum, MIN_SAMPLES)
        ):
            break
    return {name: np.array(network.samples_s) for name, network in zip(runs, networks, strict=True)}


def _sample(clock: DeviceClock, network: _Sampled, *, alone: bool) -> float:
    """Add one sample to the network; return the device seconds that it took."""
    long = bool(network.samples_s) and network.samples_s[-1] > LONG_RUN_S
    spent = 0.0 if alone or long else _refill_caches(clock, network.run)
    window = clock.time_runs(network.run, network.runs_per_sample)
    network.samples_s.append(window / network.runs_per_sample)
    return spent + window


def _refill_caches(clock: DeviceClock, run: Run) -> float:
    """Run for REFILL_CACHES_S after another network used the caches; return the seconds."""
    spent = max(clock.time_runs(run, 1), 1e-9)
    if spent < REFILL_CACHES_S:
        count = math.ceil((REFILL_CACHES_S - spent) / spent)
        spent += max(clock.time_runs(run, count), 1e-9)
    return spent


def _is_enough(samples_s: Sequence[float], protocol: Protocol, minimum: int) -> bool:
    count = len(samples_s)
    if count < minimum:
        return False
    return (
        protocol.interval_share is None
        or count >= MAX_SAMPLES
        or not is_noisy(np.array(samples_s), protocol.interval_share)
    )


def is_noisy(samples: Array, share: float) -> bool:
    """Whether an end of the median's 95 % interval is more than `share` away from the median.

    Fewer than MIN_SAMPLES samples give no such interval and are noisy.
    """
    if len(samples) < MIN_SAMPLES:
        return True
    low, high = median_interval(samples)
    middle = median(samples)
    return max(high - middle, middle - low) > share * middle
