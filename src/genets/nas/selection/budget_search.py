"""The search for structures within a budget: selected by prediction, accepted by measurement."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from genets.core.errors import GenetsError
from genets.core.log import get_logger
from genets.nas.accuracy.bayes import BayesEffects
from genets.nas.accuracy.model import AccuracyModel
from genets.nas.context import SearchContext
from genets.nas.selection.alternatives import block_types
from genets.nas.selection.fastest import make_infeasible_error
from genets.nas.selection.improvement import choose_candidates
from genets.nas.selection.proposals import Proposals, max_networks
from genets.nas.study.records import Candidate
from genets.structure import Structure

_log = get_logger(__name__)

OnAttempt = Callable[[int, int], None]

MAX_ATTEMPTS = 5
MAX_CLOSER = 3  # further attempts where the fastest structures alone meet the budget


class BudgetSearch:
    """The search for the most accurate structures of one resolution that meet a budget.

    Each attempt measures the best few structures by prediction, see `Proposals`. The measurements
    correct the table and move the aim, see `LearnedLatency`. The search ends when a structure fits
    and an attempt proposes nothing new; where much of the budget is unused, better predicted
    structures in between are measured first.

    Args:
        context: The budget, the search space and the latency on the target.
        model: Predicts accuracy.
        resolution: The resolution of the structures; by default the MasterNet's.
        trained: Trained candidates that meet the budget.
        screened: Structures that were screened; see `candidates.screening`.
        measured: Structures that were measured before, whose latencies correct the table.
    """

    def __init__(
        self,
        context: SearchContext,
        model: AccuracyModel,
        resolution: int | None = None,
        trained: Sequence[Structure] = (),
        screened: Sequence[Structure] = (),
        measured: Sequence[Structure] = (),
    ) -> None:
        self._context, self._budget, self._model = context, context.budget, model
        self._asked_resolution = resolution
        self._proposals = Proposals(
            context, model, resolution or context.master.resolution, trained, screened, measured
        )
        self._learned = self._proposals.learned

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
        self._find(lambda: self._proposals.of_best_types(top), on_attempt)
        best = self._proposals.best_first(self._learned.fitting)
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
            trained = self._proposals.trained
            chosen = choose_candidates(effects, structures, count, trained, seed=seed)
            scaled = self._proposals.widest_scaled(structures)
            if scaled is None or scaled in chosen or self._proposals.has_screened_scaled:
                return chosen
            return [*chosen[: count - 1], scaled]

        self._find(lambda: self._proposals.improving(effects, count, choose), on_attempt)
        chosen = self._proposals.best_first(choose(list(self._learned.fitting)))
        return [self._make_candidate(structure) for structure in chosen]

    def _find(self, propose: Callable[[], Sequence[Structure]], on_attempt: OnAttempt) -> None:
        """Measure the proposals, until structures meet the budget and nothing new is proposed.

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
        self._learned.measure([*self._learned.measured, *self._proposals.fastest()], to_refuse=True)
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
            closer = self._proposals.closer()
            if closer:
                self._learned.measure(closer)
        except GenetsError as error:
            _log.warning("no structure closer to the budget could be measured: %s", error)
            return False
        return bool(closer)

    def _make_candidate(self, structure: Structure) -> Candidate:
        return make_candidate(self._context, self._model, structure)


def make_candidate(context: SearchContext, model: AccuracyModel, structure: Structure) -> Candidate:
    """Make the candidate of a structure that the study has measured."""
    latency, table = context.latency.measured[structure], context.latency.table
    prediction = model.predict(structure)
    # Trials show which structure is better at any resolution, but not how good it is there.
    has_trials = structure.resolution == model.master.resolution
    std = prediction.std if has_trials else math.nan
    low, high = (None, None) if math.isnan(std) else prediction.interval()
    low_ms, high_ms = latency.interval_ms(context.budget)
    return Candidate(
        structure=structure,
        budget_ms=latency.budget_ms(context.budget),
        predicted_ms=table.predict_ms_per_image(structure) * latency.slowdown(table),
        measured_ms=latency.median_ms(context.budget),
        low_ms=low_ms,
        high_ms=high_ms,
        master_ms=latency.master_ms_per_image,
        noisy=latency.network.noisy,
        predicted_accuracy=prediction.value if has_trials else None,
        predicted_accuracy_std=None if math.isnan(std) else std,
        table_rmspe=table.rmspe,
        outside=model.tried.outside(structure),
        disturbed=latency.disturbed,
        predicted_accuracy_low=low,
        predicted_accuracy_high=high,
    )


def attempt_text(context: SearchContext, top: int) -> str:
    """How long an attempt may take, for the progress; its networks are measured in one run."""
    seconds = context.settings.measure_seconds * max_networks(top)
    return f"measuring takes up to {seconds:.0f} s for each"
