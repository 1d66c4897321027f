"""A study: the folder that holds one search, and that survives whatever stops it."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from genets.core.errors import BlockFileError, StudyError
from genets.core.files import FileLock, write_atomic
from genets.nas.round import CANDIDATES, MASTER, ROUNDS, Start, file_of
from genets.nas.settings.layers import flatten
from genets.nas.settings.settings import SearchSettings
from genets.nas.study.growth import (
    SETTINGS,
    asks_for_more_trials,
    grow,
    read_grown_from,
    write_settings,
)
from genets.nas.study.records import Trial, TrialResult
from genets.nas.study.trial_database import TrialDatabase

Read = TypeVar("Read")

LOCK = "study.lock"
TRIALS = "trials.sqlite"
LATENCY = "latency"
FAILURE = "failure"  # why the last run of a search stopped
INFEASIBLE = "infeasible_budget"  # whether it was that nothing keeps the budget


class Study:
    """An open study, locked against other processes until it is closed.

        study.toml          every setting, written once
        trials.sqlite       one row for each finished trial
        master.safetensors  weights of the trained MasterNet
        confirmed/          weights of the candidates that the winner was chosen from
        winner.safetensors  weights of the trained winner
        latency/            one table for each target
        rounds/2/           trials and candidates of the second round, and so on
        results/            what is handed over

    Worker processes must be spawned, not forked: a forked one would hold the lock too.
    """

    def __init__(self, folder: Path, settings: SearchSettings, lock: FileLock) -> None:
        """Use `create_or_resume` or `open`."""
        self.folder = folder
        self.settings = settings
        self._lock = lock
        self._trials = {1: TrialDatabase(folder / TRIALS)}  # by round

    @classmethod
    def create_or_resume(cls, folder: str | Path, settings: SearchSettings) -> Self:
        """Begin a study in a new or empty folder, or go on with the one that is there.

        Where nothing kept the budget, the study may go on with another: nothing that it has
        done so far depends on the budget. More trials for each super-block are added to those
        that are there, and selection begins anew, but for a study that has moved its MasterNet
        (`rounds`). Raises StudyError if it has other settings, is
        damaged, is in use, or cannot be written, or if the folder holds something else.
        """
        folder = Path(folder)
        with _explained(folder):
            if folder.exists() and not is_study(folder):
                _check_empty(folder)
            folder.mkdir(parents=True, exist_ok=True)
            with _locked(folder) as lock:
                if not is_study(folder) or _has_another_budget(folder, settings):
                    write_settings(folder, settings)
                elif not (folder / ROUNDS).exists() and asks_for_more_trials(
                    load_settings(folder), settings
                ):
                    grow(folder, load_settings(folder), settings)
                _check_equal(folder, load_settings(folder), settings)
                return cls._prepared(folder, settings, lock)

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """Open a study that is there, with its own settings. Raises StudyError."""
        folder = Path(folder)
        with _explained(folder):
            settings = load_settings(folder)
            with _locked(folder) as lock:
                return cls._prepared(folder, settings, lock)

    @classmethod
    def _prepared(cls, folder: Path, settings: SearchSettings, lock: FileLock) -> Self:
        (folder / LATENCY).mkdir(exist_ok=True)
        (folder / "results").mkdir(exist_ok=True)
        return cls(folder, settings, lock)

    @property
    def latency_folder(self) -> Path:
        return self.folder / LATENCY

    @property
    def master_weights(self) -> Path:
        return self.folder / "master.safetensors"

    @property
    def confirmed_folder(self) -> Path:
        return self.folder / "confirmed"

    @property
    def grown_from(self) -> tuple[int, ...]:
        """The smaller numbers of trials for each super-block that it had before, ascending."""
        return read_grown_from(self.folder, self.settings)

    def is_selected(self, number: int = 1) -> bool:
        """Whether a round's structures were selected, after which it runs no trial any more."""
        return self.has_winner or (self.folder / f"{file_of(number, CANDIDATES)}.json").exists()

    def is_decided(self, number: int = 1) -> bool:
        """Whether one of a round's structures was chosen, to be handed over or to go on from."""
        following = self.folder / f"{file_of(number + 1, MASTER)}.json"
        return self.has_winner or following.exists()

    @property
    def has_winner(self) -> bool:
        """Whether one of the selected structures was chosen to be handed over."""
        return (self.folder / "selected.json").exists()

    def starts(self) -> list[Start]:
        """What the rounds after the first started from, as far as they have begun.

        Raises StudyError if a file is damaged.
        """
        found: list[Start] = []
        while start := self.load_json(file_of(len(found) + 2, MASTER), Start.from_json):
            found.append(start)
        return found

    def begin_round(self, number: int, start: Start) -> None:
        """From now on the round before is decided. Raises StudyError."""
        with _explained(self.folder):
            (self.folder / ROUNDS / str(number)).mkdir(parents=True, exist_ok=True)
        self.save_json(file_of(number, MASTER), start.to_json())

    @property
    def winner_weights(self) -> Path:
        return self.folder / "winner.safetensors"

    def record(self, result: TrialResult, number: int = 1) -> None:
        """Add a trial of a round that ended; on disk when this returns.

        A failed trial may be replaced, a finished one never. Raises StudyError.
        """
        self._trials_of(number).record(result)

    def results(self, number: int = 1) -> list[TrialResult]:
        """Every trial of a round that ended, failed ones too, ordered by trial."""
        return self._trials_of(number).results()

    def _trials_of(self, number: int) -> TrialDatabase:
        if number not in self._trials:
            self._trials[number] = TrialDatabase(self.folder / ROUNDS / str(number) / TRIALS)
        return self._trials[number]

    def missing(
        self, trials: Iterable[Trial], number: int = 1, *, retry_failed: bool = False
    ) -> list[Trial]:
        """Those of a round's `trials` that have not ended, in the given order, each once."""
        ended = {
            result.trial
            for result in self.results(number)
            if result.status == "done" or not retry_failed
        }
        return [trial for trial in dict.fromkeys(trials) if trial not in ended]

    def save_json(self, name: str, value: Any) -> Path:
        """Write `value` to `<name>.json` in the study, wholly or not at all. Raises StudyError."""
        path = self.folder / f"{name}.json"
        with _explained(self.folder):
            write_atomic(path, json.dumps(value, indent=2, allow_nan=False) + "\n")
        return path

    def load_json(self, name: str, read: Callable[[Any], Read]) -> Read | None:
        """What `read` makes of what `save_json` wrote, or None if it never did.

        Raises StudyError if it is damaged.
        """
        path = self.folder / f"{name}.json"
        with _explained(self.folder):
            try:
                return read(json.loads(path.read_bytes()))
            except FileNotFoundError:
                return None
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise StudyError(
                    f"{path} is damaged ({error}); remove it to have it computed again"
                ) from error

    def close(self) -> None:
        """Release the study for other processes."""
        for trials in self._trials.values():
            trials.close()
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def is_study(folder: Path) -> bool:
    """Whether a study was begun in `folder`."""
    return (folder / SETTINGS).is_file()


