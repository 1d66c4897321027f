"""Workers: the processes that run trials and train candidates, and the devices that they use.

A job makes one runner in each worker process, and the runner runs groups of items. The driver
alone writes to the study. `run_inline` is the one kind of workers: processes of this machine.
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
from genets.core.gpu import check_free_memory
from genets.core.host import count_cpus
from genets.latency import Target
from genets.latency.target import physical_cores

Item = TypeVar("Item")
Result = TypeVar("Result")
Item_contra = TypeVar("Item_contra", contravariant=True)
Result_co = TypeVar("Result_co", covariant=True)


class Runner(Protocol[Item_contra, Result_co]):
    """Runs groups of items in one process; holds what they share, such as data and weights."""

    def run(self, group: Sequence[Item_contra], /) -> Sequence[Result_co]: ...


class Job(Protocol[Item_contra, Result_co]):
    """Everything that the items share; small enough to be sent to a worker."""

    def runner(self, worker: int = 0) -> Runner[Item_contra, Result_co]:
        """Make the runner of one process. worker: the number of the process, from 0."""


# The runner of this worker process, or the error that prevented it: multiprocessing would lose it.
_runner: Runner[Any, Any] | GenetsError | None = None


def run_inline(
    job: Job[Item, Result], groups: Sequence[tuple[Item, ...]], workers: int
) -> Iterator[Result]:
    """Run groups of items on this machine, and give each result when its group ends.

    One worker is this process. Several workers are processes of one thread each; on a CPU they
    train small networks faster than one process of several threads.

    Args:
        job: Makes the runner of each process.
        groups: The items; a group is run as a whole by one worker.
        workers: The number of processes.

    Raises:
        StudyError: A worker process died.
        GenetsError: The job cannot make a runner, because weights are missing for example.
    """
    if workers == 1:
        runner = job.runner()
        for group in groups:
            yield from runner.run(group)
        return
    _release_gpu_memory()
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
        lifeline.close()  # the workers end at once, and not after their groups
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _hidden_main() -> Iterator[None]:
    """Keep spawned processes from running the user's script again; they do not need it."""
    main = sys.modules["__main__"]
    names = [name for name in ("__file__", "__spec__") if name in vars(main)]
    hidden: dict[str, Any] = {name: vars(main).pop(name) for name in names}
    main.__spec__ = None
    try:
        yield
    finally:
        vars(main).update(hidden)


def _begin_worker(pickled_job: bytes, life: Connection, begun: Synchronized[int]) -> None:
    """Make the runner of a worker process.

    The job is passed pickled because unpickling imports torch, and Ctrl-C must be ignored before.
    begun: the number of workers that have begun.
    """
    global _runner  # noqa: PLW0603 - the only way from the start of a process to its tasks
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver handles it
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
    """End this process when the driver closes its end of the pipe, also because it was killed."""
    with suppress(EOFError, OSError):
        life.recv()
    os._exit(1)


def _run_group(group: tuple[Any, ...]) -> Sequence[Any]:
    assert _runner is not None
    if isinstance(_runner, GenetsError):
        raise _runner
    return _runner.run(group)


def training_device(name: str) -> str:
    """Resolve `auto`. Raises TargetError where this machine has no such device."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    Target(device=name).check()
    return name


def fitting_workers(device: str, per_gpu: int = 1) -> int:
    """Give the number of processes that train side by side: one for each core or each GPU.

    Small networks train faster in two processes of one thread than in one process of two threads.

    Args:
        device: From `training_device`; "cuda" means all GPUs, and "cuda:1" means this GPU alone.
        per_gpu: The number of processes for each GPU; see `gpus.processes_per_gpu`.
    """
    import torch

    if device == "cpu":
        return physical_cores()
    return per_gpu * (torch.cuda.device_count() if device == "cuda" else 1)


def fitting_readers(workers: int, device: str) -> int:
    """Give the number of processes that read images for each worker.

    None on a CPU, because all its cores train.
    """
    from genets.data import readers_for

    return 0 if device == "cpu" else readers_for(count_cpus() // workers)


def use_device(device: str) -> None:
    """Make this process use its GPU alone; otherwise it would also occupy the first GPU."""
    if device.startswith("cuda:"):
        import torch

        torch.cuda.set_device(device)


def check_memory(device: str) -> None:
    """Raise TargetError where a GPU has too little free memory for this process to begin."""
    if device != "cpu":
        import torch

        check_free_memory(torch, device)


def _release_gpu_memory() -> None:
    """Give memory that PyTorch keeps for later back to the GPU, so that the workers can use it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def assign_device(worker: int, device: str) -> str:
    """Give the device of a worker, by its number from 0: several workers take the GPUs in turn."""
    import torch

    if device != "cuda" or torch.cuda.device_count() < 2:
        return device
    return f"cuda:{worker % torch.cuda.device_count()}"
