"""Contradictions: pairs of probes of which the larger one was faster."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

from genets.latency.predictor.probes import (
    BlockProbe,
    Item,
    OverheadProbe,
    Probe,
    StemOrHeadProbe,
)
from genets.latency.timing.drift import TimeEstimate
from genets.structure import Structure

CONTRADICTION_ERRORS = 2.0  # standard errors of a difference
# The sizes that grow in turn, with all other fields equal, in a comparison of probes.
SIZES: dict[type, tuple[tuple[str, ...], ...]] = {
    BlockProbe: (("width", "input_width"), ("depth",)),
    StemOrHeadProbe: (("input_width",), ("width",)),
    OverheadProbe: (("width",), ("length",)),
}


def find_contradictions(times: Mapping[Item, TimeEstimate]) -> list[Probe]:
    """Find pairs of probes whose times contradict each other: the larger probe was faster.

    A pair counts only where the difference exceeds the noise. A width between two whole tiles of
    channels may really cost more than a slightly larger width. Its time is repeated and stays.

    Returns:
        The probes of all pairs, each once.
    """
    contradictory: dict[Probe, None] = {}
    for smaller, larger in _pairs([item for item in times if not isinstance(item, Structure)]):
        low, high = times[smaller], times[larger]
        noise = math.hypot(low.error, high.error)
        if math.log(low.seconds / high.seconds) > CONTRADICTION_ERRORS * noise:
            contradictory |= {smaller: None, larger: None}
    return list(contradictory)


def _pairs(probes: list[Probe]) -> Iterator[tuple[Probe, Probe]]:
    """Neighbours that differ in one size only, the smaller probe first."""
    rows: dict[Hashable, list[Probe]] = {}
    for probe in probes:
        for sizes in SIZES[type(probe)]:
            equal: dict[str, Any] = dict.fromkeys(sizes, 0)
            rows.setdefault(replace(probe, **equal), []).append(probe)
    for row in rows.values():
        for smaller, larger in pairwise(sorted(row)):
            if smaller.input_width <= larger.input_width:
                yield smaller, larger
