"""The reader of a study: every file is read here, by the process that writes and by others."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, get_args

from genets.core.errors import BlockFileError
from genets.core.json_files import check_version
from genets.core.resumable import ResumableFolder
from genets.nas.settings.settings import SearchSettings
from genets.nas.study import layout
from genets.nas.study.layout import in_round
from genets.nas.study.records import Candidate, Fault, RoundStart, Screening, TrainedCandidate
from genets.structure import Structure
from genets.training import RunRecipe, Score
from genets.training.variants import Variant, best_variant, is_decided, read_variants

if TYPE_CHECKING:
    from genets.nas.study.class_counts import ClassCounts
    from genets.nas.study.rival_records import TrainedRival

Content = TypeVar("Content")
FirstScore = TypeVar("FirstScore", bound=Score | None)
# The trainings whose recipe short trainings may decide.
DecidedTraining = Literal["master_training", "final_training"]

# The phases that had other names before version 0.2.
OLD_PHASES = {
    "verification": "selection",
    "confirmation": "candidate training",
    "hand-over": "export",
}


class StudyReader:
    """Reads the files of a study. It needs no lock and writes nothing.

    A method gives None or an empty collection where the search has not written the file yet, and
    raises StudyError where the file is damaged.

    Attributes:
        budget: The one of several budgets whose files are read; empty in a study of one budget, and
            where no budget has been chosen with `each_budget`.
    """

    def __init__(self, folder: str | Path) -> None:
        self.files = ResumableFolder(folder, layout.KIND)
        self.budget = ""

    def at_budget(self, budget: str) -> Self:
        """Give the same study with the files of one of several budgets."""
        study = copy.copy(self)
        study.budget = budget
        return study

    def each_budget(self) -> list[Self]:
        """Give the study with the files of each budget, in the order of the settings."""
        return [self.at_budget(budget) for budget in self.settings.budgets or ("",)]

    @property
    def folder(self) -> Path:
        return self.files.path

    @property
    def latency_folder(self) -> Path:
        return self.folder / layout.LATENCY

    @property
    def master_weights(self) -> Path:
        return self.folder / layout.MASTER_WEIGHTS

    @property
    def confirmed_folder(self) -> Path:
        """The folder with the weights of all trained candidates."""
        return self.folder / layout.CONFIRMED

    @property
    def winner_weights(self) -> Path:
        return self.path(layout.WINNER_WEIGHTS)

    @property
    def results_folder(self) -> Path:
        """The folder of the exported network."""
        return self.path(f"{layout.RESULT}.json").parent

    @cached_property
    def settings(self) -> SearchSettings:
        return load_settings(self.folder)

    def load_json(self, name: str, read: Callable[[Any], Content]) -> Content | None:
        """Read the file `<name>.json` with `read`; give None where the file does not exist."""
        return self.files.load_json(layout.at_budget(self.budget, f"{name}.json"), read)

    def num_classes(self) -> int | None:
        return self.load_json(layout.DATA, lambda record: len(record["class_names"]))

    def master_score(self) -> Score | None:
        """Give the score of the first MasterNet on the validation split."""
        return self.load_json(layout.MASTER, Score.from_json)

    def short_trainings(self) -> dict[str, list[Variant]]:
        """Give the short trainings that decided recipe fields, by the training of the settings."""
        return self.load_json(layout.SHORT_TRAININGS, _read_short_trainings) or {}

    def recipe(self, training: DecidedTraining) -> RunRecipe:
        """Give the recipe of a training; fields that are `auto` as short trainings decided them."""
        recipe: RunRecipe = getattr(self.settings, training).recipe()
        tried = self.short_trainings().get(training)
        return recipe if is_decided(recipe) or tried is None else best_variant(tried).of(recipe)

    def candidates(self, number: int = 1) -> list[Candidate]:
        """Give the candidates of a round, ordered by resolution and then by prediction.

        Candidates that other budgets have trained come last.
        """
        return self.load_json(in_round(number, layout.CANDIDATES), _read_candidates) or []

    def trained(self, number: int = 1) -> list[TrainedCandidate]:
        """Give the candidates of a round whose training has ended, in the order of candidates."""
        return self.load_json(in_round(number, layout.CONFIRMED), _read_trained) or []

    def screening(self, number: int = 1) -> Screening:
        """Give the structures that a round screens, as far as they are chosen and trained."""
        conditions = self.screening_conditions
        name = in_round(number, layout.SCREENED)
        stored = self.load_json(name, lambda record: Screening.from_json(record, conditions))
        return stored or Screening()

    @property
    def screening_conditions(self) -> dict[str, Any]:
        """The settings on which the choice of screened structures depends, and which may change."""
        settings = self.settings
        budget = self.budget or settings.all_budgets[0]
        return {"budget": budget, "trials_per_super_block": settings.trials_per_super_block}

    def screened(self, number: int = 1) -> list[TrainedCandidate]:
        """Give the structures that a round has screened; see `Screening.ended`."""
        return list(self.screening(number).ended)

    def screenings_elsewhere(self, number: int = 1) -> list[Screening]:
        """Give the structures that a round screens for each other budget."""
        others = (each for each in self.each_budget() if each.budget != self.budget)
        return [each.screening(number) for each in others]

    def screened_elsewhere(self, number: int = 1) -> list[TrainedCandidate]:
        """Give the structures that a round has screened for all other budgets."""
        return [each for other in self.screenings_elsewhere(number) for each in other.ended]

    @property
    def num_screened(self) -> int:
        """The number of structures that were screened, in all rounds.

        Where no one of several budgets has been chosen, the structures of all budgets count, and a
        structure that budgets share counts once in each round.
        """
        budgets = [self] if self.budget else self.each_budget()
        return sum(
            len({each.structure for budget in budgets for each in budget.screened(number)})
            for number in self.round_numbers
        )

    def trained_before(self, number: int) -> list[TrainedCandidate]:
        """Give the candidates of all earlier rounds and of all other budgets, without failed ones.

        Each structure is given once.
        """
        before = [self.trained(earlier) for earlier in range(1, number)]
        before += [each.trained() for each in self.each_budget() if each.budget != self.budget]
        done = (each for ended in before for each in ended if each.status == "done")
        return list({each.structure: each for each in done}.values())

    def starts(self) -> list[RoundStart]:
        """Give the start of each round after the first that has begun."""
        starts: list[RoundStart] = []
        while start := self.load_json(
            in_round(len(starts) + 2, layout.MASTER), RoundStart.from_json
        ):
            starts.append(start)
        return starts

    @property
    def round_numbers(self) -> range:
        """The numbers of the rounds that have begun, from 1."""
        return range(1, len(self.starts()) + 2)

    def masters(self, score: FirstScore) -> list[tuple[Structure, Score | FirstScore]]:
        """Give the MasterNet of each round that has begun, with its score.

        score: The score of the first MasterNet.
        """
        masters: list[tuple[Structure, Score | FirstScore]] = [(self.settings.structure, score)]
        return masters + [(start.structure, start.confirmed.score) for start in self.starts()]

    def selected(self) -> Candidate | None:
        """Give the winner."""
        return self.load_json(layout.SELECTED, Candidate.from_json)

    def refusal(self) -> str | None:
        """Give the sentence that refused this one of several budgets."""
        return self.load_json(layout.REFUSED, lambda record: str(record["sentence"]))

    def result(self) -> dict[str, Any] | None:
        """Give the record of the finished search."""
        return self.load_json(layout.RESULT, _read_result)

    def class_counts(self) -> ClassCounts | None:
        """Give the test predictions by class; older searches did not store them."""
        # Here, because the help of a command reads settings and must not wait for numpy.
        from genets.nas.study.class_counts import ClassCounts

        return self.load_json(layout.TEST, ClassCounts.from_json)

    def trained_rival(self, name: str, resolution: int) -> TrainedRival | None:
        """Give the record of a rival whose training has ended."""
        from genets.nas.study.rival_records import TrainedRival

        return self.load_json(self.rival_path(name, resolution), TrainedRival.from_json)

    def rival_path(self, name: str, resolution: int) -> str:
        """Give the name of a rival's folder, and of its record without `.json`."""
        own = resolution == self.settings.resolution
        return layout.rival_path(name, None if own else resolution)

    def failure(self) -> str | None:
        """Give the sentence that the last run of the search stopped with."""
        return self.load_json(layout.FAILURE, lambda record: str(record["sentence"]))

    def faults(self) -> list[Fault]:
        """Give the faults of all runs, the first one first."""
        faults = self.load_json(layout.FAULTS, lambda rows: [Fault.from_json(row) for row in rows])
        return faults or []

    def seconds(self) -> dict[str, float]:
        """Give the wall time of each phase, over all runs."""
        return self.load_json(layout.SECONDS, _read_seconds) or {}

    @property
    def grown_from(self) -> tuple[int, ...]:
        """The earlier, smaller numbers of trials for each super-block, ascending."""
        name, cure = f"{layout.GROWN_FROM}.json", "put back a copy of it"
        numbers = self.files.load_json(name, lambda record: [*map(int, record)], cure=cure) or []
        return tuple(sorted({n for n in numbers if 0 < n < self.settings.trials_per_super_block}))

    def has_candidates(self, number: int = 1) -> bool:
        """Whether a round has selected its candidates."""
        return self._has(in_round(number, layout.CANDIDATES))

    def is_selected(self, number: int = 1) -> bool:
        """Whether a round has selected candidates for a budget; then it runs no further trial."""
        budgets = self.each_budget()
        return any(each.has_winner or each.has_candidates(number) for each in budgets)

    def is_decided(self, number: int = 1) -> bool:
        """Whether one of a round's candidates was chosen: as winner, or for the next round."""
        return self.has_winner or self._has(in_round(number + 1, layout.MASTER))

    @property
    def has_winner(self) -> bool:
        return self._has(layout.SELECTED)

    def _has(self, name: str) -> bool:
        return self.path(f"{name}.json").exists()

    def path(self, name: str) -> Path:
        """Give the path of a file that has the name `name` in a study of one budget."""
        return self.folder / layout.at_budget(self.budget, name)


