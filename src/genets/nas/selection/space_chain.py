"""A design space as a chain: what selection works on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from genets.latency import LatencyTable
from genets.nas.accuracy.model import Failed
from genets.nas.selection.chain import ChainStage, Floats
from genets.structure import SpaceAround, SuperBlock
from genets.structure.structure import IMAGE_CHANNELS

StageAccuracy = Callable[[int, Sequence[int], Sequence[SuperBlock]], Floats]


def chain_of(
    around: SpaceAround,
    table: LatencyTable,
    stage_accuracy: StageAccuracy | None = None,
    failed: Failed = frozenset(),
    *,
    resolution: int | None = None,
) -> tuple[ChainStage, ...]:
    """The design space as a chain: cost from a latency table, worth from an accuracy model.

    Without a model every structure is worth the same. failed: blocks that are left out.
    resolution: of the images; by default the MasterNet's. The worth is the same at any: the
    pseudo-gradients serve them all (paper, section 4.2, Searching for Resolution).
    """
    stages = []
    widths: tuple[int, ...] = (IMAGE_CHANNELS,)
    for index in around.master.indices:
        options = tuple(o for o in around.choices(index) if (index, o.block) not in failed)
        latency_ms = table.stage_ms_per_image(index, widths, options, resolution=resolution)
        accuracy = (
            stage_accuracy(index, widths, options)
            if stage_accuracy is not None
            else np.zeros_like(latency_ms)
        )
        stages.append(ChainStage(options, widths, latency_ms, accuracy))
        widths = around.widths[index]
    return tuple(stages)
