"""The search for structures within a budget: selected by prediction, accepted by measurement."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Sequence

import numpy as np

from genets.core.errors import GenetsError
from genets.core.log import get_logger
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
from genets.nas.selection.fastest import fastest_of_types, make_infeasible_error
from genets.nas.selection.frontier import Frontier, frontier, random_selection
from genets.nas.selection.improvement import DrawnFrontiers, choose_candidates
from genets.nas.selection.learned_latency import LearnedLatency
from genets.nas.selection.scaled import scale_to_latency
from genets.nas.study.records import Candidate
from genets.structure import Structure

_log = get_logger(__name__)

OnAttempt = Callable[[int, int], None]

MAX_ATTEMPTS = 5
MAX_CLOSER = 3  # further attempts where the fastest structures alone meet the budget
NUM_PROPOSALS = 3
MIN_SPACING = 0.01
MAX_UNUSED = 0.05  # of the budget; where the best leaves more, some in between are measured too
RANDOM_SAMPLES = 100_000  # structures that selection "random" draws
DRAWN_LIMIT = 1.1  # drawn frontiers reach so many times as far as the aim, which may rise
NUM_PREDICTED = 24  # of the best predicted structures that may become candidates
SCREENED_LIMIT = 1.1  # of the aim: the table may err, so a slower structure may meet the budget
NUM_RANDOM = 200  # random structures that may be screened
MAX_DRAWN = 2000  # to find them


class BudgetSearch:
    """The search for the most accurate structures of one resolution that meet a budget.

    Each attempt selects with the latency table and measures the best few structures, which correct
    the table and move the aim; see `LearnedLatency`. The search ends when a structure fits and an
    attempt proposes nothing new; where much of the budget is unused, better predicted structures in
    between are measured first.

    Args:
        context: The budget, the search space and the latency on the target.
        model: Predicts accuracy.
        resolution: The resolution of the structures; by default the MasterNet's.
        trained: Trained candidates that meet the budget.
        screened: Structures that were screened; see `candidates.screening`.
    """

    def __init__(
        self,
        context: SearchContext,
        model: AccuracyModel,
        resolution: int | None = None,
        trained: Sequence[Structure] = (),
        screened: Sequence[Structure] = (),
    ) -> None:
        self._context = context
        self._model = model
        self._trained = trained
        self._screened = screened
        self._budget = context.budget
        self._asked_resolution = resolution
        self._resolution = resolution or context.master.resolution
        self._table = context.latency.table
        self._learned = LearnedLatency(context.latency, context.budget, context.master)
        self._drawn: DrawnFrontiers | None = None
        self._drawn_up_to_ms = 0.0
        self._scaled: set[Structure] = set()  # scaled MasterNets that were proposed
        # The types that each stage may have.
        self._products = tuple(
            frozenset(block.type for block in blocks if (index, block) not in model.failed)
            for index, blocks in context.space.blocks.items()
        )

    def run(
        self, top: int = 1, on_attempt: OnAttempt = lambda done, total: None
    ) -> list[Candidate]:
        """Find up to `top` structures whose measured 95 % bounds are within the budget.

        Args:
            top: How many; each has other block types, see `alternatives`. All are measured in the
                same attempts. Fewer are found where no other types meet the budget.
            on_attempt: Called with the number of attempts that have ended, and of all.

        Returns:
            The structures, the best predicted first.

        Raises:
            InfeasibleBudgetError: No structure meets the budget; the error has the fastest one.
        """
        self._find(lambda: self._propose(top), on_attempt)
        best = self._best_first(self._learned.fitting)
        first_of_types = {block_types(structure): structure for structure in reversed(best)}
        chosen = [structure for structure in best if structure in first_of_types.values()]
        return [self._make_candidate(structure) for structure in chosen[:top]]

    def find_candidates(
        self, count: int, on_attempt: OnAttempt = lambda done, total: None
    ) -> list[Candidate]:
        """Find up to `count` structures to train, see `improvement`.

        Where candidates inherit weights, one of several is the scaled MasterNet, see `scaled`. It
        has no such place where it was screened.

        Args:
            count: How many. The literal formula of the paper gives no distribution; with it, the
                result is that of `run`.
            on_attempt: Called with the number of attempts that have ended, and of all.

        Returns:
            The structures, the best predicted first; none where all that meet the budget are
            trained.

        Raises:
            InfeasibleBudgetError: No structure meets the budget; the error has the fastest one.
        """
        effects = self._model.effects
        if not isinstance(effects, BayesEffects):
            return self.run(count, on_attempt)
        seed = self._context.settings.seed

        def choose(structures: Sequence[Structure]) -> list[Structure]:
            chosen = choose_candidates(effects, structures, count, self._trained, seed=seed)
            scaled = self._widest_scaled(structures)
            was_screened = not self._scaled.isdisjoint(self._screened)
            if scaled is None or scaled in chosen or was_screened:
                return chosen
            return [*chosen[: count - 1], scaled]

        self._find(lambda: self._propose_improving(effects, count, choose), on_attempt)
        chosen = self._best_first(choose(list(self._learned.fitting)))
        return [self._make_candidate(structure) for structure in chosen]

    def propose_to_screen(self, count: int, left_out: Collection[Structure]) -> list[Structure]:
        """Choose up to `count` structures that are predicted to meet the budget.

        They are chosen as candidates are, but none of them is measured. In the first round, the
        scaled MasterNet is the first one. Where too few are predicted to meet the budget, others
        are predicted to exceed it by a little, because the table may err.

        Args:
            count: How many.
            left_out: Structures that are not chosen.
        """
        effects, seed = self._model.effects, self._context.settings.seed
        assert isinstance(effects, BayesEffects)
        left_out = {*left_out, *self._screened}
        scaled = self._propose_scaled() if self._may_be_scaled else []
        chosen = [structure for structure in scaled if structure not in left_out]
        for limit_ms in (self._aim_ms, SCREENED_LIMIT * self._aim_ms):
            if len(chosen) < count:
                left_out.update(chosen)
                pool = self._pool_to_screen(effects, limit_ms, left_out)
                ended = [*self._trained, *self._screened_within(limit_ms), *chosen]
                chosen += choose_candidates(effects, pool, count - len(chosen), ended, seed=seed)
        return chosen

    def _pool_to_screen(
        self, effects: BayesEffects, limit_ms: float, left_out: Collection[Structure]
    ) -> list[Structure]:
        """The best predicted structures up to a predicted latency, and some random ones."""
        front = self._frontier(limit_ms=limit_ms)
        pool = self._last_points(front, NUM_PREDICTED + len(left_out), limit_ms)
        if self._context.settings.selection == "exact":
            pool += self._best_of_draws(front, effects, limit_ms)
        rng = np.random.default_rng([self._context.settings.seed, len(left_out)])
        drawn = (self._context.space.sample(rng) for _ in range(MAX_DRAWN))
        structures = (structure.with_resolution(self._resolution) for structure in drawn)
        predict_ms = self._learned.table.predict_ms_per_image
        within = (s for s in structures if predict_ms(s) <= limit_ms and not self._has_failed(s))
        pool += itertools.islice(within, NUM_RANDOM)
        return [structure for structure in pool if structure not in left_out]

    def _screened_within(self, limit_ms: float) -> list[Structure]:
        """The screened structures up to a predicted latency.

        A network that measured too slow is left out, whatever the corrected table predicts.
        """
        predict_ms = self._learned.table.predict_ms_per_image
        too_slow = self._learned.measured.keys() - self._learned.fitting.keys()
        return [s for s in self._screened if s not in too_slow and predict_ms(s) <= limit_ms]

    def _has_failed(self, structure: Structure) -> bool:
        """Whether all trials of one of its blocks failed."""
        blocks = ((index, structure.stage(index).block) for index in structure.indices)
        return not self._model.failed.isdisjoint(blocks)

    def take_trained(self, structure: Structure) -> Candidate:
        """Make a candidate of a trained structure whose stored latency meets the budget."""
        self._learned.take(structure)
        return self._make_candidate(structure)

    def _find(self, propose: Callable[[], Sequence[Structure]], on_attempt: OnAttempt) -> None:
        """Measure what is proposed, until structures meet the budget and nothing new is proposed.

        Raises InfeasibleBudgetError where no structure meets the budget.
        """
        for number in range(MAX_ATTEMPTS):
            on_attempt(number, MAX_ATTEMPTS)
            fresh = [s for s in propose() if s not in self._learned.measured]
            if fresh:
                self._learned.measure(fresh)
            elif self._learned.fitting:
                if not self._measure_closer():
                    break
            else:
                self._learned.lower_aim()
        on_attempt(MAX_ATTEMPTS, MAX_ATTEMPTS)
        if self._learned.fitting:
            return
        self._learned.measure([*self._learned.measured, *self._fastest()], to_refuse=True)
        if not self._learned.fitting:
            where = f" at {self._asked_resolution} pixels" if self._asked_resolution else ""
            raise make_infeasible_error(self._learned.measured, self._budget, where)
        for _ in range(MAX_CLOSER):
            if not self._measure_closer():
                break

    def _measure_closer(self) -> bool:
        """Measure structures that use more of the budget; False where there are none.

        A failure, such as that of a busy device, costs no result, because a structure fits already.
        """
        try:
            closer = self._propose_closer()
            if closer:
                self._learned.measure(closer)
        except GenetsError as error:
            _log.warning("no structure closer to the budget could be measured: %s", error)
            return False
        return bool(closer)

    def _best_first(self, structures: Iterable[Structure]) -> list[Structure]:
        return sorted(structures, key=self._predicted_order, reverse=True)

    @property
    def _aim_ms(self) -> float:
        return self._learned.aim_ms

    def _predicted_order(self, structure: Structure) -> float:
        return self._model.predict(structure).order

    def _frontier(
        self, used: Sequence[BlockTypes] = (), *, limit_ms: float | None = None
    ) -> Frontier:
        """Predict the frontier up to a latency.

        Args:
            used: Types whose structures are left out.
            limit_ms: The largest predicted latency; by default the aim.
        """
        limit_ms = self._aim_ms if limit_ms is None else limit_ms
        settings, offset_ms = self._context.settings, self._learned.table.offset_ms_per_image

        def solve(stages: Sequence[ChainStage]) -> Frontier:
            if settings.selection == "exact":
                return frontier(stages, offset_ms, max_latency_ms=limit_ms)
            rng = np.random.default_rng(settings.seed)
            return random_selection(stages, limit_ms, RANDOM_SAMPLES, rng, offset_ms)

        chain = make_chain(
            self._context.space,
            self._learned.table,
            self._model.stage_gain,
            self._model.failed,
            resolution=self._resolution,
        )
        front = frontier_without(chain, used, solve)
        if not len(front) and not used:
            raise GenetsError(
                f"none of {RANDOM_SAMPLES} random structures is predicted to meet "
                f"{limit_ms:.4g} ms per image; selection 'exact' finds the fastest structure"
            )
        return front

    def _propose(self, top: int) -> Sequence[Structure]:
        """Propose the best predicted at the aim and a little below it, and the best of other types.

        Types of which a structure already meets the budget are not proposed again, except the
        best ones. The best screened structures are proposed, too: the model knows how well their
        changes fit together. Where nothing is predicted to reach the aim, the fastest are proposed.
        """
        front = self._frontier()
        if front.best(self._aim_ms) is None:
            return self._fastest()
        near = max(2, NUM_PROPOSALS + 1 - top)  # other types are measured beside them
        proposed = self._best_near_the_aim(front, near)
        proposed += self._best_first(self._screened_within(self._aim_ms))[:near]
        used = [block_types(proposed[0])]
        solved = {block_types(structure) for structure in self._learned.fitting}
        while len(used) < top and products_without(self._products, used):
            front = self._frontier(used)
            point = front.best(self._aim_ms)
            if point is None:
                break
            structure = front.structure(point, self._resolution)
            used.append(block_types(structure))
            if used[-1] not in solved:
                proposed.append(structure)
        return proposed

    def _propose_improving(
        self,
        effects: BayesEffects,
        count: int,
        choose: Callable[[Sequence[Structure]], list[Structure]],
    ) -> Sequence[Structure]:
        """Choose among the best predicted and those that are best for some draw of the effects.

        The best predicted at the aim, and one a little below it, are proposed, too: the model of
        the latency learns from their measurements.
        """
        front = self._frontier()
        if front.best(self._aim_ms) is None:
            return self._fastest()
        pool = [*self._learned.fitting, *self._last_points(front, NUM_PREDICTED, self._aim_ms)]
        pool += self._screened_within(self._aim_ms)
        if count > 1 and self._may_be_scaled:
            pool += self._propose_scaled()
        if self._context.settings.selection == "exact" and (count > 1 or self._trained):
            pool += self._best_of_draws(front, effects, self._aim_ms)
        if len(set(pool) - set(self._trained)) < count:
            pool += self._propose(count + len(self._trained))
        return [*self._best_near_the_aim(front, 2), *choose(pool)]

    def _best_of_draws(
        self, front: Frontier, effects: BayesEffects, limit_ms: float
    ) -> list[Structure]:
        """The best structures up to a latency, by gains that are drawn from their distribution.

        limit_ms: The aim, or up to DRAWN_LIMIT times the aim.
        """
        offset_ms = self._learned.table.offset_ms_per_image
        if self._drawn is None or self._aim_ms > self._drawn_up_to_ms:
            indices, seed = self._context.master.indices, self._context.settings.seed
            self._drawn_up_to_ms = DRAWN_LIMIT * self._aim_ms
            self._drawn = DrawnFrontiers.compute(
                effects, front.stages, indices, offset_ms, self._drawn_up_to_ms, seed=seed
            )
        best = self._drawn.best(front.stages, offset_ms, limit_ms)
        return [Structure(choice, self._resolution) for choice in best]

    @property
    def _may_be_scaled(self) -> bool:
        """Whether scaled MasterNets are proposed: later MasterNets have other block types."""
        return self._context.round.number == 1 and not self._context.settings.from_scratch

    def _propose_scaled(self) -> list[Structure]:
        """Propose the scaled MasterNet that is predicted to reach the aim.

        A network that measured too slow is left out, whatever the corrected table predicts.
        """
        too_slow = self._learned.measured.keys() - self._learned.fitting.keys()

        def predict_ms(structure: Structure) -> float:
            if structure in too_slow:
                return math.inf
            return self._learned.table.predict_ms_per_image(structure)

        scaled = scale_to_latency(self._context.space, predict_ms, self._aim_ms, self._resolution)
        proposed = [] if scaled is None else [scaled]
        self._scaled.update(proposed)
        return proposed

    def _widest_scaled(self, structures: Sequence[Structure]) -> Structure | None:
        """The scaled MasterNet among some structures that is slowest, unless it is trained."""
        untrained = [s for s in structures if s in self._scaled and s not in self._trained]
        return max(untrained, key=self._table.predict_ms_per_image, default=None)

    def _last_points(self, front: Frontier, count: int, limit_ms: float) -> list[Structure]:
        """The best structures up to a latency; all others on the frontier are faster and worse."""
        last = front.best(limit_ms)
        if last is None:
            return []
        points = range(max(0, last + 1 - count), last + 1)
        return [front.structure(point, self._resolution) for point in points]

    def _best_near_the_aim(self, front: Frontier, count: int) -> list[Structure]:
        """Give the best at the aim and a little below, spaced by the error of the predictions.

        Neighbours on the frontier cost nearly the same, so measuring them would repeat a result.
        """
        spacing = max(self._table.rmspe, MIN_SPACING)
        points = {front.best(self._aim_ms * (1 - step * spacing)) for step in range(count)}
        reached = {point for point in points if point is not None} or {front.fastest}
        return [front.structure(point, self._resolution) for point in sorted(reached, reverse=True)]

    def _propose_closer(self) -> list[Structure]:
        """Propose structures that use more of the budget than the best one, if it leaves much.

        A structure that was predicted to reach the budget may have turned out too slow. Between
        that and the best one are others that are predicted better; some are taken, evenly spread.
        """
        best = max(self._learned.fitting, key=self._predicted_order)
        latency, order = self._learned.measured[best], self._predicted_order(best)
        if latency.bound_ms(self._budget) >= (1 - MAX_UNUSED) * latency.budget_ms(self._budget):
            return []
        front = self._frontier()
        last = front.best(self._aim_ms)
        points = range(0 if last is None else last + 1)
        better = [
            structure
            for structure in (front.structure(point, self._resolution) for point in points)
            if structure not in self._learned.measured and self._predicted_order(structure) > order
        ]
        spread = np.linspace(0, len(better) - 1, min(NUM_PROPOSALS, len(better)))
        return [better[number] for number in spread.round().astype(int)]

    def _fastest(self) -> list[Structure]:
        return fastest_of_types(self._frontier, self._products, self._resolution)

    def _make_candidate(self, structure: Structure) -> Candidate:
        latency, table = self._learned.measured[structure], self._table
        prediction = self._model.predict(structure)
        # Trials show which structure is better at any resolution, but not how good it is there.
        has_trials = self._resolution == self._model.master.resolution
        std = prediction.std if has_trials else math.nan
        low, high = (None, None) if math.isnan(std) else prediction.interval()
        low_ms, high_ms = latency.interval_ms(self._budget)
        return Candidate(
            structure=structure,
            budget_ms=latency.budget_ms(self._budget),
            predicted_ms=table.predict_ms_per_image(structure) * latency.slowdown(table),
            measured_ms=latency.median_ms(self._budget),
            low_ms=low_ms,
            high_ms=high_ms,
            master_ms=latency.master_ms_per_image,
            noisy=latency.network.noisy,
            predicted_accuracy=prediction.value if has_trials else None,
            predicted_accuracy_std=None if math.isnan(std) else std,
            table_rmspe=table.rmspe,
            outside=self._model.tried.outside(structure),
            disturbed=latency.disturbed,
            predicted_accuracy_low=low,
            predicted_accuracy_high=high,
        )


def max_networks(top: int) -> int:
    """The largest number of networks that one attempt measures, with the MasterNet."""
    return max(2, NUM_PROPOSALS + 1 - top) + top


def attempt_text(context: SearchContext, top: int) -> str:
    """How long an attempt may take, for the progress; its networks are measured in one run."""
    seconds = context.settings.measure_seconds * max_networks(top)
    return f"measuring takes up to {seconds:.0f} s for each"
