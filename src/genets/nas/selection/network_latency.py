"""The latency of a network beside that of the MasterNet, and whether it meets a budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from genets.latency import Budget, LatencyTable, Measurement, Target
from genets.latency.timing.measurement import Ratio, is_wide

MAX_RATIO_SHARE = 0.05  # half-width of the interval of a ratio that decides on a busy device
# Other processes slow some networks more than others, by their use of caches and memory: ratios on
# a busy device differ from those on a quiet one by up to 8 % (python benchmarks/busy.py).
BUSY_MARGIN = 1.1
# The interval of a ratio is widened by this factor, because the machine changes from minute to
# minute, so repeated measurements of a ratio spread further (python benchmarks/ratios.py).
REPEATED_SPREAD = 2.0
# The least half-width of this interval on a CPU, as a share of the ratio, on one thread and on
# several: a CPU may have another speed some minutes later, which changes ratios that were measured
# precisely (python benchmarks/budgets.py).
LEAST_SHARE_ONE_THREAD, LEAST_SHARE = 0.03, 0.04
NARROW_SHARE = 0.01  # the half-width of the interval of a latency at which a measurement ends
_MASTER_FIELDS = (
    "master_ms_per_image",
    "master_low_ms_per_image",
    "master_high_ms_per_image",
    "master_disturbed",
    "master_undelayed",
    "master_disturbances",
)


def least_share(target: Target) -> float:
    """The least half-width of `NetworkLatency.interval_ms`, as a share of the ratio.

    target: With its number of threads, as `Target.resolved` gives it.
    """
    if not target.is_cpu:
        return 0.0
    return LEAST_SHARE_ONE_THREAD if target.threads == 1 else LEAST_SHARE


def least_bound(budget: Budget, target: Target) -> float:
    """The bound of a precise latency on a calm device, in multiples of the latency.

    See `NetworkLatency.bound_ms`. target: See `least_share`.
    """
    return 1 + (least_share(target) if budget.is_relative else NARROW_SHARE)


def narrow_share(target: Target) -> float:
    """The half-width of the interval of a ratio at which a measurement on a calm device ends.

    More samples would not make `NetworkLatency.interval_ms` narrower. target: See `least_share`.
    """
    return max(NARROW_SHARE, least_share(target) / REPEATED_SPREAD)


@dataclass(frozen=True)
class NetworkLatency:
    """A network's measurement, and the latency of the MasterNet that was measured in turn with it.

    A budget of 0.5x is half of the MasterNet's latency of the same moment, because a slow machine
    slows both. The upper end of the interval of the ratio must be within 0.5; see `interval_ms`.
    Where the ratio is unknown, as in older studies, the upper end of the network's interval must be
    within half of the lower end of the MasterNet's.

    Attributes:
        network: The measurement of the network.
        master_ms_per_image: The MasterNet's median.
        master_low_ms_per_image, master_high_ms_per_image: The 95 % interval of that median; older
            studies did not store its upper end.
        master_disturbed: Whether the measurement of the MasterNet was disturbed.
        master_undelayed: Whether its latency contains no time of waiting for a CPU. A ratio of
            waiting times says nothing about the networks.
        master_disturbances: Disturbances of the measurement of the MasterNet.
    """

    network: Measurement
    master_ms_per_image: float
    master_low_ms_per_image: float
    master_high_ms_per_image: float | None = None
    master_disturbed: bool = False
    master_undelayed: bool = True
    master_disturbances: tuple[str, ...] = ()

    @classmethod
    def in_turn(cls, network: Measurement, master: Measurement) -> NetworkLatency:
        """Combine the measurements of a network and of the MasterNet of the same moment."""
        return cls(
            network,
            master.ms_per_image,
            master.low_ms_per_image,
            master.high_ms_per_image,
            master.disturbed,
            master.undelayed,
            master.disturbances,
        )

    def median_ms(self, budget: Budget) -> float:
        """The latency for a budget.

        For a multiple of the MasterNet's latency, it is the ratio times the MasterNet's median.
        """
        ratio = self._ratio_for(budget)
        if ratio is None:
            return self.network.ms_per_image
        return ratio.median * self.master_ms_per_image

    def interval_ms(self, budget: Budget) -> tuple[float, float]:
        """The 95 % interval of `median_ms`.

        The interval of a ratio is wider, because the machine changes from minute to minute. The
        ratio of the MasterNet to itself is exact.
        """
        ratio = self._ratio_for(budget)
        if ratio is None:
            return self.network.low_ms_per_image, self.network.high_ms_per_image
        # On a busy device, BUSY_MARGIN is the reserve.
        needs_none = self.disturbed or ratio.low == ratio.high
        share = 0.0 if needs_none else least_share(self.network.target)
        low = min(REPEATED_SPREAD * (ratio.low - ratio.median), -share * ratio.median)
        high = max(REPEATED_SPREAD * (ratio.high - ratio.median), share * ratio.median)
        ms = self.master_ms_per_image
        return (ratio.median + low) * ms, (ratio.median + high) * ms

    def bound_ms(self, budget: Budget) -> float:
        """The bound that must be within the budget: the upper end, higher on a busy device."""
        return self._margin * self.interval_ms(budget)[1]

    def _ratio_for(self, budget: Budget) -> Ratio | None:
        """The ratio to the MasterNet, where it decides on the budget and is known."""
        return self.network.ratio if budget.is_relative else None

    @property
    def _margin(self) -> float:
        return BUSY_MARGIN if self.disturbed else 1.0

    @property
    def _master_interval(self) -> tuple[float, float]:
        high = self.master_high_ms_per_image
        return self.master_low_ms_per_image, self.master_ms_per_image if high is None else high

    @property
    def disturbed(self) -> bool:
        """Whether something else used or slowed the device during one of the two measurements."""
        disturbed = self.network.disturbed or self.master_disturbed
        return disturbed or (self.network.ratio is None and self._is_wide)

    @property
    def _is_wide(self) -> bool:
        """Whether an end of one of the two intervals is far from its median."""
        net = self.network
        return is_wide(net.ms_per_image, net.low_ms_per_image, net.high_ms_per_image) or is_wide(
            self.master_ms_per_image, *self._master_interval
        )

    @property
    def disturbances(self) -> tuple[str, ...]:
        """The disturbances of the two measurements; each is named once."""
        return tuple(dict.fromkeys((*self.network.disturbances, *self.master_disturbances)))

    @property
    def has_precise_ratio(self) -> bool:
        """Whether the ratio of both latencies is known within MAX_RATIO_SHARE."""
        net, (low, high), ratio = self.network, self._master_interval, self.network.ratio
        if ratio is not None:
            half = max(ratio.high / ratio.median - 1, 1 - ratio.low / ratio.median)
            return self.is_undelayed and half <= MAX_RATIO_SHARE
        largest = net.high_ms_per_image / net.ms_per_image * self.master_ms_per_image / low
        smallest = net.low_ms_per_image / net.ms_per_image * self.master_ms_per_image / high
        return self.is_undelayed and max(largest - 1, 1 - smallest) <= MAX_RATIO_SHARE

    @property
    def is_undelayed(self) -> bool:
        """Whether both latencies contain no time of waiting for a CPU."""
        return self.network.undelayed and self.master_undelayed

    def decides(self, budget: Budget | None) -> bool:
        """Whether the latency counts for the budget.

        A disturbed latency never counts for a budget in ms. It counts for a multiple of the
        MasterNet's latency where the ratio of both is precise.
        """
        if budget is not None and budget.is_relative:
            return not self.disturbed or self.has_precise_ratio
        return not self.disturbed and not self._is_wide

    def budget_ms(self, budget: Budget) -> float:
        """The budget in ms per image; a relative one is a multiple of the MasterNet's latency."""
        if self._ratio_for(budget) is None:
            return budget.ms_per_image(self.master_low_ms_per_image)
        return budget.ms_per_image(self.master_ms_per_image)

    def meets(self, budget: Budget) -> bool:
        """Whether the latency counts, and its upper 95 % bound is within the budget.

        On a busy device the bound must be below the budget by BUSY_MARGIN.
        """
        return self.decides(budget) and self.bound_ms(budget) <= self.budget_ms(budget)

    def exceeds(self, budget: Budget) -> bool:
        """Whether the latency shows that the network does not meet the budget.

        On a busy device the interval must be above the budget by BUSY_MARGIN.
        """
        if not self.disturbed:
            return self.decides(budget) and not self.meets(budget)
        limit_ms = self.budget_ms(budget)
        if self._ratio_for(budget) is None:
            limit_ms = budget.ms_per_image(self._master_interval[1])
        return self.decides(budget) and self.interval_ms(budget)[0] > self._margin * limit_ms

    def may_meet(self, budget: Budget | None) -> bool:
        """Whether the budget lies within the interval, and more samples would narrow it."""
        if budget is None or self.disturbed or self.meets(budget):
            return False
        ratio, net, share = self._ratio_for(budget), self.network, NARROW_SHARE
        median, high = net.ms_per_image, net.high_ms_per_image
        if ratio is not None:
            median, high, share = ratio.median, ratio.high, narrow_share(net.target)
        is_narrow = high <= (1 + share) * median
        return self.interval_ms(budget)[0] <= self.budget_ms(budget) and not is_narrow

    @property
    def times_master(self) -> float:
        """The latency as a multiple of the MasterNet's of the same moment."""
        ratio = self.network.ratio
        if ratio is not None:
            return ratio.median
        return self.network.ms_per_image / self.master_ms_per_image

    def slowdown(self, table: LatencyTable) -> float:
        """How many times slower the machine was than when the table was built."""
        return self.master_ms_per_image / table.master_ms_per_image

    def to_json(self) -> dict[str, Any]:
        return {**self.network.to_json(), **{name: getattr(self, name) for name in _MASTER_FIELDS}}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> NetworkLatency:
        values = dict(record)
        median, low = (float(values.pop(name)) for name in _MASTER_FIELDS[:2])
        high = values.pop("master_high_ms_per_image", None)  # older studies have none of these
        disturbed = bool(values.pop("master_disturbed", False))
        undelayed = bool(values.pop("master_undelayed", True))
        causes = tuple(map(str, values.pop("master_disturbances", ())))
        high = None if high is None else float(high)
        network = Measurement.from_json(values)
        return cls(network, median, low, high, disturbed, undelayed, causes)
