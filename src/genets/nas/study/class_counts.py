"""The predictions of MasterNet and winner for the test images, by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from genets.training.predictions import Classes, PairedDifference, Predictions


@dataclass(frozen=True, eq=False)
class ClassCounts:
    """Numbers of test images by true class (rows) and predicted class (columns).

    Attributes:
        class_names: In the order of rows and columns.
        master, winner: Shape (classes, classes), the numbers of each network.
        difference: The top-1 of the winner minus that of the MasterNet; None where the two were
            not scored on the same images.
    """

    class_names: tuple[str, ...]
    master: Classes
    winner: Classes
    difference: PairedDifference | None

    @classmethod
    def count(
        cls, class_names: Sequence[str], master: Predictions, winner: Predictions
    ) -> ClassCounts:
        """Count the predictions of both networks."""
        size = len(class_names)
        return cls(
            tuple(class_names),
            _table(master.confusion(), size),
            _table(winner.confusion(), size),
            PairedDifference.between(winner, master),
        )

    def to_json(self) -> dict[str, Any]:
        """The tables as rows of true class, predicted class and number, without zeros."""
        return {
            "class_names": list(self.class_names),
            "difference": self.difference and self.difference.to_json(),
            "master": _rows(self.master),
            "winner": _rows(self.winner),
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`. Raises the errors of foreign JSON."""
        names, difference = record["class_names"], record["difference"]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError("class_names is not a list of texts")
        master, winner = (_table(record[name], len(names)) for name in ("master", "winner"))
        paired = difference and PairedDifference.from_json(difference)
        return cls(tuple(names), master, winner, paired)


def _table(rows: Sequence[Sequence[int]], size: int) -> Classes:
    table = np.zeros((size, size), dtype=np.int64)
    for true, predicted, number in rows:
        if not (0 <= true < size and 0 <= predicted < size and number >= 0):
            raise ValueError(f"{number} images of class {true} as {predicted} are not possible")
        table[true, predicted] = number
    return table


def _rows(table: Classes) -> list[list[int]]:
    places = np.argwhere(table)
    rows: list[list[int]] = np.column_stack([places, table[tuple(places.T)]]).tolist()
    return rows