def load_settings(folder: Path) -> SearchSettings:
    """The settings that a study was begun with. Raises StudyError."""
    if not is_study(folder):
        raise StudyError(f"{folder} is not a study folder: it holds no {SETTINGS}")
    try:
        return SearchSettings.from_toml((folder / SETTINGS).read_text(encoding="utf-8"))
    except BlockFileError:
        raise
    except ValueError as error:  # GenetsError, or bytes that are not UTF-8
        raise StudyError(
            f"{folder / SETTINGS} is damaged or of another version: {error}"
        ) from error


def differences(stored: SearchSettings, asked: SearchSettings) -> list[str]:
    """What differs, field by field: `budget: 0.2ms in the study, 0.1ms asked`."""
    old, new = flatten(stored.to_dict()), flatten(asked.to_dict())
    return [
        f"{name}: {old.get(name, 'not set')} in the study, {new.get(name, 'not set')} asked"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def _has_another_budget(folder: Path, asked: SearchSettings) -> bool:
    """Whether only the budget differs, and the study's own was found to be infeasible."""
    try:
        failure = json.loads((folder / f"{FAILURE}.json").read_bytes())
    except (FileNotFoundError, ValueError):
        return False
    if not (isinstance(failure, dict) and failure.get(INFEASIBLE)):
        return False
    same_budget = load_settings(folder).model_copy(update={"budget": asked.budget})
    return not differences(same_budget, asked)


def _check_equal(folder: Path, stored: SearchSettings, asked: SearchSettings) -> None:
    changed = differences(stored, asked)
    if changed:
        raise StudyError(
            f"{folder} is a study of other settings ({'; '.join(changed)}); "
            f"give the same settings to go on with it, or another folder"
        )


def _check_empty(folder: Path) -> None:
    if not folder.is_dir():
        raise StudyError(f"{folder} is a file; a study needs a folder")
    others = [name for name in sorted(os.listdir(folder)) if not _may_precede_settings(name)]
    if others:
        raise StudyError(
            f"{folder} is neither empty nor a study (it holds {others[0]} but no {SETTINGS}); "
            f"take another folder"
        )


def _may_precede_settings(name: str) -> bool:
    """Whether `name` can be there before a study: its latency tables, made ahead, the ranking
    that its MasterNet was chosen by, or what a new study that was killed at once has left behind.
    """
    begun = name.startswith(f".{SETTINGS}.") and name.endswith(".tmp")
    return name in (LOCK, LATENCY, "masternets.json") or begun


@contextmanager
def _locked(folder: Path) -> Iterator[FileLock]:
    """Lock the study; the lock outlives the block, unless the block fails."""
    try:
        lock = FileLock(folder / LOCK)
    except BlockingIOError as error:
        raise StudyError(
            f"study {folder} is {error.strerror}; wait until it ends, or stop it"
        ) from error
    try:
        yield lock
    except BaseException:
        lock.close()
        raise


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Turn what the file system complains about into one sentence."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        cure = "free some space" if full else "check the path and its permissions"
        raise StudyError(
            f"cannot use study {folder}: {error.strerror}; every finished trial is kept, "
            f"so {cure} and give the same command again"
        ) from error
