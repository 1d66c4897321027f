"""A search space as a chain of stages: each stage depends on the others only by its input width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from genets.latency import LatencyTable
from genets.nas.accuracy.bayes import StageGain
from genets.nas.accuracy.model import FailedBlocks
from genets.structure import SearchSpace, Structure, SuperBlock
from genets.structure.structure import IMAGE_CHANNELS

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class ChainStage:
    """The options of one stage, with their latency and gain for every input width.

    Attributes:
        options: the super-blocks that this stage can be; the output width is `option.width`.
        input_widths: the possible input widths. The first stage of a chain has exactly one, the
            channels of an image; a later stage needs every output width of the stage before it.
        latency_ms: (input widths, options), the share of each option in the latency.
        gain: (input widths, options), the share of each option in the predicted gain.

    All values are finite.
    """

    options: tuple[SuperBlock, ...]
    input_widths: tuple[int, ...]
    latency_ms: Floats
    gain: Floats

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", tuple(self.options))
        object.__setattr__(self, "input_widths", tuple(self.input_widths))
        shape = (len(self.input_widths), len(self.options))
        assert 0 not in shape
        assert len(set(self.input_widths)) == len(self.input_widths)
        for name in ("latency_ms", "gain"):
            values = np.asarray(getattr(self, name), np.float64)
            object.__setattr__(self, name, values)
            assert values.shape == shape
            assert np.isfinite(values).all()

    @cached_property
    def output_widths(self) -> Integers:
        """(options,): the output width of each option."""
        return np.array([option.width for option in self.options], np.int32)

    @cached_property
    def distinct_output_widths(self) -> tuple[int, ...]:
        """The output widths of this stage, ascending."""
        return tuple(int(width) for width in np.unique(self.output_widths))

    @cached_property
    def input_index(self) -> dict[int, int]:
        """The row of each input width."""
        return {width: row for row, width in enumerate(self.input_widths)}

    @cached_property
    def option_index(self) -> dict[SuperBlock, int]:
        """The column of each option."""
        return {option: column for column, option in enumerate(self.options)}


def make_chain(
    space: SearchSpace,
    table: LatencyTable,
    stage_gain: StageGain | None = None,
    failed: FailedBlocks = frozenset(),
    *,
    resolution: int | None = None,
) -> tuple[ChainStage, ...]:
    """Turn a search space into a chain.

    Args:
        space: the search space.
        table: predicts latencies.
        stage_gain: predicts gains, see `AccuracyModel.stage_gain`; without it every gain is 0.
        failed: blocks that are left out.
        resolution: of the images; by default the MasterNet's. The gains are the same at every
            resolution: pseudo-gradients serve all (paper, section 4.2, Searching for Resolution).
    """
    stages = []
    widths: tuple[int, ...] = (IMAGE_CHANNELS,)
    for index in space.master.indices:
        options = tuple(o for o in space.choices(index) if (index, o.block) not in failed)
        latency_ms = table.stage_ms_per_image(index, widths, options, resolution=resolution)
        gain = stage_gain(index, widths, options) if stage_gain else np.zeros_like(latency_ms)
        stages.append(ChainStage(options, widths, latency_ms, gain))
        widths = space.widths[index]
    return tuple(stages)


def check_chain(stages: Sequence[ChainStage]) -> None:
    """Assert that the stages fit each other."""
    assert len(stages[0].input_widths) == 1, "the channels of an image"
    for before, stage in pairwise(stages):
        assert {*before.distinct_output_widths} <= {*stage.input_widths}


def totals(
    stages: Sequence[ChainStage], chosen: Integers, offset_ms: float
) -> tuple[Floats, Floats]:
    """Latency and gain of structures, added up stage by stage from the stem to the head.

    Args:
        stages: the chain.
        chosen: (structures, stages), the index of the option chosen at each stage.
        offset_ms: latency that every structure has in addition.

    Returns:
        Two arrays, (structures,).
    """
    latency = np.full(len(chosen), float(offset_ms))
    gain = np.zeros(len(chosen))
    row = np.zeros(len(chosen), np.int64)
    for number, stage in enumerate(stages):
        column = chosen[:, number]
        latency += stage.latency_ms[row, column]
        gain += stage.gain[row, column]
        if number + 1 < len(stages):
            row_of_option = [stages[number + 1].input_index[o.width] for o in stage.options]
            row = np.array(row_of_option)[column]
    return latency, gain


def find_latency_ms(stages: Sequence[ChainStage], structure: Structure, offset_ms: float) -> float:
    """Look up the predicted latency of a structure; `predict_ms_per_image` computes the same sum.

    Args:
        stages: the chain, from the stem to the head.
        structure: a structure of the chain.
        offset_ms: latency that every structure has in addition.
    """
    total, width = 0.0, IMAGE_CHANNELS
    for stage, option in zip(stages, structure.stages, strict=True):
        total += float(stage.latency_ms[stage.input_index[width], stage.option_index[option]])
        width = option.width
    return total + offset_ms
