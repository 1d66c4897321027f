"""A device whose latencies are a closed form of depth and multiply-adds: nothing is timed."""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from genets.latency import LatencyTable, WholeNetwork
from genets.latency.predictor.probes import (
    BlockProbe,
    OverheadProbe,
    StemOrHeadProbe,
    block_probes,
    stem_and_head_probes,
)
from genets.nas.settings.settings import SearchSettings
from genets.structure import Structure, SuperBlock
from genets.structure.cost import input_resolutions, stage_multiply_adds

MS_PER_MULTIPLY_ADD = 1e-6


@dataclass(frozen=True)
class ClosedFormDevice:
    """ms per batch: `block_ms` for each block, and its multiply-adds."""

    block_ms: float
    environment: dict[str, Any] = field(default_factory=dict)

    def stage_ms(self, stage: SuperBlock, width: int, pixels: int) -> float:
        multiply_adds = stage_multiply_adds(stage, width, pixels)
        return self.block_ms * stage.depth + MS_PER_MULTIPLY_ADD * multiply_adds

    def network_ms(self, structure: Structure) -> float:
        widths = [3, *(stage.width for stage in structure.stages)]
        return sum(map(self.stage_ms, structure.stages, widths, input_resolutions(structure)))

    def piece_ms(self, item: BlockProbe | StemOrHeadProbe) -> float:
        if isinstance(item, BlockProbe):
            b = item.block
            stage = SuperBlock(b.type, item.depth, item.width, item.stride, b.kernel, b.ratio)
        else:
            stage = SuperBlock("Conv", 1, item.width, *((2, 3) if item.name == "stem" else (1, 1)))
        return self.stage_ms(stage, item.input_width, item.resolution)

    def table_of(self, settings: SearchSettings) -> LatencyTable:
        master = settings.structure
        around = settings.space.design_space().around(master)
        rng = np.random.default_rng(0)
        networks = [WholeNetwork(master, self.network_ms(master), "calibration")]
        for number in range(12):
            structure = around.sample(rng)
            network_ms = self.network_ms(structure)
            use: Literal["held-out", "calibration"] = "held-out" if number % 2 else "calibration"
            networks.append(WholeNetwork(structure, network_ms, use))
        timed: dict[BlockProbe | StemOrHeadProbe | OverheadProbe, float] = {}
        for resolution in around.resolutions:
            parts: list[BlockProbe | StemOrHeadProbe] = [
                *block_probes(around, resolution),
                *stem_and_head_probes(around, resolution),
            ]
            timed |= {part: self.piece_ms(part) for part in parts}
        target = settings.target.resolved()
        return LatencyTable(around, target, 10, timed, tuple(networks), self.environment)
