"""The progress of a long operation, and the wall time of its phases."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Protocol

from genets.core.errors import GenetsError
from genets.core.log import get_logger

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Progress:
    """`done` of `total` steps of a phase are finished.

    Attributes:
        phase: The name of the phase, such as "trials" or "trials, round 2".
        done: Finished steps; a fraction where a step is reported in parts. A resumed phase
            starts with the steps that an earlier run finished.
        total: All steps of the phase. A step is an epoch, a trial, a network or a percent.
        detail: A few words on the last step.
    """

    phase: str
    done: float
    total: float
    detail: str = ""

    def __post_init__(self) -> None:
        assert 0 <= self.done <= self.total, self


OnProgress = Callable[[Progress], None]


class Report(Protocol):
    """Reports the progress of one phase."""

    def __call__(self, done: float, total: int, detail: str = "") -> None: ...


class Reporter:
    """Passes on the steps of phases, and the activity of the current step.

    Args:
        on_progress: Called with each step; None reports nothing.
    """

    def __init__(self, on_progress: OnProgress | None) -> None:
        self._on_progress = on_progress
        self._latest: Progress | None = None

    @property
    def words(self) -> str:
        """The words on the latest step."""
        return "" if self._latest is None else self._latest.detail

    def step(self, step: Progress) -> None:
        """Report a step."""
        self._latest = step
        if self._on_progress is not None:
            self._on_progress(step)

    def action(self, words: str) -> None:
        """Report the latest step again, with other words on it, unless its phase has ended."""
        latest = self._latest
        if latest is not None and latest.done < latest.total and words != latest.detail:
            self.step(replace(latest, detail=words))


class TimeLeft:
    """Estimates the time that a phase still takes, from the steps that this process has made.

    Args:
        step: The first step of the phase; an earlier process made the steps before it.
        now: The time in seconds, from any origin; it is passed to each method.
    """

    def __init__(self, step: Progress, now: float) -> None:
        self._start, self._first = now, step.done
        self._at, self._latest = now, step
        self._steps = 0

    def update(self, step: Progress, now: float) -> None:
        """Take a further step of the phase."""
        if step.done > self._latest.done:
            self._at = now
            self._steps += 1
        self._latest = step

    def seconds(self, now: float) -> float | None:
        """The seconds that are left; None before the first step has ended.

        While steps are missing, this is at least the usual time of a step: a step that takes longer
        than others must not end in an estimate of nothing.
        """
        made = self._latest.done - self._first
        missing = self._latest.total - self._latest.done
        if made <= 0 or missing <= 0:
            return 0.0 if missing <= 0 else None
        spent = self._at - self._start
        return max(spent / made * missing - (now - self._at), spent / self._steps)

    def is_before(self, step: Progress) -> bool:
        """Whether the phase has begun again: `step` is before the latest step."""
        return step.done < self._latest.done

    def elapsed(self, now: float) -> float:
        """The seconds since the first step."""
        return now - self._start


class PhaseTimer:
    """Adds up the wall time of each phase, also of a phase that is interrupted.

    Args:
        seconds: Wall time by phase, as earlier runs left it; the timer changes this dict.
        store: Called with `seconds` at the end of each phase, to save it.
    """

    def __init__(
        self, seconds: dict[str, float], store: Callable[[dict[str, float]], object]
    ) -> None:
        self.seconds = seconds
        self._store = store

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the wall time of the block to the phase `name`, save it and log it.

        Raises the errors of `store`; where the block fails, its own error comes first.
        """
        start = time.perf_counter()
        _log.info("%s: started", name)
        try:
            yield
        except BaseException as error:
            self._add(name, time.perf_counter() - start, f"stopped by {type(error).__name__}")
            with suppress(GenetsError, OSError):  # the error of the block says more
                self._store(self.seconds)
            raise
        self._add(name, time.perf_counter() - start, "ended")
        self._store(self.seconds)

    def _add(self, name: str, seconds: float, outcome: str) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds
        _log.info("%s: %s after %.1f s", name, outcome, seconds)
