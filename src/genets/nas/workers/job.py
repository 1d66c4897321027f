"""The interface of workers: a job makes a runner in each worker, which runs groups of items.

A job is the trials of a round, or the candidates of a round; an item is one trial or one candidate.
The driver is the process of the search, and it alone writes to the study. A kind of workers is a
class with the methods of `Workers`, and a class with the methods of `Machines` that makes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar, runtime_checkable

from genets.nas.workers.monitor import Monitor


class AnyResult(Protocol):
    """The result of an item, as far as workers read it.

    Attributes:
        reason: Why the item failed; empty where it did not.
        lacks_memory: Whether it failed because memory ran out.
        seconds: How long the item took, with the time before an interruption.
    """

    @property
    def reason(self) -> str: ...

    @property
    def lacks_memory(self) -> bool: ...

    @property
    def seconds(self) -> float: ...


Item = TypeVar("Item")
Result = TypeVar("Result", bound=AnyResult)
Item_contra = TypeVar("Item_contra", contravariant=True)
Result_co = TypeVar("Result_co", bound=AnyResult, covariant=True)

# Gives the number of processes that train on one GPU, from the CPU cores and GPUs of a machine.
ProcessesPerGpu = Callable[[int, int], int]


class Runner(Protocol[Item_contra, Result_co]):
    """Runs groups of items in one process; holds their common inputs, such as data and weights."""

    def run(self, group: Sequence[Item_contra], /) -> Sequence[Result_co]: ...


class Job(Protocol[Item_contra, Result_co]):
    """Everything that the items share; small enough to be sent to a worker.

    Workers of this machine need `runner` alone. Workers that do not see the study folder get its
    files as bytes, and their files come back as bytes. Workers whose results are files need `key`
    and `result_type`.
    """

    @property
    def device(self) -> str:
        """The device that trains: cpu, cuda or cuda:NUMBER."""

    @property
    def precision(self) -> str:
        """The precision of the trainings; see `Recipe`."""

    @property
    def data(self) -> str:
        """The data set; see `load_data`."""

    @property
    def key(self) -> str:
        """A text that is equal for jobs whose items give equal results, also in later processes."""

    @property
    def result_type(self) -> type[Result_co]:
        """The class of the results, a dataclass of plain values; see `core.validation`."""

    def runner(self, worker: int = 0) -> Runner[Item_contra, Result_co]:
        """Make the runner of one process. worker: the number of the process, from 0."""

    def inputs(self, items: Sequence[Item_contra], /) -> dict[Path, bytes]:
        """Read the files of this machine that the runners of these items need, by real paths."""

    def elsewhere(self, scratch: Path) -> Self:
        """Give the job for a worker that has the files in a folder; see `files.scratch_path`.

        Elsewhere than on the driver, the job must have real paths: those of `elsewhere(ROOT)`.
        """

    def with_data(self, data: str) -> Self:
        """Give the job with the same images at another place."""

    def store(self, path: Path, content: bytes) -> None:
        """Write a file that a runner wrote elsewhere. Raises GenetsError."""

    def progress(self, item: Item_contra, /) -> int:
        """The number of complete epochs that a lost item keeps; 0 where it begins again."""

    def failed(self, item: Item_contra, reason: str) -> Result_co:
        """Give the result of an item that cannot be run."""


class Workers(Protocol):
    """Worker processes, which begin when a job is run and end with it.

    Attributes:
        count: The number of processes.
        gpus: The number of GPUs that they share; 1 where they train on CPUs.
        readers: The number of processes that read images for each worker.
    """

    @property
    def count(self) -> int: ...

    @property
    def gpus(self) -> int: ...

    @property
    def readers(self) -> int: ...

    def run(
        self,
        job: Job[Item, Result],
        groups: Sequence[tuple[Item, ...]],
        monitor: Monitor | None = None,
    ) -> Iterator[Result]:
        """Run groups of items, and give each result when its group ends.

        Args:
            job: Makes the runner of each process.
            groups: The items; a group is run as a whole by one worker.
            monitor: Learns of running items and of faults, and says when groups must not begin.

        Raises:
            GenetsError: The job cannot make a runner, or too many workers died. Results that were
                given before are complete.
            KeyboardInterrupt: The monitor asked for a stop, and the running groups have ended.
        """


@runtime_checkable
class Machines(Protocol):
    """The machines that run workers, as a user names them; as a text, they are in words."""

    def check(self, device: str) -> None:
        """Raise GenetsError where workers cannot run there, before the study is opened.

        device: The device that trains.
        """

    def workers(
        self, count: int | None, device: str, processes_per_gpu: ProcessesPerGpu, folder: Path
    ) -> Workers:
        """Choose the workers of a search.

        Args:
            count: The number of processes; None for as many as fit.
            device: The device that trains.
            processes_per_gpu: Called where it matters.
            folder: The study folder, for files of the workers.

        Raises:
            GenetsError: The machines have no room for so many.
        """


AnyJob = Job[Any, Any]
