"""Where a run stands: what a checkpoint keeps beside its tensors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from genets.training.epoch_log import EpochRecord


@dataclass
class Position:
    """Where a run stands: `epoch` whole epochs, and `step` steps of the next.

    losses, seconds: of these steps. records: of the whole epochs. best: the number of whole
    epochs after which the validation score was best; None before the first.
    """

    epoch: int = 0
    step: int = 0
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0
    records: list[EpochRecord] = field(default_factory=list)
    best: int | None = None

    def to_json(self) -> dict[str, Any]:
        records = [record.to_json() for record in self.records]
        return {**vars(self), "records": records}

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> Position:
        return cls(**{**state, "records": [EpochRecord(**one) for one in state["records"]]})
