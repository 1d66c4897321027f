"""Proposals: structures that the predictions of accuracy and latency make worth measuring."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from genets.core.errors import GenetsError
from genets.nas.accuracy.bayes import BayesEffects
from genets.nas.accuracy.model import AccuracyModel
from genets.nas.context import SearchContext
from genets.nas.selection.alternatives import (
    BlockTypes,
    block_types,
    frontier_without,
    products_without,
)
from genets.nas.selection.chain import ChainStage, make_chain
from genets.nas.selection.fastest import fastest_of_types
from genets.nas.selection.frontier import Frontier, frontier, random_selection
from genets.nas.selection.improvement import DrawnFrontiers
from genets.nas.selection.learned_latency import LearnedLatency
from genets.nas.selection.scaled import scale_to_latency
from genets.structure import Structure

NUM_PROPOSALS = 3
MIN_SPACING = 0.01
MAX_UNUSED = 0.05  # of the budget; where the best leaves more, some in between are measured too
RANDOM_SAMPLES = 100_000  # structures that selection "random" draws
DRAWN_LIMIT = 1.1  # drawn frontiers reach so many times as far as the aim, which may rise
NUM_PREDICTED = 24  # of the best predicted structures that may become candidates


class Proposals:
    """Proposes structures of one resolution that are predicted to meet a budget.

    Each measurement corrects the latency table and moves the aim; see `LearnedLatency`. So later
    proposals differ.

    Args:
        context: The budget, the search space and the latency on the target.
        model: Predicts accuracy.
        resolution: The resolution of the structures.
        trained: Trained candidates that meet the budget.
        screened: Structures that were screened; see `candidates.screening`.
        measured: Structures that were measured before; those of the resolution correct the table.

    Attributes:
        context, model, resolution, trained, screened: As given.
        learned: The measured structures of the budget.
    """

    def __init__(
        self,
        context: SearchContext,
        model: AccuracyModel,
        resolution: int,
        trained: Sequence[Structure] = (),
        screened: Sequence[Structure] = (),
        measured: Sequence[Structure] = (),
    ) -> None:
        self.context = context
        self.model = model
        self.resolution = resolution
        self.trained = trained
        self.screened = screened
        known = [s for s in measured if s.resolution == resolution and s != context.master]
        self.learned = LearnedLatency(context.latency, context.budget, context.master, known)
        self._scaled: set[Structure] = set()  # scaled MasterNets that were proposed
        self._drawn: DrawnFrontiers | None = None
        self._drawn_up_to_ms = 0.0
        # The types that each stage may have.
        self._products = tuple(
            frozenset(block.type for block in blocks if (index, block) not in model.failed)
            for index, blocks in context.space.blocks.items()
        )

    @property
    def aim_ms(self) -> float:
        """The predicted latency at which the proposals aim; see `LearnedLatency`."""
        return self.learned.aim_ms

    @property
    def may_be_scaled(self) -> bool:
        """Whether scaled MasterNets are proposed: later MasterNets have other block types."""
        return self.context.round.number == 1 and not self.context.settings.from_scratch

    @property
    def has_screened_scaled(self) -> bool:
        """Whether a scaled MasterNet that was proposed has been screened."""
        return not self._scaled.isdisjoint(self.screened)

    def order(self, structure: Structure) -> float:
        """The predicted accuracy, as a number by which structures can be compared."""
        return self.model.predict(structure).order

    def best_first(self, structures: Iterable[Structure]) -> list[Structure]:
        """Order structures by their predicted accuracy."""
        return sorted(structures, key=self.order, reverse=True)

    def of_best_types(self, top: int) -> Sequence[Structure]:
        """Propose the best predicted at the aim and a little below it, and the best of other types.

        Types of which a structure already meets the budget are not proposed again, except the
        best ones. The best screened structure takes the place of the last one near the aim: the
        model knows how well its changes fit together. Where nothing is predicted to reach the aim,
        the fastest are proposed.
        """
        front = self.frontier()
        if front.best(self.aim_ms) is None:
            return self.fastest()
        near = max(2, NUM_PROPOSALS + 1 - top)  # other types are measured beside them
        screened = self.best_first(self.screened_within(self.aim_ms))[:1]
        proposed = [*self._best_near_the_aim(front, near - len(screened)), *screened]
        used = [block_types(proposed[0])]
        solved = {block_types(structure) for structure in self.learned.fitting}
        while len(used) < top and products_without(self._products, used):
            front = self.frontier(used)
            point = front.best(self.aim_ms)
            if point is None:
                break
            structure = front.structure(point, self.resolution)
            used.append(block_types(structure))
            if used[-1] not in solved:
                proposed.append(structure)
        return proposed

    def near_the_aim(self) -> list[Structure]:
        """Propose the best predicted and the scaled MasterNet; the fastest where none is near."""
        front = self.frontier()
        if front.best(self.aim_ms) is None:
            return self.fastest()
        scaled = self.scaled() if self.may_be_scaled else []
        return [*self._best_near_the_aim(front, 2), *scaled]

    def improving(
        self,
        effects: BayesEffects,
        count: int,
        choose: Callable[[Sequence[Structure]], list[Structure]],
    ) -> Sequence[Structure]:
        """Choose among the best predicted and those that are best for some draw of the effects.

        The best predicted at the aim, and one a little below it, are proposed, too: the model of
        the latency learns from their measurements.
        """
        front = self.frontier()
        if front.best(self.aim_ms) is None:
            return self.fastest()
        pool = [*self.learned.fitting, *self.last_points(front, NUM_PREDICTED, self.aim_ms)]
        pool += self.screened_within(self.aim_ms)
        if count > 1 and self.may_be_scaled:
            pool += self.scaled()
        if self.context.settings.selection == "exact" and (count > 1 or self.trained):
            pool += self.best_of_draws(front, effects, self.aim_ms)
        if len(set(pool) - set(self.trained)) < count:
            pool += self.of_best_types(count + len(self.trained))
        return [*self._best_near_the_aim(front, 2), *choose(pool)]

    def closer(self) -> list[Structure]:
        """Propose structures that use more of the budget than the best one, if it leaves much.

        A structure that was predicted to reach the budget may have turned out too slow. Between
        that and the best one are others that are predicted better; some are taken, evenly spread.
        """
        best = max(self.learned.fitting, key=self.order)
        latency, order, budget = self.learned.measured[best], self.order(best), self.context.budget
        if latency.bound_ms(budget) >= (1 - MAX_UNUSED) * latency.budget_ms(budget):
            return []
        front = self.frontier()
        last = front.best(self.aim_ms)
        points = range(0 if last is None else last + 1)
        better = [
            structure
            for structure in (front.structure(point, self.resolution) for point in points)
            if structure not in self.learned.measured and self.order(structure) > order
        ]
        spread = np.linspace(0, len(better) - 1, min(NUM_PROPOSALS, len(better)))
        return [better[number] for number in spread.round().astype(int)]

    def fastest(self) -> list[Structure]:
        """Propose the structures that are predicted fastest, of different types."""
        return fastest_of_types(self.frontier, self._products, self.resolution)

    def scaled(self) -> list[Structure]:
        """Propose the scaled MasterNet that is predicted to reach the aim.

        A network that measured too slow is left out, whatever the corrected table predicts.
        """
        too_slow = self.learned.too_slow

        def predict_ms(structure: Structure) -> float:
            if structure in too_slow:
                return math.inf
            return self.learned.table.predict_ms_per_image(structure)

        scaled = scale_to_latency(self.context.space, predict_ms, self.aim_ms, self.resolution)
        proposed = [] if scaled is None else [scaled]
        self._scaled.update(proposed)
        return proposed

    def widest_scaled(self, structures: Sequence[Structure]) -> Structure | None:
        """The scaled MasterNet among some structures that is slowest, unless it is trained."""
        untrained = [s for s in structures if s in self._scaled and s not in self.trained]
        return max(untrained, key=self.context.latency.table.predict_ms_per_image, default=None)

    def screened_within(self, limit_ms: float) -> list[Structure]:
        """The screened structures up to a predicted latency.

        A network that measured too slow is left out, whatever the corrected table predicts.
        """
        predict_ms, too_slow = self.learned.table.predict_ms_per_image, self.learned.too_slow
        return [s for s in self.screened if s not in too_slow and predict_ms(s) <= limit_ms]

    def has_failed(self, structure: Structure) -> bool:
        """Whether all trials of one of its blocks failed."""
        blocks = ((index, structure.stage(index).block) for index in structure.indices)
        return not self.model.failed.isdisjoint(blocks)

    def frontier(
        self, used: Sequence[BlockTypes] = (), *, limit_ms: float | None = None
    ) -> Frontier:
        """Predict the frontier up to a latency.

        Args:
            used: Types whose structures are left out.
            limit_ms: The largest predicted latency; by default the aim.
        """
        limit_ms = self.aim_ms if limit_ms is None else limit_ms
        settings, offset_ms = self.context.settings, self.learned.table.offset_ms_per_image

        def solve(stages: Sequence[ChainStage]) -> Frontier:
            if settings.selection == "exact":
                return frontier(stages, offset_ms, max_latency_ms=limit_ms)
            rng = np.random.default_rng(settings.seed)
            return random_selection(stages, limit_ms, RANDOM_SAMPLES, rng, offset_ms)

        chain = make_chain(
            self.context.space,
            self.learned.table,
            self.model.stage_gain,
            self.model.failed,
            resolution=self.resolution,
        )
        front = frontier_without(chain, used, solve)
        if not len(front) and not used:
            raise GenetsError(
                f"none of {RANDOM_SAMPLES} random structures is predicted to meet "
                f"{limit_ms:.4g} ms per image; selection 'exact' finds the fastest structure"
            )
        return front

    def last_points(self, front: Frontier, count: int, limit_ms: float) -> list[Structure]:
        """The best structures up to a latency; all others on the frontier are faster and worse."""
        last = front.best(limit_ms)
        if last is None:
            return []
        points = range(max(0, last + 1 - count), last + 1)
        return [front.structure(point, self.resolution) for point in points]

    def best_of_draws(
        self, front: Frontier, effects: BayesEffects, limit_ms: float
    ) -> list[Structure]:
        """The best structures up to a latency, by gains that are drawn from their distribution.

        limit_ms: The aim, or up to DRAWN_LIMIT times the aim.
        """
        offset_ms = self.learned.table.offset_ms_per_image
        if self._drawn is None or self.aim_ms > self._drawn_up_to_ms:
            indices, seed = self.context.master.indices, self.context.settings.seed
            self._drawn_up_to_ms = DRAWN_LIMIT * self.aim_ms
            self._drawn = DrawnFrontiers.compute(
                effects, front.stages, indices, offset_ms, self._drawn_up_to_ms, seed=seed
            )
        best = self._drawn.best(front.stages, offset_ms, limit_ms)
        return [Structure(choice, self.resolution) for choice in best]

    def _best_near_the_aim(self, front: Frontier, count: int) -> list[Structure]:
        """Give the best at the aim and a little below, spaced by the error of the predictions.

        Neighbours on the frontier cost nearly the same, so measuring them would repeat a result.
        """
        spacing = max(self.context.latency.table.rmspe, MIN_SPACING)
        points = {front.best(self.aim_ms * (1 - step * spacing)) for step in range(count)}
        reached = {point for point in points if point is not None} or {front.fastest}
        return [front.structure(point, self.resolution) for point in sorted(reached, reverse=True)]


def max_networks(top: int) -> int:
    """The largest number of networks that one attempt measures, with the MasterNet."""
    return top + NUM_PROPOSALS
