"""The result of a search, as `genets.search` returns it and `--json` prints it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genets.nas.reselect import select
from genets.nas.study.records import Candidate, RoundResult, TrainedCandidate
from genets.nas.study.rival_records import RivalResult
from genets.training.predictions import PairedDifference
from genets.training.score import Metric, Score


@dataclass(frozen=True)
class SearchResult:
    """The result of one search.

    With several budgets, the attributes are those of the largest budget that is met, apart from
    `screened`, and `budgets` has the result of each budget.

    Attributes:
        selected: The winner, with its predicted and measured latency.
        master, winner: Scores on the test split, such as `winner.top1` or `winner["top1"]`.
        trials_done, trials_failed: The numbers of trials, in all rounds.
        screened: The number of structures that were screened, in all rounds. With several budgets,
            it is the number for all of them, where a structure that they share counts once. Each
            result in `budgets` has the number for its budget alone.
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
        rivals: The rivals of the search beside the winner, in the order of the settings.
        budgets: The result of each of several budgets that is met, by the budget as it was given,
            the largest first; empty where the search was asked for one budget.
        refused: Why each other one of several budgets is not met, by the budget.
        folds: The number of folds in which trials and candidates were cross-validated; 1 is none.
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
    rivals: tuple[RivalResult, ...] = ()
    budgets: Mapping[str, SearchResult] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    folds: int = 1
    screened: int = 0

    @property
    def results(self) -> Path:
        """The folder of the exported files, which `genets.load` reads."""
        return self.files["structure"].parent

    def select(self, budget: str, **options: Any) -> Candidate:
        """Select for another budget, or with `target=` another target; see `genets.select`."""
        return select(self.folder, budget, **options)

    def to_json(self) -> dict[str, Any]:
        return self._record(self.folder)

    def to_record(self) -> dict[str, Any]:
        """The content of `result.json`: paths are relative to the study, which may be moved."""
        return self._record(Path("."))

    @classmethod
    def from_record(cls, record: Mapping[str, Any], folder: Path) -> SearchResult:
        """Read the result of one of several budgets: the inverse of `to_record`.

        Raises the errors of foreign JSON.
        """
        difference = record["difference"]
        return cls(
            selected=Candidate.from_json(record["selected"]),
            master=Score.from_json(record["master"]),
            winner=Score.from_json(record["winner"]),
            trials_done=int(record["trials_done"]),
            trials_failed=int(record["trials_failed"]),
            folder=folder,
            files={name: folder / str(path) for name, path in record["files"].items()},
            seconds=dict(record["seconds"]),
            warnings=tuple(map(str, record["warnings"])),
            confirmed=tuple(map(TrainedCandidate.from_json, record["confirmed"])),
            metric=Metric.parse(record["metric"]),
            difference=difference and PairedDifference.from_json(difference),
            rivals=tuple(map(RivalResult.from_json, record.get("rivals", ()))),
            folds=int(record.get("folds", 1)),
            screened=int(record.get("screened", 0)),
        )

    def _record(self, root: Path) -> dict[str, Any]:
        """The values as JSON. root: The folder of the study as the paths name it."""
        record = {
            **self._winner_record(root),
            "trials_done": self.trials_done,
            "trials_failed": self.trials_failed,
            "screened": self.screened,
            "seconds": self.seconds,
            "folder": str(root),
            "metric": self.metric,
            "folds": self.folds,
            "response": self.metric,  # the name before version 0.2
        }
        if self.rounds:
            record["rounds"] = [each.to_json() for each in self.rounds]
        if self.budgets or self.refused:
            record["budgets"] = [
                {"budget": budget, **result._winner_record(root)}
                for budget, result in self.budgets.items()
            ]
            record["refused"] = [
                {"budget": budget, "reason": reason} for budget, reason in self.refused.items()
            ]
        return record

    def _winner_record(self, root: Path) -> dict[str, Any]:
        """The values that differ between the budgets of a study."""
        files = {name: path.relative_to(self.folder) for name, path in self.files.items()}
        rivals = [rival.to_json() for rival in self.rivals]
        for rival in rivals:
            rival["folder"] = rival["folder"] and (root / rival["folder"]).as_posix()
        return {
            "selected": self.selected.to_json(),
            "master": self.master.to_json(),
            "winner": self.winner.to_json(),
            "difference": self.difference and self.difference.to_json(),
            "files": {name: (root / path).as_posix() for name, path in files.items()},
            "warnings": list(self.warnings),
            "confirmed": [candidate.to_json() for candidate in self.confirmed],
            "rivals": rivals,
        }
