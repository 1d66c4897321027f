"""Expected improvement: the candidates of which the best is likely to be most accurate.

The accuracy model gives a joint normal distribution of the errors of all structures. The best
predicted structures are often alike, and then they are good or bad together. So candidates are
chosen one after another: each adds as much as possible to the expected maximum of those that are
chosen and those that are trained already (multi-point expected improvement, Ginsbourger, Le Riche
and Carraro 2010). The expectation is a mean over draws from the distribution.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from threadpoolctl import threadpool_limits

from genets.nas.accuracy.bayes import BayesEffects
from genets.nas.accuracy.gaussian import Floats
from genets.nas.selection.chain import ChainStage, Integers, totals
from genets.nas.selection.frontier import frontier
from genets.structure import Structure, SuperBlock

DRAWS = 1024
NUM_FRONTIERS = 24  # each for one draw of all effects
NUM_BEST = 3  # structures of each of these frontiers


@dataclass(frozen=True, eq=False)
class DrawnFrontiers:
    """The frontiers of a search space, each for gains that are drawn from their distribution.

    A structure that is best for some draw may be the best one in truth.

    Attributes:
        chosen: for each draw (points, stages), the index of the option of each stage, ascending in
            gain.
    """

    chosen: tuple[Integers, ...]

    @classmethod
    def compute(
        cls,
        effects: BayesEffects,
        stages: Sequence[ChainStage],
        indices: Sequence[int],
        offset_ms: float,
        max_latency_ms: float,
        *,
        seed: int,
    ) -> DrawnFrontiers:
        """Draw gains and compute their frontiers.

        Args:
            effects: the distribution of the effects.
            stages: the chain of the search space; its gains are replaced.
            indices: the index of each stage, as in `Structure.indices`.
            offset_ms: latency that every structure has in addition.
            max_latency_ms: slower structures are left out.
            seed: seed of the draws.
        """
        draw = effects.draw_stage_gains(NUM_FRONTIERS, np.random.default_rng(seed))
        gains = [
            draw(index, stage.input_widths, stage.options)
            for index, stage in zip(indices, stages, strict=True)
        ]
        chains = (
            [replace(stage, gain=gain[n]) for stage, gain in zip(stages, gains, strict=True)]
            for n in range(NUM_FRONTIERS)
        )
        return cls(
            tuple(
                frontier(chain, offset_ms, max_latency_ms=max_latency_ms).chosen for chain in chains
            )
        )

    def best(
        self, stages: Sequence[ChainStage], offset_ms: float, aim_ms: float
    ) -> Iterator[tuple[SuperBlock, ...]]:
        """Give the best structures of each draw up to `aim_ms`.

        Their latencies are predicted anew, because measurements correct the latency table. The
        frontiers stay while the aim is within their limit, because these corrections are small.

        Args:
            stages: the chain with the corrected latencies.
            offset_ms: latency that every structure has in addition.
            aim_ms: the largest predicted latency.
        """
        for chosen in self.chosen:
            latency_ms, _ = totals(stages, chosen, offset_ms)
            for options in chosen[latency_ms <= aim_ms][-NUM_BEST:]:
                yield tuple(
                    stage.options[option] for stage, option in zip(stages, options, strict=True)
                )


def choose_candidates(
    effects: BayesEffects,
    structures: Sequence[Structure],
    count: int,
    trained: Sequence[Structure] = (),
    *,
    seed: int = 0,
) -> list[Structure]:
    """Choose up to `count` structures by expected improvement.

    Args:
        effects: Predicts the errors.
        structures: The structures to choose from.
        count: How many to choose.
        trained: Structures that are chosen or trained already, and so are not chosen again.
            Without any, the first choice is the best predicted structure.
        seed: Seed of the draws.

    Returns:
        The choices; the first one improves most.
    """
    known = list(dict.fromkeys(trained))
    free = [structure for structure in dict.fromkeys(structures) if structure not in set(known)]
    if not free:
        return []
    with threadpool_limits(limits=1, user_api="blas"):  # the same choice on any machine
        mean, covariance = effects.joint([*known, *free])
        normal = np.random.default_rng(seed).normal(size=(DRAWS, len(mean)))
        drawn = mean + normal @ _square_root(covariance)  # (draws, structures)
    best, options = drawn[:, : len(known)].max(axis=1, initial=-np.inf), drawn[:, len(known) :]
    left = [*range(len(free))]
    chosen: list[int] = []
    while left and len(chosen) < count:
        if chosen or known:
            value = np.maximum(options[:, left], best[:, None]).mean(axis=0)
        else:
            value = mean[len(known) :][left]
        # Where no draw improves, all values are equal, and the best prediction decides.
        chosen.append(left.pop(int(np.lexsort((mean[len(known) :][left], value))[-1])))
        best = np.maximum(best, options[:, chosen[-1]])
    return [free[number] for number in chosen]


def _square_root(covariance: Floats) -> Floats:
    """The symmetric square root of a covariance, shape (n, n).

    It is unique, and exists also where structures without noise make the covariance singular.
    """
    variances, directions = np.linalg.eigh(covariance)
    root: Floats = (directions * np.sqrt(variances.clip(min=0))) @ directions.T
    return root
