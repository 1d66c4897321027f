"""Visits: the file from which an interrupted latency table continues.

It holds one JSON value for each line. The first line has the settings and conditions of the table.
Then, for each part of the items that was timed together, come the number of its items, its visits
with the readings of the device between them and, where the part was finished, a mark.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from genets.core.errors import first_line
from genets.core.files import write_atomic
from genets.core.json_files import READ_ERRORS, VERSION_KEY, describe_damage
from genets.core.log import get_logger
from genets.core.validation import from_plain, to_plain
from genets.latency.environment import RECORDED_CONDITIONS, differing_conditions
from genets.latency.predictor.readings import Readings
from genets.latency.timing.drift import Visit

_log = get_logger(__name__)

VERSION = 3
FLUSH_S = 2.0  # a process that is killed loses at most the visits of this time
PART, READINGS, END = "part", "readings", "end"


@dataclass
class Part:
    """The recorded visits of items that were timed together, and the readings between them."""

    size: int
    entries: list[Visit | Readings] = field(default_factory=list)
    is_finished: bool = False

    @property
    def visits(self) -> list[Visit]:
        return [each for each in self.entries if isinstance(each, Visit)]

    @property
    def readings(self) -> list[Readings]:
        return [each for each in self.entries if isinstance(each, Readings)]

    def lines(self) -> list[Any]:
        end = [END] if self.is_finished else []
        return [{PART: self.size}, *map(_entry_line, self.entries), *end]


class VisitFile:
    """The visits of a table that is being built; without a path nothing is kept.

    A file that cannot be written costs no table: the visits are then not kept.

    Args:
        path: The file; None keeps nothing.
        settings: Plain values that an earlier file must have as well.
        environment: The output of `describe_environment`, of which the conditions count.
        read: Returns the readings of the device since the previous call.
    """

    def __init__(
        self,
        path: Path | None,
        settings: Mapping[str, Any],
        environment: Mapping[str, Any],
        read: Callable[[], Readings] = Readings,
    ) -> None:
        self.path = path
        self._read_device = read
        recorded = {name: environment[name] for name in RECORDED_CONDITIONS if name in environment}
        self._header = _plain({VERSION_KEY: VERSION, **settings, "conditions": recorded})
        self.choices: dict[str, Any] = {}
        self._recorded: list[Part] = []
        self._done = 0
        self._file: TextIO | None = None
        self._has_made_visits = False
        self._flushed_s = 0.0
        if path is not None and path.exists():
            self._load(path)

    def _load(self, path: Path) -> None:
        try:
            header, choices, parts = _read(path)
        except OSError as error:
            _log.warning("%s is ignored: %s", path, error.strerror)
        except READ_ERRORS as error:
            _log.warning("%s is ignored: it is damaged (%s)", path, describe_damage(error))
        else:
            conditions = header.get("conditions", {})
            different = [name for name in self._header if header.get(name) != self._header[name]
                         and name != "conditions"]  # fmt: skip
            different += differing_conditions(conditions, self._header["conditions"])
            if different:
                _log.warning("%s is ignored: it has another %s", path, ", ".join(different))
                return
            self.choices, self._recorded = choices, parts
            _log.info("%s: %d visits are used again", path, sum(len(p.visits) for p in parts))

    def begin(self, choices: Mapping[str, Any]) -> None:
        """Begin to write. An earlier file with other choices is not used.

        Args:
            choices: Decisions of an earlier measurement or draw, as plain values.
        """
        plain = _plain(choices)
        if self._recorded and plain != self.choices:
            _log.warning("%s is ignored: it has other items", self.path)
            self._recorded = []
        self.choices = plain
        self._rewrite(self._recorded)

    def next_part(self) -> Part | None:
        """The record of the next part; None where there is none."""
        return self._recorded[self._done] if self._done < len(self._recorded) else None

    def forget(self) -> None:
        """Forget the record of the next part and of those after it."""
        del self._recorded[self._done :]
        self._rewrite(self._recorded)

    def begin_part(self, size: int) -> None:
        """Begin a part, or continue it where it is recorded."""
        self._has_made_visits = False
        if self.next_part() is None:
            self._recorded.append(Part(size))
            self._write({PART: size})

    def add(self, visit: Visit) -> None:
        """Keep a visit of the current part; at most FLUSH_S later it is in the file."""
        self._has_made_visits = True
        self._keep(visit)
        now_s = time.monotonic()
        if now_s - self._flushed_s > FLUSH_S:
            self.add_readings()
            self.flush()
            self._flushed_s = now_s

    def add_readings(self) -> None:
        """Read the device, and keep the readings if visits of the current part have been made."""
        readings = self._read_device()
        if self._has_made_visits and readings != Readings():
            self._keep(readings)

    def _keep(self, entry: Visit | Readings) -> None:
        self._recorded[self._done].entries.append(entry)
        self._write(_entry_line(entry))

    def readings(self) -> Readings:
        """The readings of all visits, also of those of earlier processes."""
        return Readings.merge(each for part in self._recorded for each in part.readings)

    def end_part(self) -> None:
        """End the current part."""
        part = self._recorded[self._done]
        if not part.is_finished:
            part.is_finished = True
            self._write(END)
        self.flush()
        self._done += 1

    def flush(self) -> None:
        """Bring all visits to the file."""
        if self._file is not None:
            try:
                self._file.flush()
            except OSError as error:
                self._give_up(error)

    def close(self) -> None:
        """Bring all visits to the file and close it."""
        self.flush()
        if self._file is not None:  # the flush did not fail
            try:
                self._file.close()
            except OSError as error:
                self._give_up(error)
            self._file = None

    def _rewrite(self, parts: list[Part]) -> None:
        """Write the file with these parts, without a line that a kill has cut off."""
        if self.path is None:
            return
        self.close()
        lines = [self._header, self.choices, *(line for part in parts for line in part.lines())]
        try:
            write_atomic(self.path, "".join(json.dumps(line) + "\n" for line in lines))
            self._file = self.path.open("a", encoding="utf-8")
        except OSError as error:
            self._give_up(error)

    def _write(self, line: Any) -> None:
        if self._file is not None:
            try:
                self._file.write(json.dumps(line) + "\n")
            except OSError as error:
                self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        _log.warning("the visits are not kept in %s: %s", self.path, first_line(error))
        if self._file is not None:
            with suppress(OSError):  # it repeats a write that failed
                self._file.close()
        self._file = None


def remove_visits(path: Path) -> None:
    """Remove the file of a table that is complete. A file that cannot be removed costs no table."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        _log.warning("%s stays, because it cannot be removed: %s", path, first_line(error))


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any], list[Part]]:
    """Read a file, without a last line that a kill has cut off; raises READ_ERRORS, OSError."""
    complete = path.read_bytes().rpartition(b"\n")[0]
    header, choices, *lines = [json.loads(line) for line in complete.split(b"\n")]
    parts: list[Part] = []
    for line in lines:
        if isinstance(line, dict) and READINGS in line:
            parts[-1].entries.append(from_plain(Readings, line[READINGS]))
        elif isinstance(line, dict):
            parts.append(Part(_integer(line[PART], at_least=1)))
        elif line == END:
            parts[-1].is_finished = True
        else:
            number, seconds, cost_s = line
            visit = Visit(_integer(number), _finite(seconds), _finite(cost_s))
            if visit.number >= parts[-1].size or visit.seconds == 0:
                raise ValueError("a visit is out of range")
            parts[-1].entries.append(visit)
    if not all(part.is_finished for part in parts[:-1]):
        raise ValueError("a part has no end")
    return dict(header), dict(choices), parts


def _entry_line(entry: Visit | Readings) -> Any:
    return list(entry) if isinstance(entry, Visit) else {READINGS: to_plain(entry)}


def _integer(value: Any, at_least: int = 0) -> int:
    if type(value) is not int or value < at_least:  # bool is a subclass of int
        raise ValueError(f"{value!r} is not an integer of at least {at_least}")
    return value


def _finite(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value < math.inf:
        raise ValueError(f"{value!r} is not a finite number of at least 0")
    return float(value)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values as a JSON file gives them back."""
    plain: dict[str, Any] = json.loads(json.dumps(values))
    return plain
