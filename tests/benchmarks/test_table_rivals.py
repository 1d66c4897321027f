"""The rivals and the search on a table: trainings are counted, and others are never looked at."""

from dataclasses import replace
from itertools import combinations
from math import comb, sqrt
from typing import Any

import numpy as np
import pytest

from table_lab import search_macro
from table_rivals import RIVALS, Rival
from tables import Table

TRAINING = 1
METHODS = {
    **RIVALS,
    "most multiply-adds": lambda rival, n: rival.best_of(rival.table.multiply_adds, n),
}
SEARCHES = {
    "one round": {"confirm": 4, "rounds": 1},
    "two rounds": {"confirm": 4, "rounds": 2},
}


class CountedScores:
    """Scores that note which of them were read."""

    def __init__(self, scores: Any) -> None:
        self.scores, self.read = scores, set()

    def __getitem__(self, rows: Any) -> Any:
        self.read |= set(np.atleast_1d(rows).tolist())
        return self.scores[rows]


class CountedColumns:
    """The scores of a table. `column` gives the one column that is read."""

    def __init__(self, scores: Any) -> None:
        self.columns = [CountedScores(column) for column in scores.T]

    def __getitem__(self, key: Any) -> CountedScores:
        every_row, training = key
        assert every_row == slice(None)
        return self.columns[training]

    @property
    def column(self) -> CountedScores:
        (column,) = [column for column in self.columns if column.read]
        assert column is self.columns[TRAINING]
        return column


def counted(table: Table) -> tuple[Table, CountedColumns]:
    scores: Any = CountedColumns(table.scores)
    return replace(table, scores=scores), scores


def best(table: Table, rows: Any) -> int:
    return max(rows, key=lambda row: table.scores[row, TRAINING])


@pytest.mark.parametrize("quantile", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("method", METHODS)
def test_a_rival_uses_the_trainings_that_it_reports(macro, method, quantile):
    budget = np.quantile(macro.multiply_adds, quantile)
    within = set(np.flatnonzero(macro.multiply_adds <= budget).tolist())
    for start in (0, 33, 80):
        for trainings in (9, 13, 21):
            table, scores = counted(macro)
            outcome = METHODS[method](Rival(table, start, TRAINING, budget), trainings)
            read = scores.column.read
            assert read <= within
            assert outcome.trainings == len(read) == min(trainings, len(within))
            assert outcome.winner == best(macro, read)


@pytest.mark.parametrize("method", SEARCHES)
def test_the_search_uses_the_trainings_that_it_reports(macro, method):
    budget = np.quantile(macro.multiply_adds, 0.4)
    table, scores = counted(macro)
    outcome = search_macro(table, 77, TRAINING, budget, SEARCHES[method])
    read = scores.column.read
    assert outcome.trainings == len(read)
    # The MasterNet, its 8 changes, and 4 candidates, of which some may be changes.
    assert 9 < len(read) <= 13 if method == "one round" else 13 < len(read) <= 25
    assert macro.multiply_adds[outcome.winner] <= budget
    assert outcome.winner == best(
        macro, [row for row in read if macro.multiply_adds[row] <= budget]
    )


@pytest.mark.parametrize("method", [*METHODS, *SEARCHES])
def test_nothing_depends_on_the_trainings_that_are_held_out(macro, method):
    budget = np.quantile(macro.multiply_adds, 0.6)
    others = np.random.default_rng(0).uniform(size=macro.scores.shape)
    others[:, TRAINING] = macro.scores[:, TRAINING]

    def run(table: Table) -> Any:
        if method in SEARCHES:
            return search_macro(table, 5, TRAINING, budget, SEARCHES[method])
        return METHODS[method](Rival(table, 5, TRAINING, budget), 13)

    assert run(macro) == run(replace(macro, scores=others))


@pytest.mark.parametrize(("quantile", "trainings"), [(0.1, 3), (0.5, 4), (1.0, 21)])
def test_random_search_has_the_expected_maximum_of_a_sample(macro, quantile, trainings):
    """The k-th smallest of N is the maximum of n drawn ones in C(k-1, n-1) of C(N, n) samples."""
    budget = np.quantile(macro.multiply_adds, quantile)
    within = np.flatnonzero(macro.multiply_adds <= budget)
    ordered = within[np.argsort(macro.scores[within, TRAINING])]
    count = len(within)
    chance = [comb(k, trainings - 1) / comb(count, trainings) for k in range(count)]
    expected = float(np.array(chance) @ macro.truth[ordered])
    if comb(count, trainings) < 1000:
        samples = combinations(within, trainings)
        by_enumeration = np.mean([macro.truth[best(macro, rows)] for rows in samples])
        assert expected == pytest.approx(by_enumeration, abs=1e-12)
    found = [
        # The seed depends on the budget in whole multiply-adds. None lies between these budgets.
        macro.truth[Rival(macro, start, TRAINING, budget + more).random(trainings).winner]
        for start in range(len(macro.structures))
        for more in range(10)
    ]
    assert np.mean(found) == pytest.approx(expected, abs=4 * np.std(found) / sqrt(len(found)))


def test_local_search_ends_at_an_optimum_of_one_layer_changes(macro):
    """Without a limit of trainings, every network is trained, so the best is found."""
    budget = np.quantile(macro.multiply_adds, 0.4)
    rival = Rival(macro, 0, TRAINING, budget)
    outcome = rival.local_search(10**6)
    assert outcome.trainings == len(rival.within)
    assert outcome == rival.one_training_of_all()
    assert outcome.winner == best(macro, rival.within)


@pytest.mark.parametrize("row", [0, 40, 80])
def test_the_changes_of_a_network_differ_in_one_layer(macro, row):
    rival = Rival(macro, 0, TRAINING, np.quantile(macro.multiply_adds, 0.6))

    def differences(other: int) -> int:
        pair = zip(
            macro.structures[row].super_blocks, macro.structures[other].super_blocks, strict=True
        )
        return sum(a != b for a, b in pair)

    expected = [int(other) for other in rival.within if differences(other) == 1]
    assert sorted(rival._changes(row)) == expected
