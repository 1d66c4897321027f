"""The MasterNet with all widths scaled: a candidate that inherits every block type.

A candidate that inherits weights loses something with each block of another type, and with few
images a search cannot measure how much. The scaled MasterNet loses nothing but channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from genets.latency import LatencyTable
from genets.structure import SearchSpace, Structure


def scale_to_latency(
    space: SearchSpace, table: LatencyTable, aim_ms: float, resolution: int
) -> Structure | None:
    """Scale the widths of the MasterNet by one factor until a latency is reached.

    Args:
        space: The search space; each width is one of its widths.
        table: Predicts latencies.
        aim_ms: The largest predicted latency.
        resolution: The resolution of the structure.

    Returns:
        The widest structure up to the latency; None where all are slower.
    """
    for structure in _scaled_down(space):
        structure = structure.with_resolution(resolution)
        if table.predict_ms_per_image(structure) <= aim_ms:
            return structure
    return None


def _scaled_down(space: SearchSpace) -> Iterator[Structure]:
    """The scaled MasterNets that differ, the widest first."""
    master = space.master
    shares = {
        width / master.stage(index).width
        for index in master.indices
        for width in space.widths[index]
    }
    for share in sorted(shares, reverse=True):
        stages = []
        for index in master.indices:
            stage, widths = master.stage(index), space.widths[index]
            # At least the narrowest width, because a stage cannot be left out.
            width = max((w for w in widths if w <= share * stage.width), default=widths[0])
            stages.append(replace(stage, width=width))
        yield Structure(tuple(stages), master.resolution)
