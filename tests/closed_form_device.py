"""A device whose latencies are a closed form of depth and multiply-adds: nothing is timed."""

from dataclasses import dataclass, field

import numpy as np

from genets.latency import LatencyTable
from genets.latency.predictor.probes import BlockProbe, block_probes, stem_and_head_probes
from genets.latency.predictor.table import WholeNetwork
from genets.structure import SuperBlock
from genets.structure.cost import input_resolutions, stage_multiply_adds

MS_PER_MULTIPLY_ADD = 1e-6


@dataclass(frozen=True)
class ClosedFormDevice:
    """ms per batch: `block_ms` for each block, and its multiply-adds."""

    block_ms: float
    environment: dict = field(default_factory=dict)

    def stage_ms(self, stage, width, pixels):
        multiply_adds = stage_multiply_adds(stage, width, pixels)
        return self.block_ms * stage.depth + MS_PER_MULTIPLY_ADD * multiply_adds

    def network_ms(self, structure):
        widths = [3, *(stage.width for stage in structure.stages)]
        return sum(map(self.stage_ms, structure.stages, widths, input_resolutions(structure)))

    def piece_ms(self, item):
        if isinstance(item, BlockProbe):
            b = item.block
            stage = SuperBlock(b.type, item.depth, item.width, item.stride, b.kernel, b.ratio)
        else:
            stage = SuperBlock("Conv", 1, item.width, *((2, 3) if item.name == "stem" else (1, 1)))
        return self.stage_ms(stage, item.input_width, item.resolution)

    def table_of(self, settings):
        master = settings.structure
        around = settings.space.design_space().around(master)
        rng = np.random.default_rng(0)
        networks = [WholeNetwork(master, self.network_ms(master), "calibration")]
        for number in range(12):
            structure = around.sample(rng)
            use = "held-out" if number % 2 else "calibration"
            networks.append(WholeNetwork(structure, self.network_ms(structure), use))
        timed = {
            item: self.piece_ms(item)
            for resolution in around.resolutions
            for item in (
                *block_probes(around, resolution),
                *stem_and_head_probes(around, resolution),
            )
        }
        target = settings.target.resolved()
        return LatencyTable(around, target, 10, timed, tuple(networks), self.environment)
