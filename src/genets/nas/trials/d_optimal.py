"""The most informative trials: a Bayesian D-optimal design by exchange.

The effects of the accuracy model are known before any trial: the columns x of a design matrix X
(`accuracy.features`), with prior variances V. After trials with noise s, their covariance is

    C = (V^-1 + X'X / s^2)^-1.

The smaller the determinant of C, the better the plan (Chaloner and Verdinelli 1995; exchange as in
Fedorov 1972). Two trials of one stage swap their depths, or their widths, whenever this makes the
determinant smaller. Each block, depth and width thus keeps its number of trials.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np
from threadpoolctl import threadpool_limits

from genets.nas.accuracy.features import RESET_COST, TREND, FeatureMap
from genets.nas.accuracy.gaussian import Floats
from genets.structure import SearchSpace, SuperBlock

# Prior standard deviations and noise, as multiples of the spread of the trials' values. The
# accuracy model has its own priors, and scales them; the design depends little on them.
RESET_COST_STD = 3.0
DESIGN_TREND_STD = 0.5
NOISE_STD = 0.25

MAX_SWEEPS = 4
MAX_PAIRS = 4000  # in one sweep: with hundreds of trials the last swaps gain almost nothing
MIN_GAIN = 1e-6  # of the log determinant: rounding, which differs by machine, must decide nothing

StageOption = tuple[int, SuperBlock]  # the index of a stage, and a super-block that is tried there


def exchange_options(
    space: SearchSpace, planned: Sequence[StageOption], fixed: Sequence[StageOption]
) -> list[StageOption]:
    """Swap depths and widths among the planned trials of each stage.

    Args:
        space: the search space around the MasterNet.
        planned: the trials to change.
        fixed: trials that stay as they are, such as controls.
    """
    options = list(planned)
    blocks = (block for blocks in space.blocks.values() for block in blocks)
    feature_map = FeatureMap(space.master, blocks)
    with threadpool_limits(limits=1, user_api="blas"):
        information = Information(feature_map, [*options, *fixed])
        for _ in range(MAX_SWEEPS):
            if not _sweep(options, information):
                break
    return options


def _sweep(options: list[StageOption], information: Information) -> bool:
    """Try all swaps once; return whether any of them was made."""
    changed = False
    for first, second in islice(_pairs(options), MAX_PAIRS):
        for swapped in _swaps(options[first], options[second]):
            if information.swap((options[first], options[second]), swapped):
                options[first], options[second] = swapped
                changed = True
    return changed


def _pairs(options: Sequence[StageOption]) -> Iterator[tuple[int, int]]:
    """All pairs of trials of one stage, neighbours first, so that all get equally many partners."""
    for distance in range(1, len(options)):
        for first in range(len(options) - distance):
            if options[first][0] == options[first + distance][0]:
                yield first, first + distance


def _swaps(first: StageOption, second: StageOption) -> Iterator[tuple[StageOption, StageOption]]:
    """The two trials with their depths swapped, and with their widths swapped."""
    (index, a), (_, b) = first, second
    fields: tuple[str, ...] = ("depth", "width")
    if a.block == b.block:  # to swap the widths is then the same as to swap the depths
        fields = ("depth",) if a.width != b.width else ()
    for field in fields:
        of_a, of_b = getattr(a, field), getattr(b, field)
        if of_a != of_b:
            yield (index, replace(a, **{field: of_b})), (index, replace(b, **{field: of_a}))


class Information:
    """The information of a set of trials about the effects.

    Attributes:
        covariance: (columns, columns), the covariance C of the effects after the trials.
    """

    def __init__(self, feature_map: FeatureMap, options: Sequence[StageOption]) -> None:
        self._feature_map = feature_map
        self._rows: dict[StageOption, Floats] = {}
        rows = np.array([self._row(option) for option in options])
        self.covariance: Floats = np.linalg.inv(
            np.diag(1 / prior_variance(feature_map)) + rows.T @ rows
        )

    def swap(
        self, before: tuple[StageOption, StageOption], after: tuple[StageOption, StageOption]
    ) -> bool:
        """Replace two trials if that is more informative; return whether they were replaced."""
        rows = np.array([self._row(option) for option in (*after, *before)])  # (4, columns)
        signs = np.diag([1.0, 1.0, -1.0, -1.0])
        shared = self.covariance @ rows.T
        inner = rows @ shared  # (4, 4)
        # Matrix determinant lemma: the factor by which the determinant of C^-1 grows.
        if np.linalg.det(np.eye(4) + signs @ inner) <= np.exp(MIN_GAIN):
            return False
        self.covariance = self.covariance - shared @ np.linalg.solve(signs + inner, shared.T)
        return True

    def _row(self, option: StageOption) -> Floats:
        """(columns,): the features of a trial, divided by the noise."""
        if option not in self._rows:
            self._rows[option] = self._feature_map.trial_row(*option) / NOISE_STD
        return self._rows[option]


def prior_variance(feature_map: FeatureMap) -> Floats:
    """(columns,): the prior variances V."""
    variance = feature_map.effect_variance()
    for column, number in feature_map.columns.items():
        if column.effect == RESET_COST:
            variance[number] = RESET_COST_STD**2
        elif column == TREND:
            variance[number] = DESIGN_TREND_STD**2
    return variance
