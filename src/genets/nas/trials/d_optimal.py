"""Trials that tell the most: a Bayesian D-optimal design by exchange.

The effects that the accuracy model looks for are known before any trial: columns x of a design
matrix X (`features`), with prior variances V. Trials with noise s leave them with the covariance

    C = (V^-1 + X'X / s^2)^-1,

and a plan is the better the smaller the determinant of C (Chaloner and Verdinelli 1995; exchange
as in Fedorov 1972). Two trials of one super-block swap their depths, or their widths, wherever
that makes it smaller: so each block, depth and width still comes up as often as before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np
from threadpoolctl import threadpool_limits

from genets.nas.accuracy.bayes import EFFECT_STD
from genets.nas.accuracy.features import SCALE_GROUPS, FeatureMap
from genets.nas.accuracy.gaussian import Floats
from genets.structure import SearchSpace, SuperBlock

# Prior standard deviations and noise in spreads of the trials' values, as in `bayes`. What the
# evidence of the trials will make of them is not known yet; the design is not sensitive to it.
LEVEL_STD = 3.0
TREND_STD = 0.5
NOISE_STD = 0.25

SWEEPS = 4
MOST_PAIRS = 4000  # in one sweep: with hundreds of trials the last swaps gain next to nothing
LEAST_GAIN = 1e-6  # of the log determinant: rounding, which differs by machine, decides nothing

Place = tuple[int, SuperBlock]  # what is tried, and at which super-block


def exchanged(around: SearchSpace, planned: Sequence[Place], fixed: Sequence[Place]) -> list[Place]:
    """The planned trials with depths and widths swapped among those of a super-block.

    fixed: trials that stay as they are, the controls.
    """
    places = list(planned)
    blocks = (block for blocks in around.blocks.values() for block in blocks)
    features = FeatureMap(around.master, blocks)
    with threadpool_limits(limits=1, user_api="blas"):
        information = Information(features, [*places, *fixed])
        for _ in range(SWEEPS):
            if not _sweep(places, information):
                break
    return places


def _sweep(places: list[Place], information: Information) -> bool:
    """Whether any swap was worth it."""
    changed = False
    for first, second in islice(_pairs(places), MOST_PAIRS):
        for swapped in _swaps(places[first], places[second]):
            before = (places[first], places[second])
            if information.swap(before, swapped):
                places[first], places[second] = swapped
                changed = True
    return changed


def _pairs(places: Sequence[Place]) -> Iterator[tuple[int, int]]:
    """Every two trials of one super-block, neighbours first: all get as many partners."""
    for distance in range(1, len(places)):
        for first in range(len(places) - distance):
            if places[first][0] == places[first + distance][0]:
                yield first, first + distance


def _swaps(first: Place, second: Place) -> Iterator[tuple[Place, Place]]:
    (index, one), (_, other) = first, second
    if one.block == other.block:
        # To swap the widths is to swap the depths then.
        fields: tuple[str, ...] = ("depth",) if one.width != other.width else ()
    else:
        fields = ("depth", "width")
    for field in fields:
        mine, theirs = getattr(one, field), getattr(other, field)
        if mine != theirs:
            yield (index, replace(one, **{field: theirs})), (index, replace(other, **{field: mine}))


class Information:
    """What trials would tell of the effects: their covariance C afterwards."""

    def __init__(self, features: FeatureMap, places: Sequence[Place]) -> None:
        self.features = features
        self._rows: dict[Place, Floats] = {}
        rows = np.array([self._row(place) for place in places])
        self.covariance: Floats = np.linalg.inv(
            np.diag(1 / prior_variance(features)) + rows.T @ rows
        )

    def swap(self, before: tuple[Place, Place], after: tuple[Place, Place]) -> bool:
        """Take the trials `before` out and those `after` in, if that tells more."""
        rows = np.array([self._row(place) for place in (*after, *before)])  # (4, columns)
        signs = np.diag([1.0, 1.0, -1.0, -1.0])
        known = self.covariance @ rows.T
        inner = rows @ known  # (4, 4)
        # Matrix determinant lemma: how many times the determinant of C^-1 it will be.
        if np.linalg.det(np.eye(4) + signs @ inner) <= np.exp(LEAST_GAIN):
            return False
        self.covariance = self.covariance - known @ np.linalg.solve(signs + inner, known.T)
        return True

    def _row(self, place: Place) -> Floats:
        """(columns,): the features of a trial, over the noise."""
        if place not in self._rows:
            self._rows[place] = self.features.trial(*place) / NOISE_STD
        return self._rows[place]


def prior_variance(features: FeatureMap) -> Floats:
    """(columns,)"""
    stds = np.array([*(EFFECT_STD[name] for name in SCALE_GROUPS), 0.0])
    variance: Floats = features.base_variance * stds[features.groups] ** 2
    for column, number in features.columns.items():
        if column[0] in ("level", "trend"):
            variance[number] = (LEVEL_STD if column[0] == "level" else TREND_STD) ** 2
    return variance
