"""Job arrays: they are submitted and cancelled through submitit, and watched with squeue."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from genets.core.errors import WorkersError, counted, first_line
from genets.nas.workers.local_process import held_back
from genets.nas.workers.slurm.task import SlurmTask

MAX_TIMEOUTS = 10**6  # a task that makes progress may run out of time as often as it has to
SQUEUE_SECONDS = 60.0  # for the answer of squeue

WAITING = {"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT"}
RUNNING = {
    "RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT",
    "RESIZING",
}  # fmt: skip

ENDS = {
    "OUT_OF_MEMORY": "memory ran out",
    "TIMEOUT": "it reached its time limit",
    "NODE_FAIL": "its node was lost",
    "PREEMPTED": "SLURM needed its node for other jobs",
    "CANCELLED": "it was cancelled",
    "FAILED": "it was killed, perhaps because memory ran out",
}


@dataclass(frozen=True)
class TaskState:
    """The state of a task, from SLURM.

    Attributes:
        state: The long name of its state, such as PENDING.
        reason: Why it waits; otherwise empty or the name of its node.
    """

    state: str
    reason: str = ""

    @property
    def is_waiting(self) -> bool:
        return self.state in WAITING

    @property
    def is_live(self) -> bool:
        return self.is_waiting or self.state in RUNNING

    def describe_end(self) -> str:
        """Give the reason why the task ended before it was done."""
        if not self.state:
            return "SLURM no longer knows why"
        return ENDS.get(self.state, f"state {self.state}")


class Arrays(Protocol):
    """The job arrays of one run of a search. Each raises WorkersError where SLURM refuses."""

    def submit(self, task: SlurmTask, count: int) -> list[str]:
        """Submit a task several times as one array, and give the numbers of the tasks."""

    def states(self) -> dict[str, TaskState]:
        """Give the state of each task of this name that SLURM still knows."""

    def cancel(self) -> None:
        """Cancel all tasks of this name."""


class SlurmArrays:
    """The job arrays of one run on SLURM; see `Arrays`.

    SLURM finds them by their name, so that a driver that continues a search finds them, too.

    Args:
        name: A name that only runs of equal jobs have.
        folder: The folder for the files of submitit.
        parameters: The parameters of submitit for a task.
    """

    def __init__(self, name: str, folder: Path, parameters: Mapping[str, Any]) -> None:
        self._name, self._folder = name, folder
        self._parameters = {**parameters, "job_name": name}

    def submit(self, task: SlurmTask, count: int) -> list[str]:
        """See `Arrays`. Each array has a new folder, in which no file of others can be."""
        # submitit would let 256 of them run at the same time.
        parameters = {**self._parameters, "array_parallelism": count}
        with submission(self._folder / uuid4().hex, parameters) as executor:
            jobs = executor.submit_array([task] * count)
        return [job.job_id for job in jobs]

    def states(self) -> dict[str, TaskState]:
        """See `Arrays`."""
        lines = run_command(
            "squeue", f"--name={self._name}", "--states=all", "--array", "--noheader",
            "--format=%i|%T|%R",
        )  # fmt: skip
        states = {}
        for line in lines:
            number, state, reason = line.split("|", 2)
            states[number] = TaskState(state, reason.strip("()"))
        return states

    def cancel(self) -> None:
        """See `Arrays`."""
        from submitit import SlurmJob

        live = [number for number, state in self.states().items() if state.is_live]
        for array in sorted({number.partition("_")[0] for number in live}):
            SlurmJob(self._folder, array).cancel(check=False)


@contextmanager
def submission(folder: Path, parameters: Mapping[str, Any]) -> Iterator[Any]:
    """Give submitit's executor for SLURM. Raises WorkersError where SLURM refuses a task."""
    from submitit import SlurmExecutor
    from submitit.core.utils import FailedJobError

    # submitit also prints the error of sbatch.
    quiet = contextlib.redirect_stderr(io.StringIO())
    with outside_job(), quiet, held_back(signal.SIGINT):  # Ctrl-C would end sbatch
        try:
            executor = SlurmExecutor(folder, max_num_timeout=MAX_TIMEOUTS)
            executor.update_parameters(**parameters)
            yield executor
        except (FailedJobError, OSError) as error:
            raise WorkersError(
                f"SLURM refuses a task ({describe_parameters(parameters)}): "
                f"{describe_refusal(str(error))}"
            ) from error


@contextmanager
def outside_job() -> Iterator[None]:
    """Submit as from outside of SLURM where the driver itself runs in a task.

    submitit hides all variables of SLURM. Those for sbatch, such as SBATCH_ACCOUNT, are the user's.
    """
    from submitit.helpers import clean_env

    own = ("SBATCH_", "SLURM_CONF", "SLURM_CLUSTERS")
    kept = {name: value for name, value in os.environ.items() if name.startswith(own)}
    with clean_env():
        os.environ.update(kept)
        yield


def describe_parameters(parameters: Mapping[str, Any]) -> str:
    """Give the resources of a task, such as `partition gpu, 60 minutes, 4 CPUs, 1 GPU`."""
    parts = [f"partition {parameters['partition']}"] if "partition" in parameters else []
    parts.append(counted(parameters["time"], "minute"))
    parts.append(counted(parameters["cpus_per_task"], "CPU"))
    if "gpus_per_node" in parameters:
        parts.append(counted(parameters["gpus_per_node"], "GPU"))
    if "mem" in parameters:
        parts.append(parameters["mem"])
    return ", ".join(parts)


def describe_refusal(output: str) -> str:
    """Give the sentence of an error output of SLURM, which is its last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    # "sbatch: error: Batch job submission failed: Invalid qos specification"
    heads = r"^(\w+: )?(error: |fatal: )?((Batch job submission failed|allocation failure): )?"
    return re.sub(heads, "", lines[-1]).rstrip(".") if lines else "it gives no reason"


def run_command(*words: str) -> list[str]:
    """Run a command of SLURM, and give the lines of its output. Raises WorkersError."""
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=SQUEUE_SECONDS, check=True,
            start_new_session=True,  # so that Ctrl-C does not reach it
        )  # fmt: skip
    except subprocess.CalledProcessError as error:
        raise WorkersError(f"SLURM does not answer: {describe_refusal(error.stderr)}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise WorkersError(f"SLURM does not answer: {first_line(error)}") from error
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]
