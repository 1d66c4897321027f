"""The choice of the structures that are screened.

The best predicted structures are slower than the table predicts, often by a tenth, because some of
them are only predicted too fast. So some structures near the budget are measured first, which
corrects the table.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection

import numpy as np

from genets.core.errors import BusyDeviceError
from genets.core.log import get_logger
from genets.nas.accuracy.bayes import BayesEffects
from genets.nas.selection.chain import find_latency_ms
from genets.nas.selection.improvement import choose_candidates
from genets.nas.selection.proposals import NUM_PREDICTED, Proposals
from genets.structure import Structure

SCREENED_LIMIT = 1.1  # of the aim: the table may err, so a slower structure may meet the budget
NUM_RANDOM = 200  # random structures that may be screened
MAX_DRAWN = 2000  # to find them
MAX_ATTEMPTS = 3  # to measure a structure that meets the budget

_log = get_logger(__name__)


def measure_near_the_aim(proposals: Proposals) -> None:
    """Measure the best predicted structures, until one of them meets the budget.

    On a busy device, the latency table stays as it is.
    """
    learned = proposals.learned
    for _ in range(MAX_ATTEMPTS):
        near = proposals.near_the_aim()
        fresh = [structure for structure in near if structure not in learned.measured]
        if fresh:
            try:
                learned.measure(fresh)
            except BusyDeviceError:
                _log.warning("the device is busy: screening uses the latency table as it is")
                return
        if not fresh or not learned.fitting.keys().isdisjoint(near):
            return


def choose_to_screen(
    proposals: Proposals, count: int, left_out: Collection[Structure]
) -> list[Structure]:
    """Choose up to `count` structures that are predicted to meet the budget.

    They are chosen as candidates are, by expected improvement. In the first round, the scaled
    MasterNet is the first choice. Where too few structures are predicted to meet the budget, some
    that are predicted to exceed the budget by a little are chosen, too, because the table may err.

    Args:
        proposals: Of the budget and the resolution. Its model must be Bayesian.
        count: How many.
        left_out: Structures that are not chosen.
    """
    effects, seed = proposals.model.effects, proposals.context.settings.seed
    assert isinstance(effects, BayesEffects)
    left_out = {*left_out, *proposals.screened, *proposals.learned.too_slow}
    scaled = proposals.scaled() if proposals.may_be_scaled else []
    chosen = [structure for structure in scaled if structure not in left_out]
    for limit_ms in (proposals.aim_ms, SCREENED_LIMIT * proposals.aim_ms):
        if len(chosen) < count:
            left_out.update(chosen)
            pool = _pool(proposals, effects, limit_ms, left_out)
            ended = [*proposals.trained, *proposals.screened_within(limit_ms), *chosen]
            chosen += choose_candidates(effects, pool, count - len(chosen), ended, seed=seed)
    return chosen


def _pool(
    proposals: Proposals, effects: BayesEffects, limit_ms: float, left_out: Collection[Structure]
) -> list[Structure]:
    """The best predicted structures up to a predicted latency, and some random ones."""
    front = proposals.frontier(limit_ms=limit_ms)
    pool = proposals.last_points(front, NUM_PREDICTED + len(left_out), limit_ms)
    if proposals.context.settings.selection == "exact":
        pool += proposals.best_of_draws(front, effects, limit_ms)
    context = proposals.context
    rng = np.random.default_rng([context.settings.seed, len(left_out)])
    drawn = (context.space.sample(rng) for _ in range(MAX_DRAWN))
    structures = (structure.with_resolution(proposals.resolution) for structure in drawn)
    possible = (s for s in structures if not proposals.has_failed(s))  # others are not in the chain
    offset_ms = proposals.learned.table.offset_ms_per_image
    within = (s for s in possible if find_latency_ms(front.stages, s, offset_ms) <= limit_ms)
    pool += itertools.islice(within, NUM_RANDOM)
    return [structure for structure in pool if structure not in left_out]
