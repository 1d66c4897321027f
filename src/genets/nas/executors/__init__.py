"""Executors: where trials run. The driver alone writes to the study."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from genets.nas.executors.inline import run_inline
from genets.nas.trial import Trial, TrialResult

if TYPE_CHECKING:
    from genets.nas.fine_tuning import TrialJob

Executor = Callable[["TrialJob", Sequence[tuple[Trial, ...]], int], Iterator[TrialResult]]

EXECUTORS: dict[str, Executor] = {"inline": run_inline}
