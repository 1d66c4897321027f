"""Suspicion: timed pieces that contradict each other."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import replace
from itertools import pairwise

from genets.latency.predictor.probes import Edge, Piece, Probe
from genets.latency.timing.drift import Timed
from genets.structure import Structure

BEYOND = 2.0  # standard errors of a difference


def suspicious(timed: Mapping[Probe | Structure, Timed]) -> list[Probe]:
    """Pieces that take less time than a narrower or shallower one, and those, each once.

    Only where the difference is more than their noise. A width between two whole tiles of
    channels may well cost more than a somewhat wider one: it is suspected, and stays as it is.
    """
    found: dict[Probe, None] = {}
    for less, more in _pairs([item for item in timed if isinstance(item, Probe)]):
        low, high = timed[less], timed[more]
        noise = math.hypot(low.error, high.error)
        if math.log(low.seconds / high.seconds) > BEYOND * noise:
            found |= {less: None, more: None}
    return list(found)


def _pairs(
    pieces: list[Probe],
) -> Iterator[tuple[Probe, Probe]]:
    """The one that should be faster first."""
    rows: dict[Hashable, list[Probe]] = {}
    for piece in pieces:
        if isinstance(piece, Piece):
            rows.setdefault(replace(piece, width=0, input_width=0), []).append(piece)
            rows.setdefault(replace(piece, depth=0), []).append(piece)
        elif isinstance(piece, Edge):
            rows.setdefault(replace(piece, width=0), []).append(piece)
            rows.setdefault(replace(piece, length=0), []).append(piece)
        else:
            rows.setdefault(replace(piece, input_width=0), []).append(piece)
            rows.setdefault(replace(piece, width=0), []).append(piece)
    for row in rows.values():
        for less, more in pairwise(sorted(row)):
            if less.input_width <= more.input_width:
                yield less, more
