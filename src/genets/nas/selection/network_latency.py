"""The latency of a network beside that of the MasterNet, and what it says about a budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from genets.latency import Budget, LatencyTable, Measurement
from genets.latency.timing.measurement import is_wide

MAX_RATIO_SHARE = 0.05  # half-width of the interval of a ratio that decides on a busy device
# Other processes slow some networks more than others, by their use of caches and memory: ratios on
# a busy device differ from those on a quiet one by up to 8 % (python benchmarks/busy.py).
BUSY_MARGIN = 1.1
_MASTER_FIELDS = (
    "master_ms_per_image",
    "master_low_ms_per_image",
    "master_high_ms_per_image",
    "master_disturbed",
    "master_undelayed",
    "master_disturbances",
)


@dataclass(frozen=True)
class NetworkLatency:
    """A network's measurement, and the latency of the MasterNet that was measured in turn with it.

    A budget of 0.5x is half of the MasterNet's latency of the same moment, because a slow machine
    slows both. The lower end of the MasterNet's interval counts, so that the budget holds in
    spite of the noise of both measurements.

    Attributes:
        network: The measurement of the network.
        master_ms_per_image: The MasterNet's median.
        master_low_ms_per_image, master_high_ms_per_image: The 95 % interval of that median; older
            studies did not store its upper end.
        master_disturbed: Whether the measurement of the MasterNet was disturbed.
        master_undelayed: Whether its latency contains no time of waiting for a CPU. A ratio of
            waiting times says nothing about the networks.
        master_disturbances: What disturbed the measurement of the MasterNet.
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

    @property
    def bound_over_median(self) -> float:
        """The bound that must be within the budget, in multiples of the median."""
        return self._margin * self.network.high_ms_per_image / self.network.ms_per_image

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
        net = self.network
        return (
            net.disturbed
            or self.master_disturbed
            or is_wide(net.ms_per_image, net.low_ms_per_image, net.high_ms_per_image)
            or is_wide(self.master_ms_per_image, *self._master_interval)
        )

    @property
    def disturbances(self) -> tuple[str, ...]:
        """What disturbed the two measurements; each cause is named once."""
        return tuple(dict.fromkeys((*self.network.disturbances, *self.master_disturbances)))

    @property
    def has_precise_ratio(self) -> bool:
        """Whether the ratio of both latencies is known within MAX_RATIO_SHARE."""
        net, (low, high) = self.network, self._master_interval
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
        relative = budget is not None and budget.is_relative
        return not self.disturbed or (relative and self.has_precise_ratio)

    def budget_ms(self, budget: Budget) -> float:
        return budget.ms_per_image(self.master_low_ms_per_image)

    def meets(self, budget: Budget) -> bool:
        """Whether the latency counts, and its upper 95 % bound is within the budget.

        On a busy device the bound must be below the budget by BUSY_MARGIN.
        """
        bound_ms = self._margin * self.network.high_ms_per_image
        return self.decides(budget) and bound_ms <= self.budget_ms(budget)

    def exceeds(self, budget: Budget) -> bool:
        """Whether the latency shows that the network does not meet the budget.

        On a busy device the interval must be above the budget by BUSY_MARGIN.
        """
        if not self.disturbed:
            return not self.meets(budget)
        limit_ms = budget.ms_per_image(self._master_interval[1])
        return self.decides(budget) and self.network.low_ms_per_image > self._margin * limit_ms

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
