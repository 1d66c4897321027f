"""What executors run: a job makes a runner in each process, which runs groups of items.

The inline executor: on this machine, in this process or in several.

Executors: where trials run. The driver alone writes to the study.

Where a search trains: its device, and which GPU is whose where several processes train.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized
from typing import Any, Protocol, TypeVar

from genets.core.errors import GenetsError, StudyError
from genets.latency import Target
from genets.latency.target import physical_cores

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


# One for each worker process, or why there is none: an error of a worker's beginning would be lost.
_runner: Runner[Any, Any] | GenetsError | None = None


def run_inline(
    job: Job[Item, Result], groups: Sequence[tuple[Item, ...]], workers: int
) -> Iterator[Result]:
    """Run groups of items and give each result as its group ends.

    Several workers are processes of one thread each, which on a CPU train small networks
    faster than one process of several threads. Raises StudyError if one of them dies, and the
    GenetsError that the job's runner cannot be made for (weights that are missing).
    """
    if workers == 1:
        runner = job.runner()
        for group in groups:
            yield from runner.run(group)
        return
    # Spawned: a forked child would inherit torch's thread pool and the study's lock.
    context = multiprocessing.get_context("spawn")
    life, lifeline = context.Pipe(duplex=False)
    begin = (pickle.dumps(job), life, context.Value("i", 0))
    pool = ProcessPoolExecutor(min(workers, len(groups)), context, _begin_worker, begin)
    try:
        with _hidden_main():
            futures = [pool.submit(_run_group, group) for group in groups]
        for future in as_completed(futures):
            yield from future.result()
    except BrokenProcessPool as error:
        raise StudyError(
            "a worker process died (out of memory, or killed); every finished trial is kept, "
            "so give the same command again, with fewer --workers if memory ran out"
        ) from error
    except BaseException:
        lifeline.close()  # the workers end at once, not with their groups
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _hidden_main() -> Iterator[None]:
    """Processes spawned here do not run the user's script again; they need nothing of it."""
    main = sys.modules["__main__"]
    names = [name for name in ("__file__", "__spec__") if name in vars(main)]
    hidden: dict[str, Any] = {name: vars(main).pop(name) for name in names}
    main.__spec__ = None
    try:
        yield
    finally:
        vars(main).update(hidden)


def _begin_worker(pickled_job: bytes, life: Connection, begun: Synchronized[int]) -> None:
    """The job comes pickled: to read it imports torch, and until then Ctrl-C is ignored.

    begun: how many workers have been.
    """
    global _runner  # noqa: PLW0603 - the only way from the start of a process to its tasks
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is for the driver to handle
    with begun.get_lock():
        worker = begun.value
        begun.value += 1
    threading.Thread(target=_end_with_driver, args=(life,), daemon=True).start()
    import torch

    torch.set_num_threads(1)
    try:
        _runner = pickle.loads(pickled_job).runner(worker)
    except GenetsError as error:
        _runner = error


def _end_with_driver(life: Connection) -> None:
    """Wait for the driver to let go of the other end, as it does when it is killed, too."""
    with suppress(EOFError, OSError):
        life.recv()
    os._exit(1)


def _run_group(group: tuple[Any, ...]) -> Sequence[Any]:
    assert _runner is not None
    if isinstance(_runner, GenetsError):
        raise _runner
    return _runner.run(group)


class Executor(Protocol):
    """Runs groups of items in `workers` processes; gives each result as its group ends."""

    def __call__(
        self, job: Job[Item, Result], groups: Sequence[tuple[Item, ...]], workers: int, /
    ) -> Iterator[Result]: ...


EXECUTORS: dict[str, Executor] = {"inline": run_inline}


def training_device(name: str) -> str:
    """`auto` resolved; TargetError if this machine has no such device."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    Target(device=name).check()
    return name


def fitting_workers(device: str) -> int:
    """How many processes train side by side: one for each core, or for each GPU if any may be used.

    Small networks train faster in two processes of one thread than in one of two.
    device: of `training_device`. "cuda" means any, and "cuda:1" that one alone.
    """
    import torch

    if device == "cpu":
        return physical_cores()
    return torch.cuda.device_count() if device == "cuda" else 1


def fitting_readers(workers: int, device: str) -> int:
    """How many processes read images for each worker; on a CPU none, as all its cores train."""
    from genets.data import readers_for

    return 0 if device == "cpu" else readers_for((os.cpu_count() or 1) // workers)


def use_device(device: str) -> None:
    """Make a GPU with a number this process's own, which otherwise also holds the first one."""
    if device.startswith("cuda:"):
        import torch

        torch.cuda.set_device(device)


def device_of(worker: int, device: str) -> str:
    """Where a worker trains, by its number from 0: several take the GPUs in turn."""
    import torch

    if device != "cuda" or torch.cuda.device_count() < 2:
        return device
    return f"cuda:{worker % torch.cuda.device_count()}"
