"""Networks measured on one target during a study, kept so that a resumed study trusts them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from genets.errors import StudyError
from genets.files import write_atomic
from genets.latency import Measurement, Target, measure_interleaved
from genets.networks import build
from genets.structure import Structure


class MeasuredNetworks:
    """Measurements by structure, in one JSON file that grows with each measuring."""

    def __init__(self, path: Path, target: Target, num_classes: int, time_limit_s: float) -> None:
        """time_limit_s: for each network; a noisy machine uses it up."""
        self.path = path
        self.target = target
        self.num_classes = num_classes
        self.time_limit_s = time_limit_s
        self._known = _load(path)

    def __getitem__(self, structure: Structure) -> Measurement:
        return self._known[str(structure)]

    def measure(self, structures: Sequence[Structure]) -> dict[Structure, Measurement]:
        """Measure those that are not known yet, interleaved with each other, and store them."""
        fresh = {
            str(s): build(s, self.num_classes) for s in structures if str(s) not in self._known
        }
        if fresh:
            resolution = structures[0].resolution
            self._known |= measure_interleaved(
                fresh, self.target, resolution, time_limit_s=self.time_limit_s
            )
            record = {text: m.to_json() for text, m in self._known.items()}
            write_atomic(self.path, json.dumps(record) + "\n")
        return {structure: self[structure] for structure in structures}


def _load(path: Path) -> dict[str, Measurement]:
    if not path.exists():
        return {}
    try:
        record = json.loads(path.read_bytes())
        return {text: Measurement.from_json(value) for text, value in record.items()}
    except (ValueError, AttributeError) as error:
        raise StudyError(f"{path} is damaged ({error}); remove it to measure again") from error
