"""Rivals of the search: random search and evolution, which train each structure briefly.

Regularised evolution: Real, Aggarwal, Huang, Le: Regularized Evolution for Image Classifier
Architecture Search, AAAI 2019, algorithm 1. A random tournament in the population has a winner; the
child is a mutated copy of this winner. It replaces the oldest member, not the worst.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from genets.latency import LatencyTable
from genets.structure import SearchSpace, Structure, SuperBlock

T = TypeVar("T")

FREE_DRAWS = 1000  # without a structure within the limit; later draws are made faster
MAX_DRAWS = 2 * FREE_DRAWS
MAX_MUTATIONS = 10_000  # to make a structure faster


@dataclass(frozen=True)
class Evaluation:
    """The result of one training.

    Attributes:
        structure: the structure that was trained.
        value: its score; higher is better.
        seconds: core-seconds of the training.
    """

    structure: Structure
    value: float
    seconds: float

    def to_row(self) -> list[Any]:
        return [str(self.structure), self.value, self.seconds]


Propose = Callable[[Sequence[Evaluation]], Structure]  # from all evaluations so far, in their order
Evaluate = Callable[[Sequence[Structure]], Sequence[Evaluation]]


def spend(
    propose: Propose, evaluate: Evaluate, seconds: float, at_once: int, stored: Path
) -> list[Evaluation]:
    """Evaluate proposals, `at_once` per step, until their trainings have taken `seconds`.

    stored: a file of finished evaluations, one in each line; a stopped run continues from it.
    """
    history = read_history(stored)
    while sum(evaluation.seconds for evaluation in history) < seconds:
        ended = evaluate([propose(history) for _ in range(at_once)])
        history += ended
        with stored.open("a", encoding="utf-8") as file:
            file.writelines(f"{json.dumps(each.to_row())}\n" for each in ended)
    return history


def read_history(path: Path) -> list[Evaluation]:
    lines = path.read_text().splitlines() if path.exists() else []
    return [
        Evaluation(Structure.parse(text), value, seconds)
        for text, value, seconds in map(json.loads, lines)
    ]


class Proposals:
    """Proposes structures of a search space within a latency limit, each structure once.

    A tight limit excludes nearly all structures, so free draws would not find a structure within
    it. A draw is then made faster by mutations, which gives structures just below the limit.

    Args:
        space: the search space.
        table: predicts the latency.
        limit_ms: the largest allowed prediction, ms per image.
        seed: seeds each proposal, together with its number, so a continued run proposes the same.
        seen: structures that are not proposed again.
    """

    def __init__(
        self,
        space: SearchSpace,
        table: LatencyTable,
        limit_ms: float,
        seed: Sequence[int],
        seen: Iterable[Structure] = (),
    ) -> None:
        self.space = space
        self.table = table
        self.limit_ms = limit_ms
        self._seed = seed
        self._seen = set(seen)
        self.rng = np.random.default_rng(seed)

    def random(self, history: Sequence[Evaluation]) -> Structure:
        """Draw uniformly from the space, independent of the history."""
        self._begin_proposal()
        return self._first_new(lambda: self.space.sample(self.rng))

    def evolution(self, population: int, tournament: int) -> Propose:
        """Draw at random until the population is full; it consists of the latest evaluations."""

        def propose(history: Sequence[Evaluation]) -> Structure:
            if len(history) < population:
                return self.random(history)
            self._begin_proposal()
            alive = history[-population:]
            numbers = self.rng.choice(len(alive), tournament, replace=False)
            winner = max((alive[n] for n in numbers), key=lambda evaluation: evaluation.value)
            return self._first_new(lambda: self.mutate(winner.structure))

        return propose

    def _begin_proposal(self) -> None:
        self.rng = np.random.default_rng([*self._seed, len(self._seen)])

    def mutate(self, parent: Structure) -> Structure:
        """Change the block, the depth or the width of one super-block."""
        index = int(self.rng.integers(len(parent.super_blocks)))
        old = parent.super_blocks[index]
        kind = self.rng.integers(3)
        if kind == 0:
            block = self._other(self.space.blocks[index], old.block)
            new = SuperBlock(
                block.type, old.depth, old.width, old.stride, block.kernel, block.ratio
            )
        elif kind == 1:
            new = replace(old, depth=self._other(self.space.depths[index], old.depth))
        else:
            new = replace(old, width=self._other(self.space.widths[index], old.width))
        return parent.with_stage(index, new)

    def _other(self, values: Sequence[T], own: T) -> T:
        others = [value for value in values if value != own] or [own]
        return others[self.rng.integers(len(others))]

    def _first_new(self, draw: Callable[[], Structure]) -> Structure:
        for number in range(MAX_DRAWS):
            structure = draw()
            if number >= FREE_DRAWS:
                structure = self._made_faster(structure)
            if structure in self._seen:
                continue
            if self.table.predict_ms_per_image(structure) <= self.limit_ms:
                self._seen.add(structure)
                return structure
        raise SystemExit(f"no new structure within {self.limit_ms:.4g} ms in {MAX_DRAWS} draws")

    def _made_faster(self, structure: Structure) -> Structure:
        """Mutate a structure until it is within the limit; each mutation that is kept is faster."""
        latency = self.table.predict_ms_per_image(structure)
        for _ in range(MAX_MUTATIONS):
            if latency <= self.limit_ms:
                break
            other = self.mutate(structure)
            other_latency = self.table.predict_ms_per_image(other)
            if other_latency < latency:
                structure, latency = other, other_latency
        return structure
