"""The inline executor: trials on this machine, in this process or in several."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

from genets.errors import StudyError
from genets.nas.fine_tuning import TrialJob, TrialRunner
from genets.nas.trial import Trial, TrialResult

_runner: TrialRunner | None = None  # one for each worker process


def run_inline(
    job: TrialJob, groups: Sequence[tuple[Trial, ...]], workers: int
) -> Iterator[TrialResult]:
    """Run groups of trials and give each result as its group ends.

    Several workers are processes of one thread each, which on a CPU train small networks
    faster than one process of several threads. Raises StudyError if one of them dies.
    """
    if workers == 1 or len(groups) < 2:
        runner = TrialRunner(job)
        for group in groups:
            yield from runner.run(group)
        return
    # Spawned: a forked child would inherit torch's thread pool and the study's lock.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(groups)), context, _begin_worker, (job,))
    try:
        for future in as_completed([pool.submit(_run_group, group) for group in groups]):
            yield from future.result()
    except BrokenProcessPool as error:
        raise StudyError(
            "a worker process died (out of memory, or killed); every finished trial is kept, "
            "so give the same command again, with fewer --workers if memory ran out"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin_worker(job: TrialJob) -> None:
    global _runner
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the driver to handle
    threading.Thread(target=_end_with_driver, daemon=True).start()
    import torch

    torch.set_num_threads(1)
    _runner = TrialRunner(job)


def _end_with_driver() -> None:
    """A driver that is killed cannot tell its workers; they would wait for it forever."""
    driver = multiprocessing.parent_process()
    assert driver is not None
    driver.join()
    os._exit(1)


def _run_group(group: tuple[Trial, ...]) -> list[TrialResult]:
    assert _runner is not None
    return _runner.run(group)
