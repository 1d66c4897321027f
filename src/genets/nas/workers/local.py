"""Workers of this machine: processes that end with the driver."""

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
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized
from typing import Any

from genets.core.errors import GenetsError, StudyError
from genets.core.host import count_cpus
from genets.nas.workers.devices import count_gpus, fitting_readers, fitting_workers
from genets.nas.workers.job import Item, Job, ProcessesPerGpu, Result, Runner

# The runner of this worker process, or the error that prevented it: multiprocessing would lose it.
_runner: Runner[Any, Any] | GenetsError | None = None


class LocalMachine:
    """This machine; see `Machines`."""

    def check(self, device: str) -> None:
        """Do nothing: the search checks the device of this machine anyway."""

    def workers(
        self, count: int | None, device: str, processes_per_gpu: ProcessesPerGpu
    ) -> LocalWorkers:
        """Choose one process for each core, or as many as fit for each GPU."""
        gpus = count_gpus(device)
        if count is None:
            per_gpu = 1 if device == "cpu" else processes_per_gpu(count_cpus(), gpus)
            count = fitting_workers(device, per_gpu)
        return LocalWorkers(count, gpus, fitting_readers(count, device))


@dataclass(frozen=True)
class LocalWorkers:
    """Processes of this machine; see `Workers`."""

    count: int
    gpus: int = 1
    readers: int = 0

    def run(self, job: Job[Item, Result], groups: Sequence[tuple[Item, ...]]) -> Iterator[Result]:
        """See `run_inline`."""
        return run_inline(job, groups, self.count)


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


def _release_gpu_memory() -> None:
    """Give memory that PyTorch keeps for later back to the GPU, so that the workers can use it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
