"""Clock: when the warm-up ends, how long a sample is, and when enough samples are taken."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from genets.core.errors import TargetError, unknown_name
from genets.latency.engines.base import DeviceClock, Run, find_move, move_in_memory
from genets.latency.timing.statistics import (
    MIN_SAMPLES,
    Array,
    median,
    median_interval,
    trimmed_mean,
)
from genets.latency.timing.watch import ActivityWatch

WARM_UP_S = 0.2
WARM_UP_LIMIT_S = 2.0
WARM_UP_WINDOWS = 10  # windows that make up WARM_UP_S
WARM_UP_AGREEMENT = 0.01
MAX_SAMPLES = 10_000
REFILL_CACHES_S = 0.01
MAX_WALL_SHARE = 4.0  # of the time limit: the wall time of samples that wait for a CPU
LONG_RUN_S = 0.5  # for a run of this length, earlier contents of the caches do not matter
# A network whose run takes longer stays where it is in memory: it gets few samples, and no run in
# between that would fill the caches again.
MAX_MOVED_RUN_S = 0.05

Precise = Literal["latencies", "ratios", "both"]


@dataclass(frozen=True, slots=True)
class Protocol:
    """How many samples are taken and how the latency follows from them.

    Attributes:
        samples: The minimum number of samples.
        runs: The minimum number of runs in all samples together.
        interval_share: Sampling continues until both ends of the median's 95 % interval are
            within this share of the median. None means that `samples` is the exact number.
        fills_window: Whether a sample is the mean of as many runs in a row as make the timer's
            error negligible, at other addresses in memory where the engine can move a network.
            Otherwise a sample is one run.
        estimate: Maps all samples to the latency.
        estimate_name: The name of this statistic.
        calm_share: Replaces `interval_share` where the CPUs have room. None: `interval_share`.
    """

    samples: int
    runs: int
    interval_share: float | None
    fills_window: bool
    estimate: Callable[[Array], float]
    estimate_name: str
    calm_share: float | None = None

    def share(self, *, has_room: bool | None) -> float | None:
        """The share that counts. has_room: See `ActivityWatch.has_room`."""
        if has_room and self.interval_share is not None and self.calm_share is not None:
            return self.calm_share
        return self.interval_share


PROTOCOLS: dict[str, Protocol] = {
    "genets-1": Protocol(30, 100, 0.01, True, median, "median"),
    # Paper, section 3.2: 30 repetitions, highest and lowest 10 % dropped, mean of the rest.
    "paper": Protocol(30, 30, None, False, trimmed_mean, "trimmed mean"),
}


def find_protocol(name: str) -> Protocol:
    """Look up a protocol by its name. Raises TargetError."""
    if name not in PROTOCOLS:
        raise TargetError(unknown_name("protocol", name, PROTOCOLS))
    return PROTOCOLS[name]


@dataclass(frozen=True, slots=True)
class Samples:
    """The samples of a network, in the order in which they were taken.

    Attributes:
        wall_s: Shape (samples,), seconds per run.
        undelayed_s: Shape (samples,), the same without waiting for a CPU that something else used;
            NaN for an interrupted sample of which this time is unknown. Where the CPUs had room,
            no sample counts as interrupted.
    """

    wall_s: Array
    undelayed_s: Array

    @property
    def has_enough_undelayed(self) -> bool:
        """Whether the samples that count give an interval without any time of waiting."""
        return int(np.isfinite(self.undelayed_s).sum()) >= min(MIN_SAMPLES, len(self.wall_s))

    @property
    def counted_s(self) -> Array:
        """The samples that count: without waiting, or all of them where too few are known."""
        if not self.has_enough_undelayed:
            return self.wall_s
        return np.asarray(self.undelayed_s[np.isfinite(self.undelayed_s)])

    def ratios(self, reference: Samples) -> Array:
        """The ratios to samples that were taken in turn with these, without waiting for a CPU.

        A change of the machine's speed slows both samples of a pair, and hardly their ratio. The
        reference may have been sampled longer.
        """
        ratios = self.undelayed_s / reference.undelayed_s[: len(self.undelayed_s)]
        return np.asarray(ratios[np.isfinite(ratios)])

    @property
    def interrupted_share(self) -> float:
        """The share of the samples in which a thread waited for a CPU."""
        return float(np.mean(self.undelayed_s != self.wall_s))  # NaN differs from every number


@dataclass(slots=True, eq=False)
class _Sampled:
    """A network and its samples, in seconds per run; see `Samples`.

    move: Moves the network to other addresses in memory before each sample; None where it stays.
    is_cold: Whether the caches hold other data before each sample.
    spent_s: The part of the time limit that the samples have used.
    """

    run: Run
    runs_per_sample: int
    move: Callable[[], None] | None
    is_cold: bool
    spent_s: float = 0.0
    wall_s: list[float] = field(default_factory=list)
    undelayed_s: list[float] = field(default_factory=list)

    def samples(self, *, has_room: bool) -> Samples:
        wall_s = np.array(self.wall_s)
        return Samples(wall_s, wall_s if has_room else np.array(self.undelayed_s))


def warm_up(clock: DeviceClock, run: Run) -> float:
    """Run for at least WARM_UP_S, until two windows agree; return the least seconds of one run.

    After WARM_UP_LIMIT_S the warm-up ends without agreement; the samples will show the noise.
    """
    total = per_run = fastest = clock.time_runs(run, 1)
    previous = math.inf
    while total < WARM_UP_LIMIT_S:
        count = max(1, math.ceil(WARM_UP_S / WARM_UP_WINDOWS / per_run))
        window = clock.time_runs(run, count)
        total += window
        previous, per_run = per_run, max(window / count, 1e-9)
        fastest = min(fastest, per_run)
        agree = abs(per_run - previous) <= WARM_UP_AGREEMENT * previous
        if total >= WARM_UP_S and agree:
            break
    return fastest


def sample_interleaved(
    clock: DeviceClock,
    runs: Mapping[str, Run],
    protocol: Protocol,
    *,
    watch: ActivityWatch | None = None,
    reference: str | None = None,
    precise: Precise = "ratios",
    min_samples: int | None = None,
    time_limit_s: float = 10.0,
    on_progress: Callable[[float], None] | None = None,
) -> dict[str, Samples]:
    """Warm up, then sample the networks in turn, A B A B, until they have enough samples.

    Args:
        clock: The clock of the device.
        runs: The run of each network, by name.
        protocol: The protocol.
        watch: Notes interrupted samples; by default one for `clock`.
        reference: The name of the network for the ratios.
        precise: The values that must be precise; without a reference, the latencies. With
            "ratios", each network is sampled in turn with the reference until its own ratio is
            precise. Otherwise all networks are sampled over the same time.
        min_samples: Replaces the protocol's minimum number of samples.
        time_limit_s: Limit of the sampling for each network, without waiting for a CPU; with it,
            MAX_WALL_SHARE times as long. Networks that are sampled over the same time share their
            limits. At least MIN_SAMPLES samples are taken anyway (or `min_samples`, if that is
            smaller), as fewer give no interval.
        on_progress: Called with the share of the sampling that is done, 0 to 1: the share of the
            time limit or of the minimum number of samples, whichever is larger.

    Returns:
        The samples of each network.
    """
    watch = watch or ActivityWatch(clock)
    networks = []
    for run in runs.values():
        per_run = warm_up(clock, run)
        is_moved = protocol.fills_window and per_run <= MAX_MOVED_RUN_S
        move = find_move(run) if is_moved else None
        is_cold = len(runs) > 1 or move is not None
        # A sample of a cold network is as long as the runs before it, which are not timed.
        window_s = max(clock.min_window_s, REFILL_CACHES_S if is_cold else 0.0)
        count = math.ceil(window_s / per_run) if protocol.fills_window else 1
        networks.append(_Sampled(run, max(1, count), move, is_cold))
    base = None
    if reference is not None and precise != "latencies":
        base = networks[list(runs).index(reference)]
    ratios_alone = base is not None and precise == "ratios"
    minimum = _least_samples(networks, protocol) if min_samples is None else min_samples

    def is_late(network: _Sampled) -> bool:
        if sum(each.spent_s for each in networks) >= time_limit_s * len(networks):
            return True
        return ratios_alone and network.spent_s >= time_limit_s

    active = networks
    while active:
        for network in active if base is None or base in active else [base, *active]:
            _sample(watch, network)
        count = len(active[0].wall_s)
        if on_progress is not None:
            spent = sum(network.spent_s for network in networks)
            on_progress(min(1.0, max(spent / (time_limit_s * len(networks)), count / minimum)))
        left = active
        if count >= min(minimum, MIN_SAMPLES):
            left = [each for each in left if not is_late(each)]
        if count >= minimum:
            left = [
                each for each in left
                if not _is_enough(each, base, watch, protocol, ratios_alone=ratios_alone)
            ]  # fmt: skip
        # Latencies are comparable only where all networks are sampled over the same time.
        active = left if ratios_alone or not left else networks
    has_room = bool(watch.has_room())
    samples = [network.samples(has_room=has_room) for network in networks]
    return dict(zip(runs, samples, strict=True))


def _least_samples(networks: list[_Sampled], protocol: Protocol) -> int:
    runs_per_sample = min((network.runs_per_sample for network in networks), default=1)
    return max(protocol.samples, math.ceil(protocol.runs / runs_per_sample))


def _sample(watch: ActivityWatch, network: _Sampled) -> None:
    """Add one sample to the network."""
    network.spent_s += move_in_memory(network.move)
    is_long = bool(network.wall_s) and network.wall_s[-1] > LONG_RUN_S
    if network.is_cold and not is_long:
        network.spent_s += _refill_caches(watch, network.run)
    window = watch.time_runs(network.run, network.runs_per_sample)
    wall_s, undelayed_s = (seconds / network.runs_per_sample for seconds in window)
    network.wall_s.append(wall_s)
    network.undelayed_s.append(undelayed_s)
    network.spent_s += _cost_s(window)


def _refill_caches(watch: ActivityWatch, run: Run) -> float:
    """Run for REFILL_CACHES_S after another network used the caches; see `_sample`."""
    first = watch.time_runs(run, 1)
    spent = max(_cost_s(first), 1e-9)
    if spent < REFILL_CACHES_S:
        count = math.ceil((REFILL_CACHES_S - spent) / spent)
        spent += max(_cost_s(watch.time_runs(run, count)), 1e-9)
    return spent


def _cost_s(window: tuple[float, float]) -> float:
    """The part of the time limit that a window uses: its time, or a share of its wall time."""
    wall_s, undelayed_s = window
    if math.isnan(undelayed_s):
        return wall_s
    return max(undelayed_s, wall_s / MAX_WALL_SHARE)


def _is_enough(
    network: _Sampled,
    base: _Sampled | None,
    watch: ActivityWatch,
    protocol: Protocol,
    *,
    ratios_alone: bool,
) -> bool:
    """Whether a network has enough samples.

    Args:
        network: The network.
        base: The reference, if the ratio to it must be precise.
        watch: See `sample_interleaved`.
        protocol: See `sample_interleaved`.
        ratios_alone: Whether the latencies need not be precise.
    """
    has_room = bool(watch.has_room())
    share = protocol.share(has_room=has_room)
    if share is None or len(network.wall_s) >= MAX_SAMPLES:
        return True
    samples = network.samples(has_room=has_room)
    if base is not None and is_noisy(samples.ratios(base.samples(has_room=has_room)), share):
        return False
    if ratios_alone:
        return True
    return samples.has_enough_undelayed and not is_noisy(samples.counted_s, share)


def is_noisy(samples: Array, share: float) -> bool:
    """Whether an end of the median's 95 % interval is more than `share` away from the median.

    Fewer than MIN_SAMPLES samples give no such interval and are noisy.
    """
    if len(samples) < MIN_SAMPLES:
        return True
    low, high = median_interval(samples)
    middle = median(samples)
    return max(high - middle, middle - low) > share * middle
