"""Executors: where trials run. The driver alone writes to the study."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from genets.nas.trials.job import Item, Job, Result
from genets.nas.trials.workers import run_inline


class Executor(Protocol):
    """Runs groups of items in `workers` processes; gives each result as its group ends."""

    def __call__(
        self, job: Job[Item, Result], groups: Sequence[tuple[Item, ...]], workers: int, /
    ) -> Iterator[Result]: ...


EXECUTORS: dict[str, Executor] = {"inline": run_inline}
