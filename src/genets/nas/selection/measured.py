"""Networks measured on one target during a study, kept so that a resumed study trusts them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genets.core.errors import StudyError
from genets.core.files import write_atomic
from genets.latency import Budget, LatencyTable, Measurement, Target, measure_interleaved
from genets.networks import build
from genets.structure import Structure

DISTURBED_SHARE = 0.1
ATTEMPTS = 3


@dataclass(frozen=True)
class NetworkLatency:
    """A network's measurement, and the MasterNet's latency as it was measured in between.

    A budget of 0.5x means half of the latter, as a machine that is slow for a while is slow
    for both; of the lower end of its interval, so that the promise bears the noise of both.
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
        return max(self.bound_over_median, master_share) > 1 + DISTURBED_SHARE

    def budget_ms(self, budget: Budget) -> float:
        return budget.ms_per_image(self.master_low_ms_per_image)

    def keeps(self, budget: Budget) -> bool:
        """Whether the upper 95 % bound is within the budget."""
        return self.network.high_ms_per_image <= self.budget_ms(budget)

    def pace(self, table: LatencyTable) -> float:
        """How many times slower the machine was then than when the table was made."""
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
    """Measurements by structure, in one JSON file that grows with each measuring."""

    def __init__(
        self, path: Path, master: Structure, target: Target, num_classes: int, time_limit_s: float
    ) -> None:
        """time_limit_s: for each network; a noisy machine uses it up."""
        self.path = path
        self.master = master
        self.target = target
        self.num_classes = num_classes
        self.time_limit_s = time_limit_s
        self._known = _load(path)
        # What was disturbed in an earlier process deserves another try: the device may be calm now.
        self._doubtful = {text for text, known in self._known.items() if known.disturbed}

    def measure(self, structures: Sequence[Structure]) -> dict[Structure, NetworkLatency]:
        """Measure those that are not known yet and the MasterNet in turn, and store them.

        What came out disturbed is measured again, up to ATTEMPTS times in all, and once more so
        by another process.
        """
        fresh = [s for s in structures if str(s) not in self._known or str(s) in self._doubtful]
        self._doubtful -= {str(structure) for structure in fresh}
        if fresh:
            for _ in range(ATTEMPTS):
                self._measure_once(fresh)
                fresh = [s for s in fresh if self._known[str(s)].disturbed]
                if not fresh:
                    break
            record = {text: known.to_json() for text, known in self._known.items()}
            write_atomic(self.path, json.dumps(record) + "\n")
        return {structure: self._known[str(structure)] for structure in structures}

    def _measure_once(self, structures: Sequence[Structure]) -> None:
        in_turn = dict.fromkeys([self.master, *structures])
        nets = {str(s): build(s, self.num_classes) for s in in_turn}
        measured = measure_interleaved(
            nets,
            self.target,
            {str(s): s.resolution for s in in_turn},
            time_limit_s=self.time_limit_s,
        )
        master = measured[str(self.master)]
        for structure in structures:
            self._known[str(structure)] = NetworkLatency(
                measured[str(structure)], master.ms_per_image, master.low_ms_per_image
            )


def load_measured(path: Path) -> dict[Structure, NetworkLatency]:
    """What is stored there; empty if nothing is. Raises StudyError."""
    return {Structure.parse(text): known for text, known in _load(path).items()}


def _load(path: Path) -> dict[str, NetworkLatency]:
    if not path.exists():
        return {}
    try:
        record = json.loads(path.read_bytes())
        return {text: NetworkLatency.from_json(value) for text, value in record.items()}
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise StudyError(f"{path} is damaged ({error}); remove it to measure again") from error
