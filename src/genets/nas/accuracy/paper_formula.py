"""The accuracy model by the letter of the paper (section 4.2, Regression).

For each super-block i and block T, least squares give g = [g1, g2] such that

    g1 (d_j - d_i) + g2 (c_j - c_i) ~ A_j - A*

over the trials j of T at i. There is no intercept and no control, and super-blocks share nothing.
Where the trials do not determine g, it is the solution of least norm. A block without trials has
g = 0.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from genets.nas.accuracy.gaussian import Floats
from genets.nas.accuracy.observations import Observations
from genets.structure import Block, Structure, SuperBlock


@dataclass(frozen=True, eq=False)
class PaperEffects:
    """The fitted pseudo-gradients.

    Attributes:
        master: the MasterNet.
        gradient: [g1, g2] by super-block and block: gain per block of depth and per channel.
        trials: the number of trials by super-block and block.
    """

    master: Structure
    gradient: dict[tuple[int, Block], Floats]
    trials: dict[tuple[int, Block], int]

    @classmethod
    def fit(
        cls, master: Structure, observations: Observations, master_value: float
    ) -> PaperEffects:
        rows: dict[tuple[int, Block], list[tuple[int, int, float]]] = defaultdict(list)
        for trial, value in zip(observations.trials, observations.values, strict=True):
            own, tried = master.stage(trial.index), trial.super_block
            row = (tried.depth - own.depth, tried.width - own.width, value - master_value)
            rows[trial.index, tried.block].append(row)
        gradient: dict[tuple[int, Block], Floats] = {}
        for key, samples in rows.items():
            table = np.array(samples, np.float64)
            solution = np.linalg.lstsq(table[:, :2], table[:, 2])[0]
            gradient[key] = np.asarray(solution, np.float64)
        return cls(master, gradient, {key: len(samples) for key, samples in rows.items()})

    def stage_gain(
        self, index: int, input_widths: Sequence[int], super_blocks: Sequence[SuperBlock]
    ) -> Floats:
        """(input widths, super-blocks): predicted gain, equal for every input width."""
        own = self.master.stage(index)
        change = np.array([[s.depth - own.depth, s.width - own.width] for s in super_blocks])
        zero = np.zeros(2)
        slopes = np.array([self.gradient.get((index, s.block), zero) for s in super_blocks])
        return np.tile((change * slopes).sum(axis=1), (len(input_widths), 1))

    def predict(self, structure: Structure) -> float:
        """The gain of a structure; the formula has no estimate of its error."""
        gains = (
            self.stage_gain(index, [structure.input_width(index)], [structure.stage(index)])
            for index in structure.indices
        )
        return math.fsum(float(gain[0, 0]) for gain in gains)

    def leave_one_out(self) -> None:
        return None

    def gradients(self) -> list[dict[str, object]]:
        return [
            {
                "super_block": index,
                "block": str(block),
                "trials": self.trials[index, block],
                "g1": {"mean": float(slopes[0]), "std": None},
                "g2": {"mean": float(slopes[1]), "std": None},
            }
            for (index, block), slopes in sorted(self.gradient.items(), key=lambda item: item[0])
        ]

    def warnings(self) -> list[str]:
        few = sum(count < 3 for count in self.trials.values())
        return [f"{few} pseudo-gradients rest on fewer than 3 trials each"] if few else []
