"""Edges: what a piece pays for standing alone, taken out of its time."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from genets.latency.predictor.probes import CHAIN_EXTRA, Edge, End, Piece, Probe

LEAST_SHARE = 0.2  # of a piece's time is left to it


def without_edges(
    timed_ms: Mapping[Probe, float],
) -> dict[Piece | End, float]:
    """ms per batch of pieces and ends as parts of a network.

    The time of no layer at all, from chains of one and of several layers next to nothing, is what
    it costs to enter and to leave; a piece enters with the values that it reads and leaves with
    those that it writes, half of each. The stem reads images as networks do, and the head gives
    back logits: they pay the other half only. Between the widths that were timed it is
    interpolated; without timed edges nothing is taken out.
    """
    known = _standing_alone(timed_ms)
    if not known:
        return {item: ms for item, ms in timed_ms.items() if not isinstance(item, Edge)}

    def half(width: int, resolution: int) -> float:
        widths, ms = np.array(sorted(known[resolution].items())).T
        return float(np.interp(width, widths, ms)) / 2

    found: dict[Piece | End, float] = {}
    for item, ms in timed_ms.items():
        if isinstance(item, Piece):
            side = -(-item.resolution // item.stride)
            edges = half(item.input_width, item.resolution) + half(item.width, side)
        elif isinstance(item, End):
            edges = half(item.input_width, item.resolution) if item.name == "head" else 0.0
        else:
            continue
        found[item] = max(ms - edges, LEAST_SHARE * ms)
    return found


def _standing_alone(
    timed_ms: Mapping[Probe, float],
) -> dict[int, dict[int, float]]:
    """ms of entering and leaving, by resolution and width."""
    known: dict[int, dict[int, float]] = {}
    for edge, ms in timed_ms.items():
        if isinstance(edge, Edge) and edge.length == 1:
            long = timed_ms[Edge(edge.width, edge.resolution, 1 + CHAIN_EXTRA)]
            layer = max(long - ms, 0.0) / CHAIN_EXTRA
            known.setdefault(edge.resolution, {})[edge.width] = max(ms - layer, 0.0)
    return known
