"""The worker processes of this machine, as the driver sees them, and the code that they run.

On Linux, they are forked from a server process that has imported the code of the jobs. The import
takes seconds, and so only the first processes wait for it. Elsewhere each process imports the code
itself, because some libraries of other systems do not survive a fork. No worker is a fork of the
driver, because it would inherit the thread pools of PyTorch.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from typing import Any, Protocol, Self

from genets.core.errors import GenetsError, WorkersError, first_line
from genets.core.log import get_logger
from genets.nas.workers.job import Runner

_log = get_logger(__name__)

END_SECONDS = 10.0  # for a process that has been asked to end, before it is killed
IS_FORKED = sys.platform == "linux"
SERVER_SECONDS = 1.0  # for a server that has been killed to end
LOST_BY_SERVER = 255  # the status that `multiprocessing` gives where the server is lost
CODE_OF_JOBS = "genets.nas.candidates.training"  # imports the code of the other jobs, too


class _Job(Protocol):
    """The part of a job that a process of this machine needs."""

    def runner(self, worker: int = 0) -> Runner[Any, Any]: ...


class LocalProcess:
    """A worker process that runs one group at a time.

    Attributes:
        number: The number of the worker, from 0; the process in place of a lost one has its number.
        pipe: Has the answers.
        is_ready: Whether its runner is made.
    """

    def __init__(self, number: int, process: BaseProcess, pipe: Connection) -> None:
        self.number, self.pipe, self.is_ready = number, pipe, False
        self._process = process

    @property
    def sentinel(self) -> int:
        """Ready where the process has ended."""
        return self._process.sentinel

    @property
    def has_ended(self) -> bool:
        """Whether it has died, or has lost its server; its last answer may wait."""
        return bool(wait([self.sentinel], 0))

    @property
    def has_answered(self) -> bool:
        """Whether its answer waits, or whether it has died."""
        return bool(wait([self.pipe, self.sentinel], 0))

    def send(self, group: Sequence[Any]) -> None:
        """Give it a group; one that has died is noticed when it is asked for its answer."""
        with suppress(OSError):
            self.pipe.send(group)

    def receive(self) -> Sequence[Any]:
        """Give the results of its group; none for the first answer, which says that it is ready.

        Raises:
            EOFError: The process has died.
            Exception: The error of its runner.
        """
        try:
            if not self.pipe.poll():  # it has ended without an answer
                raise EOFError
            answer = self.pipe.recv()
        except (OSError, pickle.UnpicklingError) as error:  # it died while it answered
            raise EOFError from error
        if isinstance(answer, BaseException):
            raise answer
        self.is_ready = True
        results: Sequence[Any] = answer
        return results

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> str:
        """Let it end, and give the reason of its end where it has died."""
        self.pipe.close()
        self._process.join(END_SECONDS)
        status = self._process.exitcode
        if status is None:
            self._process.kill()
            self._process.join()
            return "it did not end"
        if IS_FORKED and status == LOST_BY_SERVER:
            self._kill_orphan()
            return "the server of the processes was killed, perhaps because memory ran out"
        if status == -signal.SIGKILL:
            return "it was killed, perhaps because memory ran out"
        return f"it ended with status {status}"

    def _kill_orphan(self) -> None:
        """Kill the process whose server is lost; `multiprocessing` takes it for dead."""
        if self._process.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)


class LocalProcesses:
    """The processes of a job. As a context, it ends them; at once where its block fails."""

    def __init__(self, job: _Job) -> None:
        self._context = _start_context()
        self._pickled_job = pickle.dumps(job)
        self._life, self._lifeline = self._context.Pipe(duplex=False)
        self.alive: list[LocalProcess] = []

    def start(self, number: int) -> None:
        """Start the process of a worker."""
        pipe, far_end = self._context.Pipe()
        arguments = (self._pickled_job, number, dict(os.environ), far_end, self._life)
        try:
            process = self._start(arguments)
        except (EOFError, OSError):
            time.sleep(SERVER_SECONDS)  # the server has been killed, and has not ended yet
            try:
                process = self._start(arguments)
            except (EOFError, OSError) as error:
                raise WorkersError(
                    f"a worker process could not be started ({first_line(error)}); every finished "
                    "trial is kept, so give the same command again, with fewer --workers if "
                    "memory ran out"
                ) from error
        far_end.close()  # so that the pipe ends with the process
        self.alive.append(LocalProcess(number, process, pipe))

    def _start(self, arguments: tuple[Any, ...]) -> BaseProcess:
        process = self._context.Process(target=_work, args=arguments)
        if isinstance(self._context, ForkServerContext):
            _ensure_server()  # the last one may have been killed
            with _hidden_main():  # the process holds the signal back as its server does
                process.start()
        else:
            with _hidden_main(), held_back(signal.SIGINT):
                process.start()
        return process

    def remove(self, process: LocalProcess) -> str:
        """Forget a process that died or was killed, and give the reason of its death."""
        self.alive.remove(process)
        return process.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if error is not None:
            self._lifeline.close()  # the processes end at once, and not after their groups
        for process in self.alive:
            process.pipe.close()  # of all first, so that they end together
        for process in self.alive:
            process.end()
        self._lifeline.close()
        self._life.close()


@contextmanager
def _hidden_main() -> Iterator[None]:
    """Keep started processes from running the user's script again; they do not need it."""
    main = sys.modules["__main__"]
    names = [name for name in ("__file__", "__spec__") if name in vars(main)]
    hidden: dict[str, Any] = {name: vars(main).pop(name) for name in names}
    main.__spec__ = None
    try:
        yield
    finally:
        vars(main).update(hidden)


