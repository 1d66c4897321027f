"""The result of a search, as `genets.search` returns it and `--json` prints it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genets.nas.reselect import select
from genets.nas.study import layout
from genets.nas.study.records import Candidate, RoundResult, TrainedCandidate
from genets.training.score import Metric


@dataclass(frozen=True)
class SearchResult:
    """The result of one search.

    Attributes:
        selected: The winner, with its predicted and measured latency.
        master, winner: Scores on the test split: {"top1": share of correct images,
            "cross_entropy": nats per image}.
        trials_done, trials_failed: The numbers of trials, in all rounds.
        folder: The study.
        files: The exported files, by name: "structure", "weights", "onnx", "contract",
            "script", "result". A network that ONNX does not support has only the others.
        seconds: Wall time of each phase that ran, over all runs of the study.
        warnings: See `genets.nas.warnings`.
        confirmed: The candidates that were trained before the winner was chosen, of all rounds,
            each once; those of a round are ordered by prediction. Empty where the best predicted
            candidate won without that.
        rounds: The result of each round; empty where the search was asked for one round.
        metric: The validation score that decided which candidate won.
    """

    selected: Candidate
    master: dict[str, float]
    winner: dict[str, float]
    trials_done: int
    trials_failed: int
    folder: Path
    files: dict[str, Path]
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    confirmed: tuple[TrainedCandidate, ...] = ()
    rounds: tuple[RoundResult, ...] = ()
    metric: Metric = Metric.CROSS_ENTROPY

    @property
    def results(self) -> Path:
        """The folder of the exported files, which `genets.load` reads."""
        return self.folder / layout.RESULTS

    def select(self, budget: str, **options: Any) -> Candidate:
        """Select for another budget, or with `target=` another target; see `genets.select`."""
        return select(self.folder, budget, **options)

    def to_json(self) -> dict[str, Any]:
        return {
            "selected": self.selected.to_json(),
            "master": self.master,
            "winner": self.winner,
            "trials_done": self.trials_done,
            "trials_failed": self.trials_failed,
            "seconds": self.seconds,
            "folder": str(self.folder),
            "files": {name: str(path) for name, path in self.files.items()},
            "warnings": list(self.warnings),
            "confirmed": [candidate.to_json() for candidate in self.confirmed],
            "metric": self.metric,
            "response": self.metric,  # the name before version 0.2
            **({"rounds": [each.to_json() for each in self.rounds]} if self.rounds else {}),
        }
