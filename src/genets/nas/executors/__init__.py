"""Executors: where trials run. The driver alone writes to the study."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from genets.nas.executors.inline import run_inline
from genets.nas.executors.job import Item, Job, Result


class Executor(Protocol):
    """Runs groups of items in `workers` processes; gives each result as its group ends."""

    def __call__(
        self, job: Job[Item, Result], groups: Sequence[tuple[Item, ...]], workers: int, /
    ) -> Iterator[Result]: ...


EXECUTORS: dict[str, Executor] = {"inline": run_inline}
