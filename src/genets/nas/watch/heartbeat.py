"""The heartbeat of a search: it keeps `run.json` up to date, so that others can watch the study."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from genets.core.errors import StudyError
from genets.core.progress import OnProgress, Progress
from genets.nas.latencies.calm import WAITING
from genets.nas.study import layout
from genets.nas.study.study import Study
from genets.nas.watch.run_record import SILENT_SECONDS, RunRecord, RunState
from genets.nas.workers.monitor import Monitor

# Four small writes per minute. A thread makes them, because a step may take hours.
BEAT_SECONDS = 15.0


class Heartbeat:
    """Writes the state of a search at its start and end, at new phases, and every few seconds.

    A record that cannot be written is left out: it must not cost the search a result.

    Args:
        study: The open study.
        on_event: Gets each step that `step` gets.
        monitor: Knows the number of trainings that run.
        seconds: The time between two writes.
    """

    def __init__(
        self,
        study: Study,
        on_event: OnProgress | None = None,
        monitor: Monitor | None = None,
        seconds: float = BEAT_SECONDS,
    ) -> None:
        self._study, self._on_event, self._seconds = study, on_event, seconds
        self._monitor = monitor or Monitor()
        self._record = RunRecord()
        self._due, self._has_ended = threading.Event(), False
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def step(self, step: Progress) -> None:
        """Take a step of a phase."""
        if step.phase == WAITING:
            words = step.detail or WAITING
            self._record = replace(self._record, waiting=words if step.done < step.total else "")
        else:
            is_new = step.phase != self._record.phase
            self._record = self._record.with_step(step, time.time())
            if is_new:
                self._due.set()
        if self._on_event is not None:
            self._on_event(step)

    def use_workers(self, count: int, where: str) -> None:
        """Take the number of the workers, and their machines in words."""
        self._record = replace(self._record, workers=count, workers_on=where)

    def __enter__(self) -> Self:
        self._write("running")
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._has_ended = True
        self._due.set()
        self._thread.join()
        if error is None:
            self._write("finished")
        else:
            self._write("failed" if isinstance(error, Exception) else "stopped")

    def _beat(self) -> None:
        while True:
            self._due.wait(self._seconds)
            self._due.clear()
            if self._has_ended:
                return
            self._write("running")

    def _write(self, state: RunState) -> None:
        record = replace(
            self._record, state=state, seen_at=time.time(), running=self._monitor.running
        )
        content: dict[str, Any] = record.to_json()
        with suppress(StudyError):
            self._study.files.save_json(f"{layout.RUN}.json", content)


def check_no_other(study: Study) -> None:
    """Raise StudyError where a search of this study runs on another machine.

    A lock may not be seen on other machines that share a folder, but `run.json` is.
    """
    record = None
    with suppress(StudyError):  # a damaged record says nothing
        record = study.load_json(layout.RUN, RunRecord.from_json)
    if record is None or record.state != "running" or record.host == RunRecord().host:
        return
    seconds = time.time() - record.seen_at
    if seconds < SILENT_SECONDS:
        raise StudyError(
            f"study {study.folder} is in use by process {record.process} on "
            f"{record.host}, which wrote to it {max(0.0, seconds):.0f} s ago, and its file "
            "system shows no lock of that machine; stop that search, or, if it was killed, "
            "wait two minutes, and give the same command again"
        )
