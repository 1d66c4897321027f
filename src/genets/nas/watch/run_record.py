"""The record of the last run of a search: its phase, its workers and the last update."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, Self

from genets.core.progress import Progress
from genets.core.validation import from_plain

RunState = Literal["running", "finished", "stopped", "failed"]
# Without a sign for so long, a search counts as gone: eight writes of its record are missing.
SILENT_SECONDS = 120.0
MAX_TIMES = 33  # of ended steps: enough for a mean that follows the recent past


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """The content of `run.json`. All times are seconds since 1970, by the clock of the search.

    Attributes:
        state: A run that was killed stays "running".
        began_at: When the run began.
        seen_at: When the record was written.
        host, process: Where the run takes place.
        workers: The number of workers; None until it is known.
        workers_on: The machines of the workers, in words.
        running: The number of trials or candidates that are trained now.
        phase: The phase, as `Progress` names it; empty before the first one.
        done, total: The steps of the phase that have ended, and all its steps.
        detail: A few words on the last step.
        waiting: A few words on a wait for a calm device; empty where the search does not wait.
        phase_began_at: When the run began the phase.
        phase_began_done: The steps that earlier runs finished.
        step_times: When the last steps ended.
    """

    state: RunState = "running"
    began_at: float = field(default_factory=time.time)
    seen_at: float = field(default_factory=time.time)
    host: str = field(default_factory=socket.gethostname)
    process: int = field(default_factory=os.getpid)
    workers: int | None = None
    workers_on: str = ""
    running: int = 0
    phase: str = ""
    done: float = 0.0
    total: float = 0.0
    detail: str = ""
    waiting: str = ""
    phase_began_at: float = 0.0
    phase_began_done: float = 0.0
    step_times: tuple[float, ...] = ()

    def with_step(self, step: Progress, now: float) -> Self:
        """Give the record after a step of a phase."""
        if step.phase != self.phase or step.done < self.done:  # a phase may begin again
            begun = replace(
                self, phase=step.phase, phase_began_at=now, phase_began_done=step.done,
                done=step.done, step_times=(),
            )  # fmt: skip
            return begun.with_step(step, now)
        ended = (now,) * (int(step.done) - int(self.done))
        return replace(
            self, done=step.done, total=step.total, detail=step.detail, waiting="",
            step_times=(*self.step_times, *ended)[-MAX_TIMES:],
        )  # fmt: skip

    def steps_per_second(self, now: float) -> float | None:
        """The rate of the last steps; None before the first of them has ended."""
        times = self.step_times
        if not times:
            return None
        since, steps = self.phase_began_at, len(times)
        if len(times) == MAX_TIMES:  # the phase has had more steps
            since, steps = times[0], len(times) - 1
        return steps / max(now - since, 1e-3)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`; keys of newer versions are left out. Raises GenetsError."""
        names = cls.__dataclass_fields__
        return from_plain(cls, {name: value for name, value in record.items() if name in names})
