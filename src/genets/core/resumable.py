"""Resumable folders: one process at a time begins the work in a folder, or continues it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Self, TypeVar

from genets.core.errors import GenetsError, first_line
from genets.core.files import TEMPORARY_FILES, FileLock, NoLocksError, write_atomic
from genets.core.json_files import (
    READ_ERRORS,
    FormatVersionError,
    describe_damage,
    read_json,
    write_json,
)
from genets.core.output_folder import MARKER, make_folder

Content = TypeVar("Content")


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderKind:
    """The names and promises of one kind of resumable folder.

    Attributes:
        noun: The name of the kind in messages, such as "study".
        settings_file: The file that is written first. A folder that holds it has been begun.
        lock_file: The file that is locked while a process uses the folder.
        raises: The class of every error, such as StudyError.
        kept: The results that a full disk does not destroy, such as "every finished trial is kept".
        may_precede: Names that may exist before the settings file, with `*` as a wildcard. The
            lock file and temporary files always may.
    """

    noun: str
    settings_file: str
    lock_file: str
    raises: type[GenetsError]
    kept: str
    may_precede: tuple[str, ...] = ()


class ResumableFolder:
    """A folder that holds the settings of some work, its lock and its results.

    The constructor touches no file. A reader that needs no lock uses the object as it is; a
    process that writes calls `create_or_resume` or `resume`, and `close` at the end. The object
    is a context manager that closes itself.
    """

    def __init__(self, path: str | Path, kind: FolderKind) -> None:
        self.path = Path(path)
        self.kind = kind
        self._lock: FileLock | None = None

    @property
    def settings_path(self) -> Path:
        return self.path / self.kind.settings_file

    @property
    def is_begun(self) -> bool:
        """Whether the folder holds a settings file."""
        return os.path.isfile(self.settings_path)  # False for a name that is too long, too

    def create_or_resume(self) -> Self:
        """Create the folder, or take one that is empty or has been begun, and lock it.

        Raises:
            GenetsError: The path is a file, the folder holds something else, another process
                uses it, or it cannot be written; of class `kind.raises`.
        """
        self.check_usable()
        with self.explained():
            make_folder(self.path)
            self._take_lock()
        return self

    def check_usable(self) -> None:
        """Raise an error of class `kind.raises` where the path is a file or holds something else.

        Nothing is written.
        """
        with self.explained():
            if not self.is_begun and self.path.exists():
                self._check_empty()

    def resume(self) -> Self:
        """Lock a folder that has been begun.

        Raises:
            GenetsError: There is no such folder, another process uses it, or it cannot be
                written; of class `kind.raises`.
        """
        with self.explained():
            self.check_begun()
            self._take_lock()
        return self

    def check_begun(self) -> None:
        """Raise an error of class `kind.raises` where the folder has not been begun."""
        if not self.is_begun:
            raise self.kind.raises(
                f"{self.path} is not a {self.kind.noun} folder: "
                f"it holds no {self.kind.settings_file}"
            )

    def read_settings(
        self, read: Callable[[str], Content], *, passed: tuple[type[Exception], ...] = ()
    ) -> Content:
        """Read the settings file; no lock is needed.

        Args:
            read: Makes the settings from the text of the file.
            passed: Errors of `read` that are raised unchanged, because the file is not at fault.

        Returns:
            The result of `read`.

        Raises:
            GenetsError: The folder has not been begun, or the file is damaged or of another
                version; of class `kind.raises`.
        """
        self.check_begun()
        with self.explained():
            try:
                return read(self.settings_path.read_text(encoding="utf-8"))
            except passed:
                raise
            except FormatVersionError as error:
                raise self.kind.raises(f"{self.settings_path} {error}") from error
            except READ_ERRORS as error:
                raise self.kind.raises(
                    f"{self.settings_path} is damaged or of another version: "
                    f"{describe_damage(error)}"
                ) from error

    def write_settings(self, text: str) -> None:
        """Write the settings file, completely or not at all. Raises an error of `kind.raises`."""
        with self.explained():
            write_atomic(self.settings_path, text)

    def check_same(self, stored: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
        """Refuse other settings than those that the folder was begun with.

        Args:
            stored: The settings of the folder as plain values, nested or flat.
            asked: The settings of this call, in the same form.

        Raises:
            GenetsError: They differ; the message lists each difference.
        """
        changes = differences(stored, asked, self.kind.noun)
        if changes:
            raise self.kind.raises(
                f"{self.kind.noun} {self.path} was begun with other settings "
                f"({'; '.join(changes)}); leave the changed settings out to continue this "
                f"{self.kind.noun}, or give another folder"
            )

    def save_json(self, name: str, value: Any) -> Path:
        """Write `value` to the file `name`, completely or not at all, and return its path.

        Raises an error of class `kind.raises` where the file cannot be written.
        """
        path = self.path / name
        with self.explained():
            write_json(path, value)
        return path

    def load_json(
        self,
        name: str,
        read: Callable[[Any], Content],
        *,
        cure: str = "remove it to have it computed again",
    ) -> Content | None:
        """Read the file `name`; see `read_json`. No lock is needed.

        Returns:
            The result of `read`, or None where there is no such file.

        Raises:
            GenetsError: The file is damaged or cannot be read; of class `kind.raises`.
        """
        with self.explained():
            return read_json(self.path / name, read, raises=self.kind.raises, cure=cure)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn an OSError of the block into one sentence, of class `kind.raises`."""
        try:
            yield
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            cure = "free some space" if full else "check the path and its permissions"
            kept = f"{self.kind.kept}, so " if self.is_begun else ""
            reason = error.strerror or first_line(error)
            if error.filename and not Path(error.filename).is_relative_to(self.path):
                reason += f": {error.filename}"  # such as the folder for temporary files
            raise self.kind.raises(
                f"cannot use {self.kind.noun} {self.path}: {reason}; "
                f"{kept}{cure} and give the same command again"
            ) from error

    def close(self) -> None:
        """Release the lock for other processes; a second call does nothing."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _take_lock(self) -> None:
        assert self._lock is None, "the folder is open already"
        subject = f"{self.kind.noun} {self.path}"
        self._lock = take_lock(self.path / self.kind.lock_file, subject, raises=self.kind.raises)

    def _check_empty(self) -> None:
        kind = self.kind
        if not self.path.is_dir():
            raise kind.raises(f"{self.path} is a file; a {kind.noun} needs a folder")
        others = [name for name in sorted(os.listdir(self.path)) if not self._may_precede(name)]
        if others:
            raise kind.raises(
                f"{self.path} is neither empty nor a {kind.noun} (it holds {others[0]} but no "
                f"{kind.settings_file}); take another folder"
            )

    def _may_precede(self, name: str) -> bool:
        """Whether `name` may exist before the settings file, as after a kill at the beginning."""
        patterns = (self.kind.lock_file, MARKER, TEMPORARY_FILES, *self.kind.may_precede)
        return any(fnmatchcase(name, pattern) for pattern in patterns)


def take_lock(
    lock_path: str | Path,
    subject: str,
    *,
    raises: type[GenetsError],
    cure: str = "wait until it ends, or stop it",
) -> FileLock:
    """Lock a file, for work that is kept in a single file or in a folder.

    Args:
        lock_path: The lock file, which is created where it does not exist.
        subject: The locked thing, for the message.
        raises: The class of the error.
        cure: Advice to the user.

    Returns:
        The lock, which holds until it is closed or this process ends.

    Raises:
        GenetsError: Another process holds the lock, or the file system has no locks; of class
            `raises`.
        OSError: The file cannot be created.
    """
    try:
        return FileLock(lock_path)
    except BlockingIOError as error:
        raise raises(f"{subject} is {error.strerror}; {cure}") from error
    except NoLocksError as error:
        raise raises(
            f"{subject} cannot be locked against other processes ({error.strerror}); take a folder "
            "on a local disk, or on a network file system that has locks"
        ) from error


def differences(
    stored: Mapping[str, Any], asked: Mapping[str, Any], where: str, *, now: str = "asked"
) -> list[str]:
    """Describe the differences of two records, field by field.

    Args:
        stored: Plain values from a file, nested or flat.
        asked: The values of this call, in the same form; a list equals a tuple of its items.
        where: The name of the place that holds `stored`, such as "study".
        now: The word for `asked`, such as "here" for conditions that are not chosen.

    Returns:
        One text for each difference, such as `budget: 0.2ms in the study, 0.1ms asked`.
    """
    old, new = flatten(stored), flatten(asked)
    return [
        f"{name}: {_value_text(old.get(name))} in the {where}, {_value_text(new.get(name))} {now}"
        for name in {**old, **new}
        if _as_lists(old.get(name)) != _as_lists(new.get(name))
    ]


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Give nested values dotted names, such as `target.batch_size`."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _value_text(value: Any) -> str:
    """A field that is absent, None or an empty text is not set."""
    return "not set" if value is None or value == "" else str(value)


def _as_lists(value: Any) -> Any:
    return [_as_lists(item) for item in value] if isinstance(value, list | tuple) else value