@contextmanager
def held_back(number: signal.Signals) -> Iterator[None]:
    """Hold a signal back; a process that is started in the block begins without it, too."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_context() -> ForkServerContext | SpawnContext:
    """Choose how processes are started, and start the server that forks them."""
    resource_tracker.ensure_running()  # its start would end `held_back`
    if IS_FORKED:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([CODE_OF_JOBS])
        try:
            _ensure_server()
            return context
        except OSError as error:  # its socket needs a short path for temporary files
            _log.warning("worker processes start slowly, because they have no server: %s", error)
    return multiprocessing.get_context("spawn")


def _ensure_server() -> None:
    """Start the server that forks processes, unless it runs."""
    with _hidden_main(), held_back(signal.SIGINT), _same_imports():
        forkserver.ensure_running()


@contextmanager
def _same_imports() -> Iterator[None]:
    """Let a process that starts in the block import the same files as this process.

    It would find the files of the current folder first.
    """
    entries = [entry for entry in sys.path if isinstance(entry, str) and os.path.isabs(entry)]
    path = os.pathsep.join(entry for entry in entries if os.pathsep not in entry)
    before = {name: os.environ.get(name) for name in ("PYTHONPATH", "PYTHONSAFEPATH")}
    os.environ |= {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _work(
    pickled_job: bytes,
    worker: int,
    environment: dict[str, str],
    pipe: Connection,
    life: Connection,
) -> None:
    """Make the runner of a worker process, and run groups until the driver closes the pipe.

    The job is passed pickled because unpickling imports torch, and Ctrl-C must be ignored before.
    The environment is passed because that of the server is as old as the server.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver handles it
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    os.environ.clear()
    os.environ.update(environment)
    threading.Thread(target=_end_with_driver, args=(life,), daemon=True).start()
    with suppress(EOFError, OSError):  # the driver has ended, or needs no further group
        for answer in _answers(pickled_job, worker, pipe):
            pipe.send(answer)


def _answers(pickled_job: bytes, worker: int, pipe: Connection) -> Iterator[Any]:
    """Give an empty answer when the runner is made, then the results of each group, or an error."""
    try:
        import torch

        torch.set_num_threads(1)
        runner = pickle.loads(pickled_job).runner(worker)
    except Exception as error:  # noqa: BLE001 - every error of a runner is one of the driver
        yield _with_place(error)
        return
    yield ()
    while True:
        group = pipe.recv()
        try:
            results = runner.run(group)
        except Exception as error:  # noqa: BLE001 - see above
            yield _with_place(error)
            return
        yield results


def _with_place(error: Exception) -> Exception:
    """Give an error that can be sent; one that is a fault of ours has its place as a note."""
    if isinstance(error, GenetsError):
        return error
    place = traceback.format_exc()
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - an error of a foreign library, which cannot be sent
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(f"in a worker process:\n{place}")
    return error


def _end_with_driver(life: Connection) -> None:
    """End this process when the driver closes its end of the pipe, also because it was killed."""
    with suppress(EOFError, OSError):
        life.recv()
    os._exit(1)
