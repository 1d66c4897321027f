"""Rivals of the search on NAS-Bench-Macro: each gets a number of trainings and a budget.

- Random search: networks within the budget.
- Regularised evolution (Real et al. 2019, algorithm 1): a change of one layer, within the budget,
  of the best parent of a random tournament among the latest networks that has an untrained change.
- Local search (White, Nolen and Savani 2021): trains the one-layer changes of the best network so
  far, within the budget, and moves to the first better one; at a local optimum it begins again at a
  random network.
- Boosted trees: random networks within the budget are trained, and gradient-boosted trees learn to
  predict them; the networks that are predicted best are trained, too.
- Most multiply-adds, Zen-score and AZ-NAS: the network with the highest score without any training,
  or the best of as many networks with high scores.
- One training of every network: what any method could reach that decides by one training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from sklearn.ensemble import GradientBoostingRegressor

from table_lab import Outcome
from tables import Floats, Table, macro_space

CANDIDATES = 4  # trainings of boosted trees that follow the random ones
POPULATION = 8
TOURNAMENT = 4


class Rival:
    """One run of the rivals.

    Args:
        table: the table.
        start: the row of the network from which the search starts.
        training: which training the rival sees.
        budget: the largest allowed number of multiply-adds.
    """

    def __init__(self, table: Table, start: int, training: int, budget: float) -> None:
        self.table = table
        self.scores = table.scores[:, training]
        self.within = np.flatnonzero(table.multiply_adds <= budget)
        self.rng = np.random.default_rng([start, training, int(budget)])
        self.space = macro_space(table.structures[start])

    def random(self, trainings: int) -> Outcome:
        return self._best(self.rng.permutation(self.within)[:trainings])

    def evolution(self, trainings: int) -> Outcome:
        untried = [int(row) for row in self.rng.permutation(self.within)]
        trained: list[int] = []  # in the order of training
        while untried and len(trained) < trainings:
            child = None if len(trained) < POPULATION else self._child(trained)
            row = untried[-1] if child is None else child
            untried.remove(row)
            trained.append(row)
        return self._best(np.array(trained))

    def _child(self, trained: list[int]) -> int | None:
        """An untrained change of the best parent of a tournament that has one."""
        alive = self.rng.permutation(trained[-POPULATION:])[:TOURNAMENT]
        for parent in sorted(alive.tolist(), key=lambda row: -self.scores[row]):
            for row in self._changes(parent):
                if row not in trained:
                    return row
        return None

    def local_search(self, trainings: int) -> Outcome:
        left = list(self.rng.permutation(self.within))
        trained: dict[int, float] = {}

        def train(row: int) -> float:
            trained[row] = float(self.scores[row])
            return trained[row]

        while left and len(trained) < trainings:
            here = left.pop()
            if here in trained:
                continue
            value, moved = train(here), True
            while moved and len(trained) < trainings:
                moved = False
                for row in self._changes(here):
                    if row not in trained and len(trained) < trainings and train(row) > value:
                        here, value, moved = row, trained[row], True
                        break
        return self._best(np.array(list(trained)))

    def boosted_trees(self, trainings: int) -> Outcome:
        features = layer_features(self.table)
        drawn = self.rng.permutation(self.within)[: trainings - CANDIDATES]
        trees = make_trees().fit(features[drawn], self.scores[drawn])
        others = np.setdiff1d(self.within, drawn)
        order = np.argsort(-trees.predict(features[others])) if len(others) else others
        return self._best(np.concatenate((drawn, others[order[:CANDIDATES]])))

    def one_training_of_all(self) -> Outcome:
        return self._best(self.within)

    def best_by(self, scores: Floats) -> Outcome:
        """The network within the budget with the highest score, without any training."""
        return Outcome(int(self.within[scores[self.within].argmax()]), 0)

    def best_of(self, scores: Floats, trainings: int) -> Outcome:
        """Train the networks within the budget that have the highest scores."""
        order = np.argsort(-scores[self.within], kind="stable")
        return self._best(self.within[order[:trainings]])

    def _changes(self, row: int) -> Iterator[int]:
        """The rows of the one-layer changes within the budget, in random order."""
        structure, within = self.table.structures[row], set(self.within.tolist())
        changed = [
            structure.with_stage(index, choice)
            for index in range(len(structure.super_blocks))
            for choice in self.space.choices(index)
            if choice != structure.stage(index)
        ]
        for number in self.rng.permutation(len(changed)):
            if (other := self.table.number[changed[number]]) in within:
                yield other

    def _best(self, rows: np.ndarray) -> Outcome:
        return Outcome(int(rows[self.scores[rows].argmax()]), len(rows))


RIVALS: dict[str, Callable[[Rival, int], Outcome]] = {
    "random search": Rival.random,
    "evolution": Rival.evolution,
    "local search": Rival.local_search,
    "boosted trees": Rival.boosted_trees,
}


def make_trees() -> GradientBoostingRegressor:
    return GradientBoostingRegressor(
        n_estimators=200, max_depth=3, subsample=0.8, learning_rate=0.05, random_state=0
    )


def layer_features(table: Table) -> Floats:
    """(networks, features): which block each layer is, its depth, and the log of multiply-adds."""
    stages = [structure.super_blocks for structure in table.structures]
    columns = [np.log(table.multiply_adds)]
    for layers in zip(*stages, strict=True):
        columns.append(np.array([float(layer.depth) for layer in layers]))
        columns += [
            np.array([float(layer.block == block) for layer in layers])
            for block in sorted({layer.block for layer in layers})
        ]
    return np.stack(columns, axis=1)
