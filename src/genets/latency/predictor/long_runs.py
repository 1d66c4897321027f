"""Long runs: how a table is made where one run of the target is too long to be repeated often.

At 192 pixels and batch 64 a run of genet_normal takes seconds on a CPU, and a table of the
default design space has 648 pieces.
"""

from __future__ import annotations

import numpy as np

from genets.structure import Structure
from genets.structure.cost import multiply_adds

LONG_RUN_S = 0.2  # of the MasterNet
DRAWN_FOR_ONE = 20


def piece_batch_size(master_run_s: float, batch_size: int) -> int:
    """Images that pieces are timed with: the target's, halved until the MasterNet is not long.

    An image takes about as long in a small batch as in a large one where both keep the device
    busy so long; what is left of the difference is for the calibration, on whole networks at the
    target's batch size.
    """
    size = batch_size
    while size > 1 and master_run_s * size / batch_size > LONG_RUN_S:
        size = -(-size // 2)
    return size


def lightest(drawn: list[Structure], count: int, rng: np.random.Generator) -> list[Structure]:
    """The `count` structures of the fewest multiply-adds, in random order.

    Most of a design space is several times as slow as its MasterNet, and no search ends there.
    """
    chosen = sorted(drawn, key=multiply_adds)[:count]
    return [chosen[which] for which in rng.permutation(len(chosen))]
