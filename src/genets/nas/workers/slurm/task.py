"""One task of a job array on SLURM. This code runs on the nodes."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Literal, cast

from genets.core.errors import GenetsError, first_line
from genets.nas.workers.environment import describe_differences, describe_environment
from genets.nas.workers.files import ROOT
from genets.nas.workers.job import Runner
from genets.nas.workers.slurm.exchange import Exchange, TaskStatus

SIGNAL_SECONDS = 60  # from the signal of SLURM to the time limit; a step of a training takes less
EARLY_SECONDS = 65  # SLURM sends its signal up to a minute earlier than asked
LONG_SHARE = 0.5  # of the time limit, for a group


@dataclass
class SlurmTask:
    """Runs groups until none is left. submitit pickles a task, so its fields are plain values.

    Attributes:
        folder: The folder of the exchange.
        environment: The environment of the driver; see `describe_environment`.
        device: The device that trains.
        precision: The precision of the trainings.
        processes: The number of worker processes, each with a GPU of its own.
        limit_seconds: The time limit of a task.
        work: The pickled job, and the items of each group by its name. It is read after the
            environments were compared, because another version of genets may not know the job.
    """

    folder: str
    environment: dict[str, str]
    device: str
    precision: str
    processes: int
    limit_seconds: float
    work: bytes

    # Of the running process; no fields, so that they do not travel.
    _start = 0.0
    _name = ""
    _has_finished_group = cast(Any, None)  # a value that all its processes share

    def __call__(self) -> None:
        """Run groups. submitit calls it, again after SLURM put the task back into the queue."""
        from submitit import JobEnvironment

        self._start, self._name = time.monotonic(), JobEnvironment().job_id
        # Where SLURM signals all processes of a task, those that read images must ignore it.
        os.register_at_fork(after_in_child=_ignore_signal_of_slurm)
        with self._faults_said():
            self._exchange.release_all(self._name)  # SLURM may have stopped this task before
            self._run()
            self._say("ended")

    @contextmanager
    def _faults_said(self) -> Iterator[None]:
        """Let the driver know an error of the block, and end the process."""
        try:
            yield
        except GenetsError as error:
            self._say("faulty", str(error))
            sys.exit(1)
        except Exception as error:  # in our own code
            self._say("faulty", f"{type(error).__name__}: {first_line(error)}")
            raise

    @property
    def _exchange(self) -> Exchange:
        return Exchange(Path(self.folder))

    def _run(self) -> None:
        """Run groups in one process for each worker, or in this process."""
        context = multiprocessing.get_context("spawn")
        self._has_finished_group = context.RawValue("b", False)
        own = describe_environment(self.device, self.precision)
        if differences := describe_differences(self.environment, own):
            raise GenetsError(
                f"it has other versions or another precision than the search ({differences}); "
                "every machine needs the same"
            )
        if self.processes == 1:
            self._run_groups(0)
            return
        workers = [
            context.Process(target=self._run_apart, args=(n,)) for n in range(self.processes)
        ]
        try:
            for worker in workers:
                worker.start()
            running: dict[Any, Any] = {worker.sentinel: worker for worker in workers}
            was_killed = False
            while running:
                for sentinel in wait(list(running)):
                    status = running.pop(sentinel).exitcode
                    if status > 0:  # it has said its fault
                        sys.exit(1)
                    was_killed |= status < 0  # the other workers finish their groups
            if was_killed:
                sys.exit(1)
        finally:
            for worker in workers:
                if worker.is_alive():
                    worker.kill()

    def _run_apart(self, worker: int) -> None:
        """Be the process of a worker, by its number."""
        _ignore_signal_of_slurm()
        with self._faults_said():
            self._run_groups(worker)

    def _run_groups(self, worker: int) -> None:
        """Run groups until none is left, and store their results."""
        import torch

        torch.set_num_threads(1)  # as every worker that has others beside it
        job, groups = pickle.loads(self.work)
        # The study has the same path here, and the number of a GPU belongs to the other machine.
        runner: Runner[Any, Any] = job.elsewhere(ROOT).runner(worker)
        self._say("begun")
        while (name := self._exchange.take_group(list(groups), self._name)) is not None:
            results = runner.run(groups[name])
            self._exchange.put_results(name, dict(zip(groups[name], results, strict=True)))
            self._has_finished_group.value = True

    def _say(
        self, state: Literal["begun", "ended", "late", "fruitless", "faulty"], fault: str = ""
    ) -> None:
        self._exchange.save_status(self._name, TaskStatus(socket.gethostname(), state, fault))

    def checkpoint(self) -> Any:
        """Give the task that SLURM puts into the queue, when it takes the node back.

        A group that took most of the time of this task would hardly end next time, so then the task
        ends, and the driver counts the group as lost, unless it continues from a later epoch. A
        task that has finished no group would not do so next time either, so then the driver counts
        the task as lost.
        """
        from submitit.helpers import DelayedSubmission

        left = self.limit_seconds - (time.monotonic() - self._start)
        if left < SIGNAL_SECONDS + EARLY_SECONDS:
            if self._exchange.oldest_claim(self._name) > LONG_SHARE * self.limit_seconds:
                self._say("late")
                sys.exit(1)
            if self._has_finished_group is None or not self._has_finished_group.value:
                self._say("fruitless")
                sys.exit(1)
        self._exchange.release_all(self._name)
        return DelayedSubmission(replace(self))


def _ignore_signal_of_slurm() -> None:
    """Leave the signal before the time limit to the process of the task."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
