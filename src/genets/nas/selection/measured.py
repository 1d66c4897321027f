"""The measured latency of networks on a target, stored so that a resumed study relies on it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genets.core.errors import StudyError
from genets.core.files import write_atomic
from genets.core.json_files import read_json
from genets.latency import Budget, LatencyTable, Measurement, Target
from genets.structure import Structure

MAX_STEADY_SHARE = 0.1  # half-width of an interval, as a share; a wider one is disturbed
MAX_ATTEMPTS = 3

# Measures networks in turn, A B A B.
MeasureInTurn = Callable[[Sequence[Structure]], Mapping[Structure, Measurement]]


@dataclass(frozen=True)
class NetworkLatency:
    """A network's measurement, and the latency of the MasterNet that was measured in turn with it.

    A budget of 0.5x is half of the MasterNet's latency of the same moment, because a slow machine
    slows both. The lower end of the MasterNet's interval counts, so that the budget holds in
    spite of the noise of both measurements.
    """

    network: Measurement
    master_ms_per_image: float
    master_low_ms_per_image: float

    @property
    def bound_over_median(self) -> float:
        return self.network.high_ms_per_image / self.network.ms_per_image

    @property
    def disturbed(self) -> bool:
        """Whether an interval is so wide that something else must have used the device."""
        master_share = self.master_ms_per_image / self.master_low_ms_per_image
        return max(self.bound_over_median, master_share) > 1 + MAX_STEADY_SHARE

    def budget_ms(self, budget: Budget) -> float:
        return budget.ms_per_image(self.master_low_ms_per_image)

    def meets(self, budget: Budget) -> bool:
        """Whether the upper end of the 95 % interval is within the budget."""
        return self.network.high_ms_per_image <= self.budget_ms(budget)

    def slowdown(self, table: LatencyTable) -> float:
        """How many times slower the machine was than when the table was built."""
        return self.master_ms_per_image / table.master_ms_per_image

    def to_json(self) -> dict[str, Any]:
        return {
            **self.network.to_json(),
            "master_ms_per_image": self.master_ms_per_image,
            "master_low_ms_per_image": self.master_low_ms_per_image,
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> NetworkLatency:
        values = dict(record)
        master = (values.pop("master_ms_per_image"), values.pop("master_low_ms_per_image"))
        return cls(Measurement.from_json(values), *map(float, master))


class MeasuredNetworks:
    """The measured networks of one target, in one JSON file.

    Args:
        path: The file, which may not exist yet.
        master: The MasterNet, which is measured in turn with every other network.
        measure_in_turn: Measures networks. A reader leaves out the last two arguments.

    Raises:
        StudyError: The file is damaged.
    """

    def __init__(
        self,
        path: Path,
        master: Structure | None = None,
        measure_in_turn: MeasureInTurn | None = None,
    ) -> None:
        self._path = path
        self._master = master
        self._measure_in_turn = measure_in_turn
        self.stored = _load(path)
        # The device may be calm now, so what an earlier process left disturbed is measured again.
        self._repeated = {s for s, latency in self.stored.items() if latency.disturbed}

    def measure(self, structures: Sequence[Structure]) -> dict[Structure, NetworkLatency]:
        """Measure the networks that are not stored yet, and store them.

        A disturbed measurement is repeated, MAX_ATTEMPTS measurements in all; a later process
        makes one more series of attempts.
        """
        fresh = [s for s in structures if s not in self.stored or s in self._repeated]
        self._repeated -= set(fresh)
        if fresh:
            for _ in range(MAX_ATTEMPTS):
                self._measure_once(fresh)
                fresh = [s for s in fresh if self.stored[s].disturbed]
                if not fresh:
                    break
            record = {str(s): latency.to_json() for s, latency in self.stored.items()}
            write_atomic(self._path, json.dumps(record) + "\n")
        return {structure: self.stored[structure] for structure in structures}

    def _measure_once(self, structures: Sequence[Structure]) -> None:
        assert self._master is not None
        assert self._measure_in_turn is not None
        measured = self._measure_in_turn([*dict.fromkeys([self._master, *structures])])
        master = measured[self._master]
        for structure in structures:
            self.stored[structure] = NetworkLatency(
                measured[structure], master.ms_per_image, master.low_ms_per_image
            )


@dataclass(frozen=True, eq=False)
class TargetLatency:
    """What a study knows about latency on one target: predictions and measurements."""

    table: LatencyTable
    networks: MeasuredNetworks

    @property
    def target(self) -> Target:
        return self.table.target

    @property
    def measured(self) -> Mapping[Structure, NetworkLatency]:
        """All networks that have been measured."""
        return self.networks.stored

    def measure(self, structures: Sequence[Structure]) -> dict[Structure, NetworkLatency]:
        """See `MeasuredNetworks.measure`."""
        return self.networks.measure(structures)


def _load(path: Path) -> dict[Structure, NetworkLatency]:
    def read(record: Any) -> dict[Structure, NetworkLatency]:
        return {Structure.parse(s): NetworkLatency.from_json(v) for s, v in record.items()}

    return read_json(path, read, raises=StudyError, cure="remove it to measure again") or {}