def is_study(folder: Path) -> bool:
    """Whether a study was begun in `folder`."""
    return ResumableFolder(folder, layout.KIND).is_begun


def load_settings(folder: Path) -> SearchSettings:
    """Load the settings that a study was begun with.

    Raises:
        StudyError: The folder is no study, or its settings are damaged or of a newer version.
        BlockFileError: A file with own block types is missing or has changed.
    """
    files = ResumableFolder(folder, layout.KIND)
    files.load_json(
        f"{layout.FORMAT}.json",
        lambda record: check_version(record, newest=layout.FORMAT_VERSION),
        cure="put back a copy of it",
    )
    return files.read_settings(SearchSettings.from_toml, passed=(BlockFileError,))


def _read_candidates(rows: Any) -> list[Candidate]:
    candidates = [Candidate.from_json(row) for row in rows]
    if not candidates:
        raise ValueError("it names no candidate")
    return candidates


def _read_short_trainings(record: Any) -> dict[str, list[Variant]]:
    unknown = record.keys() - {*get_args(DecidedTraining)}
    if unknown:
        raise ValueError(f"it has no training {min(unknown)}")
    return {name: read_variants(rows) for name, rows in record.items()}


def _read_trained(rows: Any) -> list[TrainedCandidate]:
    return [TrainedCandidate.from_json(row) for row in rows]


def _read_result(record: Any) -> dict[str, Any]:
    for name in ("master", "winner"):
        Score.from_json(record[name])
    if record.get("rivals"):  # older searches had none
        from genets.nas.study.rival_records import RivalResult

        for row in record["rivals"]:
            RivalResult.from_json(row)
    return dict(record)


def _read_seconds(record: Any) -> dict[str, float]:
    """Read the wall time by phase, such as `trials` or `trials, round 2`."""
    seconds: dict[str, float] = {}
    for name, value in dict(record).items():
        phase, *rest = name.split(", ")
        name = ", ".join([OLD_PHASES.get(phase, phase), *rest])
        seconds[name] = seconds.get(name, 0.0) + float(value)
    if not all(0 <= value < math.inf for value in seconds.values()):
        raise ValueError("a time is negative or not finite")
    return seconds
