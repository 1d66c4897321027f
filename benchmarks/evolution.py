"""Rivals of the search: structures trained for a short time each, drawn at random or evolved.

Regularised evolution: Real, Aggarwal, Huang, Le: Regularized Evolution for Image Classifier
Architecture Search, AAAI 2019, algorithm 1. A child is a mutated copy of the best of a random
tournament in the population, and takes the place of the oldest, not of the worst.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from genets.latency import LatencyTable
from genets.structure import SearchSpace, Structure, SuperBlock

T = TypeVar("T")

MOST_DRAWS = 100_000


@dataclass(frozen=True)
class Evaluated:
    """value: more is better. seconds: what its training took, of one core."""

    structure: Structure
    value: float
    seconds: float


Propose = Callable[[Sequence[Evaluated]], Structure]  # from all evaluated so far, in their order
Evaluate = Callable[[Sequence[Structure]], Sequence[Evaluated]]


def spend(propose: Propose, evaluate: Evaluate, seconds: float, at_once: int) -> list[Evaluated]:
    """Evaluate proposals, `at_once` in a step, until their trainings have taken that long."""
    history: list[Evaluated] = []
    while sum(one.seconds for one in history) < seconds:
        history += evaluate([propose(history) for _ in range(at_once)])
    return history


class Proposals:
    """Structures of a design space that a latency table predicts within a limit, none twice."""

    def __init__(
        self, around: SearchSpace, table: LatencyTable, limit_ms: float, rng: np.random.Generator
    ) -> None:
        self.around = around
        self.table = table
        self.limit_ms = limit_ms
        self.rng = rng
        self._seen: set[Structure] = set()

    def random(self, history: Sequence[Evaluated]) -> Structure:
        """Uniform over the space, whatever was found so far."""
        return self._first_new(lambda: self.around.sample(self.rng))

    def evolution(self, population: int, tournament: int) -> Propose:
        """Random ones until there is a population; it consists of the latest evaluated."""

        def propose(history: Sequence[Evaluated]) -> Structure:
            if len(history) < population:
                return self.random(history)
            alive = history[-population:]
            entrants = self.rng.choice(len(alive), tournament, replace=False)
            parent = max((alive[n] for n in entrants), key=lambda one: one.value).structure
            return self._first_new(lambda: self.mutated(parent))

        return propose

    def mutated(self, parent: Structure) -> Structure:
        """One super-block with another block, depth or width."""
        index = int(self.rng.integers(len(parent.super_blocks)))
        old = parent.super_blocks[index]
        kind = self.rng.integers(3)
        if kind == 0:
            block = self._other(self.around.blocks[index], old.block)
            new = SuperBlock(
                block.type, old.depth, old.width, old.stride, block.kernel, block.ratio
            )
        elif kind == 1:
            new = replace(old, depth=self._other(self.around.depths[index], old.depth))
        else:
            new = replace(old, width=self._other(self.around.widths[index], old.width))
        return parent.with_stage(index, new)

    def _other(self, values: Sequence[T], own: T) -> T:
        others = [value for value in values if value != own] or [own]
        return others[self.rng.integers(len(others))]

    def _first_new(self, draw: Callable[[], Structure]) -> Structure:
        for _ in range(MOST_DRAWS):
            structure = draw()
            if structure in self._seen:
                continue
            if self.table.predict_ms_per_image(structure) <= self.limit_ms:
                self._seen.add(structure)
                return structure
        raise SystemExit(f"no new structure within {self.limit_ms:.4g} ms in {MOST_DRAWS} draws")
