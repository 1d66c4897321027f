"""What executors run: a job makes a runner in each process, which runs groups of items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Item_contra = TypeVar("Item_contra", contravariant=True)
Result_co = TypeVar("Result_co", covariant=True)


class Runner(Protocol[Item_contra, Result_co]):
    """Holds what the items of a job share, such as data and weights."""

    def run(self, group: Sequence[Item_contra], /) -> Sequence[Result_co]: ...


class Job(Protocol[Item_contra, Result_co]):
    """All that an item depends on besides itself; small enough to be sent to a worker."""

    def runner(self, worker: int = 0) -> Runner[Item_contra, Result_co]:
        """What runs in one process; worker: its number, from 0."""
