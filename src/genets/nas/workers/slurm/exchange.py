"""The folder through which the driver of a search and its tasks on SLURM exchange files.

    plan.json        the items of each group, as texts
    claims/GROUP     the task that runs a group, or `driver` where no task may run the group
    results/GROUP    the results of a group that the driver has not taken yet
    tasks/TASK       the status of a task
    arrays/          the files of submitit: submitted tasks and their output

Every file is written completely or not at all. A claim is a symbolic link whose text names the
task: only one process can create the link, also on a network file system, and its text is there
from the beginning. A lost claim costs time and no result, because a group that is run twice gives
the same results.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from genets.core.errors import GenetsError, WorkersError, first_line
from genets.core.json_files import read_json, write_json
from genets.core.validation import from_plain, to_plain

Record = TypeVar("Record")

DRIVER = "driver"  # no task has this name
DIGEST_BYTES = 8


@dataclass(frozen=True)
class TaskStatus:
    """The status of a task, which the task writes.

    Attributes:
        host: The name of its machine.
        state: `begun` when its runner is made, `ended` when no group is left, `late` when the time
            limit ended a group that had all the time of the task, `fruitless` when the time limit
            came before the task had finished a group, `faulty` where it must not run.
        fault: The sentence of an error that stops the search; empty where there is none.
    """

    host: str
    state: Literal["begun", "ended", "late", "fruitless", "faulty"]
    fault: str = ""


@dataclass(frozen=True)
class Plan:
    """The groups of a run: the texts of the items of each group, by its name."""

    groups: dict[str, list[str]]


@dataclass(frozen=True)
class GroupResults:
    """The result of each item of a group as plain values, by the text of the item."""

    results: dict[str, dict[str, Any]]


def item_text(item: Hashable) -> str:
    """Give a text that is equal for equal items, also in another process."""
    return repr(item)


def group_name(items: Sequence[Hashable]) -> str:
    """Give the name of a group; equal groups have equal names, also in another process."""
    return digest(*map(item_text, items))


def digest(*texts: str) -> str:
    """Give a short name for texts."""
    content = json.dumps(texts).encode()
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).hexdigest()


class Exchange:
    """The files that a driver exchanges with its tasks.

    Attributes:
        folder: The folder, which each node must see under this path.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._claims, self._results = folder / "claims", folder / "results"
        self._tasks, self._plan = folder / "tasks", folder / "plan.json"
        self._cancelled = folder / "cancelled"  # exists where the driver has cancelled its tasks

    @property
    def arrays(self) -> Path:
        """The folder for the files of submitit."""
        return self.folder / "arrays"

    def make(self) -> None:
        """Make the folder. Raises WorkersError."""
        with self._explained():
            for folder in (self._claims, self._results, self._tasks, self.arrays):
                folder.mkdir(parents=True, exist_ok=True)

    def remove(self) -> None:
        """Remove the folder, and the folder above where it is empty."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):
            self.folder.parent.rmdir()

    def save_plan(self, groups: Mapping[str, Sequence[Hashable]]) -> None:
        """Store the items of each group, for a driver that continues later."""
        texts = {name: list(map(item_text, items)) for name, items in groups.items()}
        with self._explained():
            write_json(self._plan, to_plain(Plan(texts)))

    @property
    def expects_tasks(self) -> bool:
        """Whether a driver has left tasks behind: it has planned groups, and cancelled no task."""
        return self._plan.exists() and not self._cancelled.exists()

    def note_cancelled(self) -> None:
        """Note that the driver has cancelled its tasks, which SLURM ends some seconds later."""
        with self._explained():
            self._cancelled.touch()

    def forget_cancelled(self) -> None:
        """Expect tasks again, because the driver submits some."""
        with self._explained():
            self._cancelled.unlink(missing_ok=True)

    def plan(self) -> dict[str, list[str]]:
        """Give the texts of the items of each group; none where the plan is missing or damaged."""
        with self._explained():
            plan = _read(self._plan, Plan)
        return {} if plan is None else plan.groups

    def take_group(self, names: Sequence[str], task: str) -> str | None:
        """Claim the first group that is free; None where there is none."""
        with self._explained():
            taken = set(os.listdir(self._claims))
            for name in names:
                if name not in taken:
                    with suppress(FileExistsError):
                        (self._claims / name).symlink_to(task)
                        return name
        return None

    def claims(self) -> dict[str, str]:
        """Give the task that has claimed each group."""
        with self._explained():
            return {path.name: str(path.readlink()) for path in _files(self._claims)}

    def release(self, name: str) -> None:
        """Let any task run a group."""
        with self._explained():
            (self._claims / name).unlink(missing_ok=True)

    def release_all(self, task: str) -> None:
        """Release the groups that a task claimed before SLURM put it back into the queue."""
        for name, owner in self.claims().items():
            if owner == task and not self.has_results(name):
                self.release(name)

    def oldest_claim(self, task: str) -> float:
        """Give the seconds since a task claimed the oldest group that it has not finished; else 0.

        Both times are those of the file system, whose clock may differ from that of the node.
        """
        links = [self._claims / name for name, owner in self.claims().items() if owner == task]
        with self._explained():
            starts = [link.lstat().st_mtime for link in links if not self.has_results(link.name)]
            now = self._claims / f".{task}"
            now.touch()
            end = now.stat().st_mtime
            now.unlink()
        return end - min(starts, default=end)

    def close_group(self, name: str) -> None:
        """Let no task run a group, because the driver has its results or cut it in halves."""
        with self._explained():
            link = self._claims / f".{name}"
            link.unlink(missing_ok=True)
            link.symlink_to(DRIVER)
            link.replace(self._claims / name)
            (self._results / name).unlink(missing_ok=True)

    def put_results(self, name: str, results: Mapping[Any, Any]) -> None:
        """Store the results of a group. results: By item."""
        plain = {item_text(item): to_plain(result) for item, result in results.items()}
        with self._explained():
            write_json(self._results / name, {"results": plain})

    def has_results(self, name: str) -> bool:
        """Whether the results of a group are stored."""
        return (self._results / name).exists()

    def finished(self) -> list[str]:
        """Give the names of the groups whose results are stored, the oldest first."""
        with self._explained():
            paths = sorted(_files(self._results), key=lambda path: path.stat().st_mtime_ns)
        return [path.name for path in paths]

    def results(self, name: str) -> dict[str, dict[str, Any]]:
        """Give the results of a group by the text of the item; none where they are damaged."""
        with self._explained():
            stored = _read(self._results / name, GroupResults)
        return {} if stored is None else stored.results

    def save_status(self, task: str, status: TaskStatus) -> None:
        """Store the status of a task."""
        with self._explained():
            write_json(self._tasks / task, to_plain(status))

    def statuses(self) -> dict[str, TaskStatus]:
        """Give the status of each task."""
        with self._explained():
            read = {path.name: _read(path, TaskStatus) for path in _files(self._tasks)}
        return {name: status for name, status in read.items() if status is not None}

    def last_output(self, task: str) -> str:
        """Give the last line of the output of a task, or the reason why there is none."""
        others = ("srun:", "slurmstepd:", "submitit ")
        for log in sorted(self.arrays.glob(f"*/{task}_*_log.err")):
            with self._explained():
                text = log.read_text(errors="replace")
            lines = [line for line in text.splitlines() if line.strip()]
            if lines:
                own = [line for line in lines if not line.startswith(others)]
                return (own or lines)[-1].strip()
        return (
            f"it wrote nothing to {self.arrays}, so its node may not see this folder, which must "
            "be on a shared file system"
        )

    def forget_tasks(self) -> None:
        """Remove the claims and the status files of tasks that have all ended."""
        with self._explained():
            for path in (*_files(self._claims), *_files(self._tasks)):
                path.unlink()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or first_line(error)
            raise WorkersError(
                f"cannot use {self.folder}, the folder for the tasks on SLURM: {reason}; every "
                "finished trial is kept, so give the same command again"
            ) from error


def _files(folder: Path) -> Iterator[Path]:
    """The complete files of a folder, without temporary ones."""
    return (path for path in folder.iterdir() if not path.name.startswith("."))


def _read(path: Path, owner: type[Record]) -> Record | None:
    """Read a file; None where it is missing or damaged."""
    with suppress(GenetsError):
        return read_json(path, lambda record: from_plain(owner, record))
    return None
