"""The inline executor: on this machine, in this process or in several."""

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
from typing import Any

from genets.core.errors import GenetsError, StudyError
from genets.nas.trials.job import Item, Job, Result, Runner

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
    global _runner
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
