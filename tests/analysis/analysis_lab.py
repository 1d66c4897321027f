"""Networks of known latency: what is measured is looked up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from torch import nn

from genets.analysis import ComparedNetwork
from genets.analysis.comparison import compare
from genets.core.errors import TargetError
from genets.latency import Measurement, Target
from genets.latency.timing.measurement import Ratio


def measurement_of(
    ms: float, target: Target, resolution: int, protocol: Any = "genets-1", **packages: str
) -> Measurement:
    environment = {"device_name": "a device", "threads": target.threads, "packages": packages}
    return Measurement(
        ms, 0.99 * ms, 1.01 * ms, 1.1 * ms, 1.2 * ms, (ms,) * 8, False, {"load": 0.1}, protocol,
        target, resolution, environment,
    )  # fmt: skip


@dataclass
class Lab:
    """ms: per image, by network. together: the most networks that a run can hold."""

    ms: dict[str, float]
    failing: dict[str, str] = field(default_factory=dict)
    crowded: set[str] = field(default_factory=set)
    runs: list[tuple[Target, list[str]]] = field(default_factory=list)
    stop_at: int = 10**9

    def measure(
        self,
        networks: Iterable[str],
        target: Target,
        resolution: Mapping[str, int],
        *,
        protocol: str,
        reference: str | None,
        on_error: Callable[[str, TargetError], None],
        on_progress: Callable[[float], None],
        **_: object,
    ) -> dict[str, Measurement]:
        networks = list(networks)
        if len(self.runs) >= self.stop_at:
            raise KeyboardInterrupt
        self.runs.append((target, networks))
        found = {}
        for name in networks:
            if name in self.failing or (name in self.crowded and len(networks) > 1):
                on_error(name, TargetError(self.failing.get(name, "no memory is left")))
                continue
            ms = self.ms[name] * (1 + 1 / target.batch_size)
            found[name] = measurement_of(ms, target, resolution[name], protocol)
        on_progress(1.0)
        if reference not in found or len(found) == 1:
            return found
        ratios = {name: m.ms_per_image / found[reference].ms_per_image for name, m in found.items()}
        return {
            name: replace(m, ratio=Ratio(ratios[name], 0.99 * ratios[name], 1.02 * ratios[name]))
            for name, m in found.items()
        }


def in_lab(patch: pytest.MonkeyPatch) -> Lab:
    """Put a lab in place of the clock."""
    lab = Lab({})
    patch.setattr(compare, "measure_interleaved", lab.measure)
    environment = {"device_name": "a device", "threads": 1, "packages": {}}
    patch.setattr("genets.analysis.comparison.rows.describe_environment", lambda t: environment)
    return lab


def candidate(name: str, width: int = 8, **facts: Any) -> ComparedNetwork:
    return ComparedNetwork(name, name[0], 8, lambda: nn.Conv2d(3, width, 3), **facts)
