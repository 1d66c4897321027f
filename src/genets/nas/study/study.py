"""An open study: one process writes to the folder, and a kill at any moment loses no result."""

from __future__ import annotations

import shlex
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

from genets.core.errors import StudyError
from genets.core.json_files import VERSION_KEY
from genets.core.validation import to_plain
from genets.latency.budget import Budget
from genets.nas.settings.settings import SearchSettings
from genets.nas.study import layout
from genets.nas.study.layout import in_round
from genets.nas.study.reader import StudyReader, load_settings
from genets.nas.study.records import Fault, FaultKind, RoundStart, Trial, TrialResult
from genets.nas.study.trial_database import TrialDatabase
from genets.training.variants import Variant

MAX_FAULTS = 1000  # of a study; study.log has all of them
# These settings change no other result, so they may always change.
FREE = ("rivals", "max_broken_share", "trial_weights_mb")


class Study(StudyReader):
    """An open study, locked against other processes until it is closed; see `layout`.

    A forked process releases its copy of the lock; see `core.files`.
    """

    def __init__(self, folder: str | Path) -> None:
        """Use `create_or_resume` or `open`."""
        super().__init__(folder)
        self._trials: dict[int, TrialDatabase] = {}  # by round

    @classmethod
    def create_or_resume(
        cls,
        folder: str | Path,
        settings: SearchSettings,
        *,
        check: Callable[[Self], None] | None = None,
    ) -> Self:
        """Begin a study in a new or empty folder, or continue the study in the folder.

        Some settings of a study may change. Those of `FREE` may always change. Where no candidate
        was selected for a budget, another budget is taken in its place, because no earlier step
        depends on the budget. Further budgets are added to those that exist. More trials for each
        super-block are added to those that exist, and selection begins anew; a study that has begun
        a second round refuses them.

        Args:
            folder: The folder of the study.
            settings: All settings.
            check: Called with the locked study before any file of it changes; may raise StudyError.

        Returns:
            The open study.

        Raises:
            StudyError: The study has other settings, is damaged, is in use or cannot be written,
                or the folder holds something else.
        """
        study = cls(folder)
        study.files.create_or_resume()
        with study._closed_on_failure():
            if check is not None:
                check(study)
            if not study.files.is_begun:
                study.save_json(layout.FORMAT, {VERSION_KEY: layout.FORMAT_VERSION})
                study.files.write_settings(settings.to_toml())
            settings = with_stored_budgets(settings, load_settings(study.folder))
            study._take_changes(settings)
            study.files.check_same(study.settings.to_dict(), settings.to_dict())
            study._open_files()
        return study

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """Open an existing study with its own settings. Raises StudyError."""
        study = cls(folder)
        load_settings(study.folder)  # before the lock file is created
        study.files.resume()
        with study._closed_on_failure():
            study._open_files()
        return study

    def begin_round(self, number: int, start: RoundStart) -> None:
        """Begin the next round, which decides the round before. Raises StudyError."""
        self._make_subfolder(f"{layout.ROUNDS}/{number}")
        self.save_json(in_round(number, layout.MASTER), start.to_json())

    def record(self, result: TrialResult, number: int = 1) -> None:
        """Add a trial of a round that has ended; it is on disk when this returns.

        A failed trial may be replaced; a finished trial is never replaced. Raises StudyError.
        """
        self._trials_of(number).record(result)

    def results(self, number: int = 1) -> list[TrialResult]:
        """Give every trial of a round that has ended, also failed ones, ordered by trial."""
        return self._trials_of(number).results()

    def missing(
        self, trials: Iterable[Trial], number: int = 1, *, retry_failed: bool = False
    ) -> list[Trial]:
        """Give the trials that have not ended, in the given order, each once."""
        ended = {
            result.trial
            for result in self.results(number)
            if result.status == "done" or not retry_failed
        }
        return [trial for trial in dict.fromkeys(trials) if trial not in ended]

    def save_json(self, name: str, value: Any) -> None:
        """Write `value` to `<name>.json`, completely or not at all. Raises StudyError."""
        self.files.save_json(layout.at_budget(self.budget, f"{name}.json"), value)

    def save_short_trainings(self, training: str, tried: Sequence[Variant]) -> None:
        """Store the short trainings that decide the recipe of a training. Raises StudyError."""
        stored = self.short_trainings() | {training: list(tried)}
        rows = {name: [to_plain(each) for each in some] for name, some in stored.items()}
        self.save_json(layout.SHORT_TRAININGS, rows)

    def save_failure(self, sentence: str) -> None:
        """Store why this run stops. Raises StudyError."""
        self.save_json(layout.FAILURE, {"sentence": sentence})

    def forget_failure(self) -> None:
        self._remove(f"{layout.FAILURE}.json")

    def add_fault(self, sentence: str, kind: FaultKind = "") -> None:
        """Keep a fault that lost no result. Raises StudyError."""
        faults = [*self.faults(), Fault(time.time(), sentence, kind)]
        self.save_json(layout.FAULTS, [each.to_json() for each in faults[-MAX_FAULTS:]])

    def save_refusal(self, sentence: str) -> None:
        """Store why this one of several budgets is refused. Raises StudyError."""
        self.save_json(layout.REFUSED, {"sentence": sentence})

    def forget_refusal(self) -> None:
        self._remove(f"{layout.REFUSED}.json")

    def forget_checkpoints(self) -> None:
        """Remove the checkpoints of interrupted trainings, which will not continue."""
        candidates = self.confirmed_folder.glob(f"*{layout.CANDIDATE_CHECKPOINTS}")
        for folder in (self.folder / layout.CHECKPOINTS, *candidates):
            shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Release the study for other processes."""
        for trials in self._trials.values():
            trials.close()
        self.files.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _take_changes(self, settings: SearchSettings) -> None:
        """Write other budgets, more trials or other rivals, where this study takes them."""
        before = load_settings(self.folder)
        stored = before.model_copy(update={name: getattr(settings, name) for name in FREE})
        if _differ_only_in(("budget", "budgets"), stored, settings):
            self._take_budgets(stored, settings)
        elif _differ_only_in(("trials_per_super_block",), stored, settings):
            has_moved = (self.folder / layout.ROUNDS).exists()
            if not has_moved and stored.trials_per_super_block < settings.trials_per_super_block:
                self._grow(stored, settings)
        elif stored.to_dict() == settings.to_dict() != before.to_dict():
            self.files.write_settings(settings.to_toml())

    def _take_budgets(self, stored: SearchSettings, asked: SearchSettings) -> None:
        """Take other budgets in place of the stored ones, or beside them.

        A budget with candidates must stay. Several budgets become one only where no structure
        has been screened for them. Raises StudyError.
        """
        begun = []
        for budget in stored.all_budgets:
            study = self.at_budget(budget if stored.budgets else "")
            loses_scores = bool(stored.budgets and not asked.budgets and study.screened())
            if study.has_candidates() or study.has_winner or loses_scores:
                begun.append(budget)
        missing = [budget for budget in begun if budget not in asked.all_budgets]
        if missing and not (stored.budgets or asked.budgets):
            folder = shlex.quote(str(self.folder))
            raise StudyError(
                f"{self.folder} is a study of another budget (budget: {stored.budget} in the "
                f"study, {asked.budget} asked); its trials answer the other budget without "
                f"training: genets select {folder} --budget {asked.budget}"
            )
        if missing:
            every = ",".join(dict.fromkeys((*begun, *asked.all_budgets)))
            raise StudyError(
                f"study {self.folder} has results for {' and '.join(missing)}, so give the budgets "
                f"of the study as well: --budgets {shlex.quote(every)}"
            )
        if asked.budgets and not stored.budgets:
            # Also one that is left out: its screened structures count if it is given again.
            self._move_budget(stored.all_budgets[0], asked)
        elif asked.budgets or not begun:
            self.files.write_settings(asked.to_toml())

    def _move_budget(self, budget: str, asked: SearchSettings) -> None:
        """Move the files of the only budget, so that it becomes one of several.

        The files are copied before the settings change and removed afterwards, so a study that is
        killed in between is complete. The record of the result is not copied, because it names the
        files by their place: the search writes the record again, without a training.
        """
        for name in (*layout.OF_BUDGET, f"{layout.RESULT}.json"):  # of a move that was killed
            self.at_budget(budget)._remove(name)
        with self.files.explained():
            results = [path for path in (self.folder / layout.RESULTS).glob("*") if path.is_file()]
            files = [self.folder / name for name in layout.OF_BUDGET]
            files = [path for path in (*files, *results) if path.exists()]
            for path in files:
                name = path.relative_to(self.folder).as_posix()
                copied = self.folder / layout.at_budget(budget, name)
                copied.parent.mkdir(parents=True, exist_ok=True)
                if name != f"{layout.RESULT}.json":
                    shutil.copy2(path, copied)
            self.files.write_settings(asked.to_toml())
            for path in files:
                path.unlink()

    def _grow(self, stored: SearchSettings, asked: SearchSettings) -> None:
        """Take settings with more trials, and remove the conclusions from fewer trials.

        The exported networks are copied first. The settings are written last: a study that is
        killed before continues with fewer trials, and computes the conclusions again.
        """
        self._keep_results(stored)
        self.forget_checkpoints()
        for budget in ("", *stored.budgets):
            for name in layout.CONCLUSIONS:
                self.at_budget(budget)._remove(name)
        before = [*StudyReader(self.folder).grown_from, stored.trials_per_super_block]
        self.save_json(layout.GROWN_FROM, before)
        self.files.write_settings(asked.to_toml())

    def _keep_results(self, stored: SearchSettings) -> None:
        """Copy the exported networks, if a search has finished."""
        results = self.folder / layout.RESULTS
        kept = self.folder / layout.RESULTS_BEFORE / str(stored.trials_per_super_block)
        if kept.exists() or not any(results.rglob(Path(layout.RESULT).name + ".json")):
            return
        with self.files.explained():
            kept.parent.mkdir(exist_ok=True)
            with TemporaryDirectory(dir=kept.parent) as place:
                copy = shutil.copytree(results, Path(place) / kept.name)
                copy.rename(kept)

    @contextmanager
    def _closed_on_failure(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.close()
            raise

    def _open_files(self) -> None:
        self._make_subfolder(layout.LATENCY)
        for study in self.each_budget():
            self._make_subfolder(str(study.results_folder.relative_to(self.folder)))
            self._make_subfolder(str(study.winner_weights.parent.relative_to(self.folder)))
        self._trials_of(1)

    def _remove(self, name: str) -> None:
        with self.files.explained():
            self.path(name).unlink(missing_ok=True)

    def _make_subfolder(self, name: str) -> None:
        with self.files.explained():
            (self.folder / name).mkdir(parents=True, exist_ok=True)

    def _trials_of(self, number: int) -> TrialDatabase:
        if number not in self._trials:
            path = self.folder / in_round(number, layout.TRIALS)
            self._trials[number] = TrialDatabase(path)
        return self._trials[number]


def with_stored_budgets(asked: SearchSettings, stored: SearchSettings) -> SearchSettings:
    """Give the settings with budgets in the order and with the texts of the study.

    New budgets come last. So `--budgets 0.50x,0.8x` continues a study of `0.8x,0.5x`, and
    `--budget 0.50x` a study of `0.5x`.
    """
    texts = {str(Budget.parse(text)): text for text in asked.all_budgets}
    budgets = {
        value: text for text in stored.all_budgets if (value := str(Budget.parse(text))) in texts
    }
    budgets |= {value: text for value, text in texts.items() if value not in budgets}
    if asked.budgets:
        return asked.model_copy(update={"budgets": tuple(budgets.values())})
    (budget,) = budgets.values()
    return asked.model_copy(update={"budget": budget})


def _differ_only_in(names: Sequence[str], stored: SearchSettings, asked: SearchSettings) -> bool:
    changed = stored.model_copy(update={name: getattr(asked, name) for name in names})
    return stored != asked and changed.to_dict() == asked.to_dict()
