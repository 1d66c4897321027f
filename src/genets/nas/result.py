"""The result of a search, as `genets.search` returns it and `--json` prints it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genets.nas.reselect import select
from genets.nas.study import layout
from genets.nas.study.records import Candidate, RoundResult, TrainedCandidate
from genets.training.predictions import PairedDifference
from genets.training.score import Metric, Score


@dataclass(frozen=True)
class SearchResult:
    """The result of one search.

    Attributes:
        selected: The winner, with its predicted and measured latency.
        master, winner: Scores on the test split, such as `winner.top1` or `winner["top1"]`.
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
        difference: Top-1 of the winner minus that of the MasterNet, paired over the test images.
    """

    selected: Candidate
    master: Score
    winner: Score
    trials_done: int
    trials_failed: int
    folder: Path
    files: dict[str, Path]
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    confirmed: tuple[TrainedCandidate, ...] = ()
    rounds: tuple[RoundResult, ...] = ()
    metric: Metric = Metric.CROSS_ENTROPY
    difference: PairedDifference | None = None

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
            "master": self.master.by_metric(),
            "winner": self.winner.by_metric(),
            "difference": self.difference and self.difference.to_json(),
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

    def to_record(self) -> dict[str, Any]:
        """The content of `result.json`: paths are relative to the study, which may be moved."""
        files = {name: path.relative_to(self.folder) for name, path in self.files.items()}
        paths = {"folder": ".", "files": {name: path.as_posix() for name, path in files.items()}}
        return self.to_json() | paths
