"""What selection works on: a chain of stages, and the frontier over the whole of it.

A design space as a chain: what selection works on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from genets.core.errors import GenetsError
from genets.latency import LatencyTable
from genets.nas.accuracy.model import FailedBlocks
from genets.structure import SearchSpace, Structure, SuperBlock
from genets.structure.structure import IMAGE_CHANNELS

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class ChainStage:
    """The options of one stage, with their cost and worth for every width that may come in.

    options: what may stand here; each hands on its own `width`.
    input_widths: the widths that may come in. The first stage of a chain has exactly one,
        that of images; a later one must have every width that the stage before it may hand on.
    latency_ms: (input widths, options), what each option adds to the latency.
    accuracy: (input widths, options), what each option adds to the predicted accuracy.

    Raises GenetsError for arrays of another shape or values that are not finite.
    """

    options: tuple[SuperBlock, ...]
    input_widths: tuple[int, ...]
    latency_ms: Floats
    accuracy: Floats

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", tuple(self.options))
        object.__setattr__(self, "input_widths", tuple(self.input_widths))
        shape = (len(self.input_widths), len(self.options))
        if 0 in shape or len(set(self.input_widths)) < shape[0]:
            raise GenetsError("a chain stage needs at least one option and distinct input widths")
        for name in ("latency_ms", "accuracy"):
            values = np.asarray(getattr(self, name), np.float64)
            object.__setattr__(self, name, values)
            if values.shape != shape or not np.isfinite(values).all():
                raise GenetsError(
                    f"{name} of a chain stage must be finite numbers of shape {shape} "
                    f"(input widths, options), not an array of shape {values.shape} with "
                    f"{np.count_nonzero(~np.isfinite(values))} that are not finite"
                )

    @cached_property
    def output_widths(self) -> Integers:
        """(options,): the width that each option hands on."""
        return np.array([option.width for option in self.options], np.int32)

    @cached_property
    def distinct_output_widths(self) -> tuple[int, ...]:
        """The widths that this stage may hand on, ascending."""
        return tuple(int(width) for width in np.unique(self.output_widths))

    @cached_property
    def input_index(self) -> dict[int, int]:
        """The row of each input width."""
        return {width: row for row, width in enumerate(self.input_widths)}


def check_chain(stages: Sequence[ChainStage]) -> None:
    """Raise GenetsError unless the stages fit each other."""
    if not stages:
        raise GenetsError("selection needs at least one stage")
    if len(stages[0].input_widths) != 1:
        raise GenetsError(
            f"the first stage must have exactly one input width, that of images, "
            f"not {len(stages[0].input_widths)}"
        )
    for number, (before, stage) in enumerate(pairwise(stages), start=2):
        if missing := set(before.distinct_output_widths) - set(stage.input_widths):
            raise GenetsError(
                f"stage {number} must have every width that stage {number - 1} may hand on "
                f"among its input_widths; {min(missing)} is missing"
            )


def totals(
    stages: Sequence[ChainStage], chosen: Integers, offset_ms: float
) -> tuple[Floats, Floats]:
    """Latency and accuracy of structures, added up stage by stage from the stem on.

    chosen: (structures, stages), the index of the option taken at each stage.
    Returns two arrays (structures,).
    """
    latency = np.full(len(chosen), float(offset_ms))
    accuracy = np.zeros(len(chosen))
    row = np.zeros(len(chosen), np.int64)
    for number, stage in enumerate(stages):
        column = chosen[:, number]
        latency += stage.latency_ms[row, column]
        accuracy += stage.accuracy[row, column]
        if number + 1 < len(stages):
            row_of_option = [stages[number + 1].input_index[o.width] for o in stage.options]
            row = np.array(row_of_option)[column]
    return latency, accuracy


@dataclass(frozen=True, eq=False)
class Frontier:
    """The structures that no other one beats in both latency and accuracy.

    latency_ms, accuracy: (points,), both strictly ascending.
    chosen: (points, stages), the index of each stage's option.
    """

    stages: tuple[ChainStage, ...]
    latency_ms: Floats
    accuracy: Floats
    chosen: Integers

    def __len__(self) -> int:
        return len(self.latency_ms)

    @property
    def fastest(self) -> int:
        """The point of the fastest structure (of equally fast ones the most accurate)."""
        return 0

    def best(self, budget_ms: float) -> int | None:
        """The point of the most accurate structure within the budget; None if nothing fits."""
        if math.isnan(budget_ms):
            raise GenetsError("budget_ms must be a number, not NaN")
        fitting = int(np.searchsorted(self.latency_ms, budget_ms, side="right"))
        return fitting - 1 if fitting else None

    def top(self, budget_ms: float, k: int) -> tuple[int, ...]:
        """Up to `k` points within the budget, the most accurate first.

        They are the last k points of the frontier below the budget: each differs from the
        others, and is the best there is for its own latency. The second best structure of
        all may be missing, as one that another beats in latency and accuracy is no candidate.
        """
        best = self.best(budget_ms)
        return () if best is None else tuple(range(best, max(-1, best - k), -1))

    def choice(self, point: int) -> tuple[SuperBlock, ...]:
        """The option of each stage at a point, in the order of the stages."""
        return tuple(
            stage.options[option]
            for stage, option in zip(self.stages, self.chosen[point], strict=True)
        )

    def structure(self, point: int, resolution: int) -> Structure:
        """The structure at a point of a chain from the stem to the head."""
        return Structure(self.choice(point), resolution)


def pareto(latency: Floats, accuracy: Floats) -> npt.NDArray[np.int64]:
    """Indices of the points that no other one beats, ascending in latency and accuracy.

    Of points equal in both the first is kept.
    """
    order = np.argsort(latency, kind="stable")
    ordered = accuracy[order]
    before = np.maximum.accumulate(ordered)[:-1]
    order = order[np.concatenate(([True], ordered[1:] > before))]
    # Among equal latencies accuracy ascends here, so only the last one stays.
    last = np.concatenate((latency[order][1:] > latency[order][:-1], [True]))
    return order[last]


StageGain = Callable[[int, Sequence[int], Sequence[SuperBlock]], Floats]


def make_chain(
    around: SearchSpace,
    table: LatencyTable,
    stage_gain: StageGain | None = None,
    failed: FailedBlocks = frozenset(),
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
            stage_gain(index, widths, options)
            if stage_gain is not None
            else np.zeros_like(latency_ms)
        )
        stages.append(ChainStage(options, widths, latency_ms, accuracy))
        widths = around.widths[index]
    return tuple(stages)
